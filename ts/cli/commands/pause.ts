/** `caisson pause`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';

const SHAPE: CommandShape = {
  name: 'pause',
  usage: 'CONTAINER [CONTAINER...]',
  summary: 'Freeze all processes of containers',
  flags: [],
  examples: ['caisson pause web'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { args } = parseArguments<object>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  const { containers } = engine();
  return each(args, async (name) => {
    await containers.pause(name);
    return name;
  });
}
