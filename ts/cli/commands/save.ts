/** `caisson save`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { requireOutput, writeArchive } from '../outputFile.ts';

const SHAPE: CommandShape = {
  name: 'save',
  usage: '[OPTIONS] IMAGE [IMAGE...]',
  summary: 'Write images to a tar archive',
  flags: [
    ['-o, --output <path>', 'Archive; without it standard output'],
    ['--platform <os/arch>', 'Only an image of this platform'],
  ],
  examples: ['caisson save -o alpine.tar alpine:3.22', 'caisson save alpine busybox | ssh host caisson load'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ output?: string; platform?: string }>(SHAPE, argv);
  requireArguments(SHAPE, args, 1);
  requireOutput(flags.output);
  await writeArchive(engine().images.save(args, { platform: flags.platform }), flags.output);
  return 0;
}
