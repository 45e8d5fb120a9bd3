/** `caisson logs`. */

import { writeFrames } from '../attachment.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { timestamp } from '../time.ts';

const SHAPE: CommandShape = {
  name: 'logs',
  usage: '[OPTIONS] CONTAINER',
  takes: [1, 1],
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
};

interface LogsFlags {
  details?: boolean;
  follow?: boolean;
  since?: string;
  until?: string;
  tail?: string;
  timestamps?: boolean;
}

export default command<LogsFlags>(SHAPE, async ({ flags, args }) => {
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
});
