/** `caisson volume rm`. */
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { each } from '../../each.ts';

const SHAPE: CommandShape = {
  name: 'volume rm',
  usage: '[OPTIONS] VOLUME [VOLUME...]',
  takes: [1],
  summary: 'Remove volumes',
  flags: [['-f, --force', 'One that is not there is no failure']],
  examples: ['caisson volume rm data'],
};

export default command<{ force?: boolean }>(SHAPE, ({ flags, args }) => {
  const { volumes } = engine();
  return each(args, async (name) => {
    await volumes.remove(name, flags);
    return name;
  });
});
