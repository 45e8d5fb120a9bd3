/** `caisson pull`. */
import { familiarString, parseReference, referenceString, withDefaultTag } from '../../reference.ts';
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engineOrStart } from '../connect.ts';
import { credentialsFor } from '../credentials.ts';
import { showProgress } from '../progress.ts';

const SHAPE: CommandShape = {
  name: 'pull',
  usage: '[OPTIONS] NAME[:TAG|@DIGEST]',
  summary: 'Fetch an image from its registry',
  flags: [
    ['--platform <os/arch>', 'Platform of the image'],
    ['-q, --quiet', 'No progress'],
  ],
  examples: ['caisson pull alpine:3.22', 'caisson pull --platform linux/arm64 nginx'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ platform?: string; quiet?: boolean }>(SHAPE, argv);
  requireArguments(SHAPE, args, 1, 1);
  const reference = withDefaultTag(parseReference(args[0] ?? ''));
  const name = familiarString(reference);
  const engine = await engineOrStart();
  const transfer = engine.images.pull(name, { platform: flags.platform, credentials: credentialsFor(name) });
  await showProgress(transfer, { quiet: flags.quiet === true, out: process.stdout });
  process.stdout.write(`${referenceString(reference)}\n`);
  return 0;
}
