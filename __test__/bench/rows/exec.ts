/** Row 5: exec in a running container. */
import { type Bench, docker, type Subjects, timedMs } from '../bench.ts';
import type { Daemon } from '../daemons.ts';
import type { Podman } from '../podman.ts';

export async function execRows(bench: Bench, { caisson, dockerd, image }: Subjects, podman: Podman): Promise<void> {
  if (!bench.wanted('5-exec')) return;
  for (const daemon of [dockerd, caisson]) docker(daemon, 'run', '-d', '--name', 'sleeper', image, 'sleep', '100000');
  podman.run('run', '-d', '--name', 'sleeper', '--network', 'none', image, 'sleep', '100000');
  try {
    const api = (daemon: Daemon) => () => bench.clientMs('exec', daemon.socket, 'sleeper');
    const cli = (daemon: Daemon) => () => timedMs(() => docker(daemon, 'exec', 'sleeper', 'true'));
    const base = { unit: 'ms', peer: 'dockerd', count: bench.pairCount };
    await bench.pairs({
      ...base,
      id: '5-exec-api',
      what: 'exec create+start+inspect by the API',
      ours: api(caisson),
      theirs: api(dockerd),
    });
    await bench.pairs({ ...base, id: '5-exec-cli', what: 'docker exec', ours: cli(caisson), theirs: cli(dockerd) });
    await bench.pairs({
      ...base,
      id: '5-exec-podman',
      what: 'docker exec; podman exec with runc',
      peer: 'podman',
      count: Math.max(3, bench.pairCount >> 2),
      ours: cli(caisson),
      theirs: () => timedMs(() => podman.run('exec', 'sleeper', 'true')),
    });
  } finally {
    podman.run('rm', '-f', '-t', '0', 'sleeper');
    for (const daemon of [dockerd, caisson]) docker(daemon, 'rm', '-f', 'sleeper');
  }
}
