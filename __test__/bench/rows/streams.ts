/** Row 13: a container's output, into its log, to an attached client, and back out of the log. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Bench, docker, type Subjects, timedMs } from '../bench.ts';
import type { Daemon } from '../daemons.ts';

const LINE = '0123456789'.repeat(7);
const LINES = `yes ${LINE} | head -c 200000000`;

export async function streamRows(bench: Bench, { caisson, dockerd, image }: Subjects): Promise<void> {
  const base = { unit: 'ms', peer: 'dockerd', count: 3 };
  const logged =
    (daemon: Daemon, command: string, ...flags: string[]) =>
    (): number => {
      const id = docker(daemon, 'create', '--network', 'none', ...flags, image, 'sh', '-c', command);
      const ms = timedMs(() => docker(daemon, 'start', id) && docker(daemon, 'wait', id));
      docker(daemon, 'rm', id);
      return ms;
    };
  await bench.pairs({
    ...base,
    id: '13-log',
    what: '200 MB of stdout into the log',
    ours: logged(caisson, LINES),
    theirs: logged(dockerd, LINES),
  });
  // what the log itself costs, without yes and head: a file in large writes, and one write a line
  const file = join(bench.dir, 'lines');
  if (bench.wanted('13-log-cat')) writeFileSync(file, `${LINE}\n`.repeat(200_000_000 / (LINE.length + 1)));
  const volume = ['-v', `${file}:/lines:ro`];
  const loop = `BEGIN { for (i = 0; i < 1000000; i++) { print "${LINE}"; fflush() } }`;
  for (const [id, what, command, flags] of [
    ['13-log-cat', '200 MB of lines into the log, in large writes', 'cat /lines', volume],
    ['13-log-lines', '71 MB into the log, a write a line', `awk '${loop}'`, []],
  ] as const) {
    await bench.pairs({
      ...base,
      id,
      what,
      ours: logged(caisson, command, ...flags),
      theirs: logged(dockerd, command, ...flags),
    });
  }
  const attached = (daemon: Daemon, driver: string) => (): number =>
    timedMs(() => {
      const run = ['run', '--rm', '--network', 'none', '--log-driver', driver, image, 'sh', '-c'];
      execFileSync(
        'docker',
        ['-H', `unix://${daemon.socket}`, ...run, `exec ${LINES.replace('| head', '| exec head')}`],
        {
          stdio: 'ignore',
        },
      );
    });
  for (const driver of ['none', 'json-file']) {
    await bench.pairs({
      ...base,
      id: `13-attach-${driver}`,
      what: `200 MB of stdout to an attached docker run, log driver ${driver}`,
      ours: attached(caisson, driver),
      theirs: attached(dockerd, driver),
    });
  }
  if (!bench.wanted('13-logs')) return;
  for (const daemon of [caisson, dockerd])
    docker(daemon, 'run', '--name', 'talker', '--network', 'none', '-d', image, 'sh', '-c', LINES) &&
      docker(daemon, 'wait', 'talker');
  const read = (daemon: Daemon) => (): number =>
    timedMs(() => execFileSync('docker', ['-H', `unix://${daemon.socket}`, 'logs', 'talker'], { stdio: 'ignore' }));
  await bench.pairs({
    ...base,
    id: '13-logs',
    what: 'docker logs of 200 MB',
    ours: read(caisson),
    theirs: read(dockerd),
  });
  for (const daemon of [caisson, dockerd]) docker(daemon, 'rm', 'talker');
}
