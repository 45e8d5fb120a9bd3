/** `caisson save`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { requireOutput, writeArchive } from '../outputFile.ts';

const SHAPE: CommandShape = {
  name: 'save',
  usage: '[OPTIONS] IMAGE [IMAGE...]',
  takes: [1],
  summary: 'Write images to a tar archive',
  flags: [
    ['-o, --output <path>', 'Archive; without it standard output'],
    ['--platform <os/arch>', 'Only an image of this platform'],
  ],
  examples: ['caisson save -o alpine.tar alpine:3.22', 'caisson save alpine busybox | ssh host caisson load'],
};

export default command<{ output?: string; platform?: string }>(SHAPE, async ({ flags, args }) => {
  requireOutput(flags.output);
  await writeArchive(engine().images.save(args, { platform: flags.platform }), flags.output);
  return 0;
});
