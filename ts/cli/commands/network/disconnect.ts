/** `caisson network disconnect`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';

const SHAPE: CommandShape = {
  name: 'network disconnect',
  usage: '[OPTIONS] NETWORK CONTAINER',
  takes: [2, 2],
  summary: 'Let a container leave a network',
  flags: [['-f, --force', 'Also when the container has gone']],
  examples: ['caisson network disconnect backend postgres'],
};

export default command<{ force?: boolean }>(SHAPE, async ({ flags, args }) => {
  await engine().networks.disconnect(args[0] ?? '', args[1] ?? '', { force: flags.force === true });
  return 0;
});
