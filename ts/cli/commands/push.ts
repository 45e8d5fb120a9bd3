/** `caisson push`. */
import { familiarString, parseReference, withDefaultTag } from '../../reference.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { credentialsFor } from '../credentials.ts';
import { ExitCode } from '../failure.ts';
import { showProgress } from '../progress.ts';

const SHAPE: CommandShape = {
  name: 'push',
  usage: '[OPTIONS] NAME[:TAG]',
  takes: [1, 1],
  summary: 'Send an image to its registry',
  flags: [
    ['-a, --all-tags', 'Every tag of the repository'],
    ['--platform <os/arch>', 'Only of this platform'],
    ['-q, --quiet', 'No progress'],
  ],
  examples: ['caisson push registry.example/team/tool:1', 'caisson push -a registry.example/team/tool'],
};

export default command<{ allTags?: boolean; platform?: string; quiet?: boolean }>(SHAPE, async ({ flags, args }) => {
  const reference = parseReference(args[0] ?? '');
  const allTags = flags.allTags === true;
  if (allTags && reference.tag !== undefined) throw new ExitCode(1, "caisson: a tag can't be used with --all-tags/-a");
  const name = familiarString(allTags ? reference : withDefaultTag(reference));
  if (!allTags && reference.tag === undefined && !flags.quiet) process.stdout.write('Using default tag: latest\n');
  const transfer = engine().images.push(name, { allTags, platform: flags.platform, credentials: credentialsFor(name) });
  await showProgress(transfer, { quiet: flags.quiet === true, out: process.stdout });
  if (flags.quiet) process.stdout.write(`${name}\n`);
  return 0;
});
