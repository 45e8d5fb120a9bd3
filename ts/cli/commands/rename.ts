/** `caisson rename`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';

const SHAPE: CommandShape = {
  name: 'rename',
  usage: 'CONTAINER NEW_NAME',
  takes: [2, 2],
  summary: 'Rename a container',
  flags: [],
  examples: ['caisson rename web web-old'],
};

export default command(SHAPE, async ({ args }) => {
  const [container = '', name = ''] = args;
  await engine().containers.rename(container, name);
  return 0;
});
