/** `caisson load`. */
import { createReadStream } from 'node:fs';
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engineOrStart } from '../connect.ts';
import { ExitCode } from '../failure.ts';
import { showProgress } from '../progress.ts';

const SHAPE: CommandShape = {
  name: 'load',
  usage: '[OPTIONS]',
  summary: 'Load images from a tar archive',
  flags: [
    ['-i, --input <path>', 'Archive; without it standard input'],
    ['-q, --quiet', 'No progress'],
  ],
  examples: ['caisson load -i alpine.tar', 'docker save alpine | caisson load'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ input?: string; quiet?: boolean }>(SHAPE, argv);
  requireArguments(SHAPE, args, 0, 0);
  if (flags.input === undefined && process.stdin.isTTY)
    throw new ExitCode(1, 'caisson: requested load from stdin, but stdin is empty');
  const source = flags.input === undefined ? process.stdin : createReadStream(flags.input, { highWaterMark: 1 << 18 });
  // The engine leaves the progress out; the names of what was loaded are shown all the same.
  await showProgress((await engineOrStart()).images.load(source, { quiet: flags.quiet === true }));
  return 0;
}
