/** Rows 1 to 3: whole lives of containers. */
import { type Bench, docker, type Subjects, timedMs } from '../bench.ts';
import type { Daemon } from '../daemons.ts';
import type { Podman } from '../podman.ts';

export async function lifecycleRows(
  bench: Bench,
  { caisson, dockerd, image }: Subjects,
  podman: Podman,
): Promise<void> {
  for (const network of ['bridge', 'none']) {
    for (const [mode, gapMs] of [
      ['burst', 0],
      ['sporadic', 250],
    ] as const) {
      const one = (daemon: Daemon) => () => bench.clientMs('lifecycle', daemon.socket, image, network);
      await bench.pairs({
        id: `1-${network}-${mode}`,
        what: `API create+start+wait+rm, ${network}, ${mode}`,
        unit: 'ms',
        peer: 'dockerd',
        count: bench.pairCount,
        gapMs,
        ours: one(caisson),
        theirs: one(dockerd),
      });
    }
  }
  const run = (daemon: Daemon) => () => timedMs(() => docker(daemon, 'run', '--rm', image, 'true'));
  const base = { unit: 'ms', count: bench.pairCount, ours: run(caisson) };
  await bench.pairs({ ...base, id: '2-run', what: 'docker run --rm, bridge', peer: 'dockerd', theirs: run(dockerd) });
  await bench.pairs({
    ...base,
    id: '2-run-podman',
    what: 'docker run --rm, bridge; podman run --rm with runc',
    peer: 'podman',
    count: Math.max(3, bench.pairCount >> 2),
    theirs: () => timedMs(() => podman.run('run', '--rm', image, 'true')),
  });
  const parallel = (daemon: Daemon) => () => bench.clientMs('parallel', daemon.socket, image, 'bridge', '32');
  await bench.pairs({
    id: '3-parallel',
    what: '32 lifecycles at once, bridge',
    unit: 'ms',
    peer: 'dockerd',
    count: Math.max(3, bench.pairCount >> 3),
    ours: parallel(caisson),
    theirs: parallel(dockerd),
  });
}
