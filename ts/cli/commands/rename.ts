/** `caisson rename`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';

const SHAPE: CommandShape = {
  name: 'rename',
  usage: 'CONTAINER NEW_NAME',
  summary: 'Rename a container',
  flags: [],
  examples: ['caisson rename web web-old'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { args } = parseArguments<object>(SHAPE, argv);
  requireArguments(SHAPE, args, 2, 2);
  const [container = '', name = ''] = args;
  await engine().containers.rename(container, name);
  return 0;
}
