/** `caisson wait`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';

const SHAPE: CommandShape = {
  name: 'wait',
  usage: 'CONTAINER [CONTAINER...]',
  takes: [1],
  summary: 'Wait until containers stop, then print their exit codes',
  flags: [],
  examples: ['caisson wait job'],
};

export default command(SHAPE, async ({ args }) => {
  const { containers } = engine();
  return each(args, async (name) => String(await containers.wait(name)));
});
