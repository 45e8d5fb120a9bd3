/** `caisson pull`. */
import { familiarString, parseReference, referenceString, withDefaultTag } from '../../reference.ts';
import { type CommandShape, command } from '../command.ts';
import { engineOrStart } from '../connect.ts';
import { credentialsFor } from '../credentials.ts';
import { ExitCode } from '../failure.ts';
import { showProgress } from '../progress.ts';

const SHAPE: CommandShape = {
  name: 'pull',
  usage: '[OPTIONS] NAME[:TAG|@DIGEST]',
  takes: [1, 1],
  summary: 'Fetch an image from its registry',
  flags: [
    ['-a, --all-tags', 'Every tag of the repository'],
    ['--platform <os/arch>', 'Platform of the image'],
    ['-q, --quiet', 'No progress'],
  ],
  examples: ['caisson pull alpine:3.22', 'caisson pull --platform linux/arm64 nginx'],
};

export default command<{ allTags?: boolean; platform?: string; quiet?: boolean }>(SHAPE, async ({ flags, args }) => {
  const given = parseReference(args[0] ?? '');
  const all = flags.allTags === true;
  if (all && (given.tag !== undefined || given.digest !== undefined))
    throw new ExitCode(1, "caisson: tag can't be used with --all-tags/-a");
  const reference = all ? given : withDefaultTag(given);
  const name = familiarString(reference);
  const { images } = await engineOrStart();
  const options = { platform: flags.platform, credentials: credentialsFor(name) };
  const transfer = all ? images.pullAll(name, options) : images.pull(name, options);
  await showProgress(transfer, { quiet: flags.quiet === true, out: process.stdout });
  process.stdout.write(`${referenceString(reference)}\n`);
  return 0;
});
