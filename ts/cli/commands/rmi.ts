/** `caisson rmi`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';

const SHAPE: CommandShape = {
  name: 'rmi',
  usage: '[OPTIONS] IMAGE [IMAGE...]',
  summary: 'Remove images',
  flags: [
    ['-f, --force', 'Even if it has several names'],
    ['--no-prune', 'Keep untagged parents'],
  ],
  examples: ['caisson rmi alpine:3.21'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ force?: boolean; prune: boolean }>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  const { images } = engine();
  return each(args, async (name) => {
    const removed = await images.remove(name, { force: flags.force === true, noPrune: !flags.prune });
    return removed
      .map(({ Untagged, Deleted }) => (Untagged === undefined ? `Deleted: ${Deleted}` : `Untagged: ${Untagged}`))
      .join('\n');
  });
}
