/** `caisson logs`. */
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { writeFrames } from '../attachment.ts';
import { engine } from '../connect.ts';
import { timestamp } from '../time.ts';

const SHAPE: CommandShape = {
  name: 'logs',
  usage: '[OPTIONS] CONTAINER',
  summary: 'Show the output of a container',
  flags: [
    ['--details', 'Show extra attributes'],
    ['-f, --follow', 'Go on with what comes'],
    ['--since <time>', 'From a time (2026-01-02T13:23:37Z) or an age (42m) on'],
    ['--until <time>', 'Up to a time or an age'],
    ['-n, --tail <lines>', 'Only the last lines'],
    ['-t, --timestamps', 'Show times'],
  ],
  examples: ['caisson logs -f web', 'caisson logs --since 10m -n 100 web'],
  usageCode: 1,
};

interface LogsFlags {
  details?: boolean;
  follow?: boolean;
  since?: string;
  until?: string;
  tail?: string;
  timestamps?: boolean;
}

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<LogsFlags>(SHAPE, argv);
  requireArguments(SHAPE, args, 1, 1);
  const { containers } = engine();
  const { Id, Config } = await containers.inspect(args[0] ?? '');
  const { details = false, follow = false, timestamps = false, tail = 'all', since, until } = flags;
  await writeFrames(
    containers.logs(Id, {
      tty: Config.Tty,
      details,
      follow,
      timestamps,
      tail,
      ...(since !== undefined && { since: timestamp(since) }),
      ...(until !== undefined && { until: timestamp(until) }),
    }),
  );
  return 0;
}
