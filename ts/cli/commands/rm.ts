/** `caisson rm`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';

const SHAPE: CommandShape = {
  name: 'rm',
  usage: '[OPTIONS] CONTAINER [CONTAINER...]',
  summary: 'Remove containers',
  flags: [
    ['-f, --force', 'Kill it first if it runs'],
    ['-v, --volumes', 'Remove its anonymous volumes'],
  ],
  examples: ['caisson rm -f web'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ force?: boolean; volumes?: boolean }>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  const { containers } = engine();
  return each(args, async (name) => {
    await containers.remove(name, flags);
    return name;
  });
}
