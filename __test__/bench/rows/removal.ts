/** Row 6: the end of a running container. */
import { type Bench, docker, type Subjects } from '../bench.ts';
import type { Daemon } from '../daemons.ts';

export async function removalRows(bench: Bench, { caisson, dockerd, image }: Subjects): Promise<void> {
  const fresh = (daemon: Daemon): string => docker(daemon, 'run', '-d', image, 'sleep', '100000');
  const removal = (daemon: Daemon) => () => bench.clientMs('remove', daemon.socket, fresh(daemon));
  const base = { unit: 'ms', peer: 'dockerd' };
  await bench.pairs({
    ...base,
    id: '6-rm',
    what: 'rm -f of a running container, until it returns',
    count: Math.max(3, bench.pairCount >> 1),
    ours: removal(caisson),
    theirs: removal(dockerd),
  });
  const stop = (daemon: Daemon) => () => {
    const id = fresh(daemon);
    const ms = bench.clientMs('stop', daemon.socket, id);
    docker(daemon, 'rm', '-f', id);
    return ms;
  };
  await bench.pairs({
    ...base,
    id: '6-stop',
    what: 'stop of `sleep` as PID 1',
    count: 3,
    ours: stop(caisson),
    theirs: stop(dockerd),
  });
}
