/** `caisson container prune`; every other container command stands for itself: `caisson ps`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { COMMANDS } from '../commands.ts';
import { engine } from '../connect.ts';
import { ExitCode } from '../failure.ts';
import { parseFilters } from '../filters.ts';
import { showSize } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'container prune',
  usage: '[OPTIONS]',
  summary: 'Remove all containers that do not run',
  flags: [
    ['--filter <name=value>', 'Only those that match (until, label, label!)', 'list'],
    ['-f, --force', 'Do not ask'],
  ],
  examples: ['caisson container prune -f --filter until=24h'],
  usageCode: 1,
};

export async function run([verb = '', ...argv]: string[]): Promise<number> {
  if (verb === 'prune') return prune(argv);
  const same = { ls: 'ps', list: 'ps' }[verb] ?? verb;
  const found = COMMANDS[same];
  if (found === undefined || same === 'container') {
    throw new ExitCode(1, `caisson: '${verb}' is not a command of caisson container\nSee 'caisson --help'`);
  }
  return (await found.load()).run(argv);
}

async function prune(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ filter: string[]; force?: boolean }>(SHAPE, argv);
  requireArguments(SHAPE, args, 0, 0);
  if (!flags.force) {
    throw new ExitCode(1, 'caisson: this removes all containers that do not run; say --force if that is meant');
  }
  const { ContainersDeleted, SpaceReclaimed } = await engine().containers.prune({
    filters: parseFilters(flags.filter),
  });
  for (const id of ContainersDeleted ?? []) process.stdout.write(`${id}\n`);
  process.stdout.write(`Total reclaimed space: ${showSize(SpaceReclaimed)}\n`);
  return 0;
}
