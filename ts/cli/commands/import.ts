/** `caisson import`. */
import { createReadStream } from 'node:fs';
import { type CommandShape, command } from '../command.ts';
import { engineOrStart } from '../connect.ts';
import { showProgress } from '../progress.ts';

const SHAPE: CommandShape = {
  name: 'import',
  usage: '[OPTIONS] FILE|URL|- [REPOSITORY[:TAG]]',
  takes: [1, 2],
  summary: 'Make an image from a tar archive of a file system',
  flags: [
    ['-c, --change <instruction>', 'Apply a Dockerfile instruction', 'list'],
    ['-m, --message <text>', 'Message for the history'],
    ['--platform <os/arch>', 'Platform of the image'],
  ],
  examples: ['caisson import -c \'CMD ["sh"]\' rootfs.tar mine:1'],
};

interface ImportFlags {
  change: string[];
  message?: string;
  platform?: string;
}

export default command<ImportFlags>(SHAPE, async ({ flags, args }) => {
  const [source = '', name] = args;
  const content = source === '-' ? process.stdin : /^https?:\/\//.test(source) ? source : createReadStream(source);
  const { images } = await engineOrStart();
  const transfer = images.import(content, {
    changes: flags.change,
    ...(name !== undefined && { name }),
    ...(flags.message !== undefined && { message: flags.message }),
    ...(flags.platform !== undefined && { platform: flags.platform }),
  });
  await showProgress(transfer, { out: process.stdout });
  return 0;
});
