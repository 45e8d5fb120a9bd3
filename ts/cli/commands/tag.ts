/** `caisson tag`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';

const SHAPE: CommandShape = {
  name: 'tag',
  usage: 'SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]',
  summary: 'Give an image a further name',
  flags: [],
  examples: ['caisson tag alpine localhost:5000/alpine:mine'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { args } = parseArguments<object>(SHAPE, argv);
  requireArguments(SHAPE, args, 2, 2);
  await engine().images.tag(args[0] ?? '', args[1] ?? '');
  return 0;
}
