/** `caisson wait`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';

const SHAPE: CommandShape = {
  name: 'wait',
  usage: 'CONTAINER [CONTAINER...]',
  summary: 'Wait until containers stop, then print their exit codes',
  flags: [],
  examples: ['caisson wait job'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { args } = parseArguments<object>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  const { containers } = engine();
  return each(args, async (name) => String(await containers.wait(name)));
}
