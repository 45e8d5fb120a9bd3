/** `caisson tag`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';

const SHAPE: CommandShape = {
  name: 'tag',
  usage: 'SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]',
  takes: [2, 2],
  summary: 'Give an image a further name',
  flags: [],
  examples: ['caisson tag alpine localhost:5000/alpine:mine'],
};

export default command(SHAPE, async ({ args }) => {
  await engine().images.tag(args[0] ?? '', args[1] ?? '');
  return 0;
});
