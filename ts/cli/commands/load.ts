/** `caisson load`. */
import { createReadStream } from 'node:fs';
import { type CommandShape, command } from '../command.ts';
import { engineOrStart } from '../connect.ts';
import { ExitCode } from '../failure.ts';
import { showProgress } from '../progress.ts';

const SHAPE: CommandShape = {
  name: 'load',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Load images from a tar archive',
  flags: [
    ['-i, --input <path>', 'Archive; without it standard input'],
    ['--platform <os/arch>', 'Only of this platform'],
    ['-q, --quiet', 'No progress'],
  ],
  examples: ['caisson load -i alpine.tar', 'docker save alpine | caisson load'],
};

export default command<{ input?: string; platform?: string; quiet?: boolean }>(SHAPE, async ({ flags }) => {
  if (flags.input === undefined && process.stdin.isTTY)
    throw new ExitCode(1, 'caisson: requested load from stdin, but stdin is empty');
  const source = flags.input === undefined ? process.stdin : createReadStream(flags.input, { highWaterMark: 1 << 18 });
  // The engine leaves the progress out; the names of what was loaded are shown all the same.
  await showProgress(
    (await engineOrStart()).images.load(source, { quiet: flags.quiet === true, platform: flags.platform }),
  );
  return 0;
});
