/** Row 12: requests that read, with a thousand containers. */
import { type Bench, docker, type Subjects } from '../bench.ts';
import type { Daemon } from '../daemons.ts';

const CONTAINERS = 1000;

export async function requestRows(bench: Bench, { caisson, dockerd, image }: Subjects): Promise<void> {
  if (!bench.wanted('12-')) return;
  for (const daemon of [caisson, dockerd]) {
    docker(daemon, 'create', '--name', 'inspected', image, 'true');
    bench.clientMs('create', daemon.socket, image, String(CONTAINERS - 1));
  }
  for (const [id, what, path, count] of [
    ['12-list', `list of ${CONTAINERS} containers`, '/containers/json?all=1', 5],
    ['12-inspect', 'inspect of a container', '/containers/inspected/json', 50],
    ['12-ping', '_ping', '/_ping', 50],
  ] as const) {
    const get = (daemon: Daemon) => () => bench.clientMs('get', daemon.socket, path, String(count)) / count;
    await bench.pairs({
      id,
      what,
      unit: 'ms',
      peer: 'dockerd',
      count: bench.pairCount,
      ours: get(caisson),
      theirs: get(dockerd),
    });
  }
  for (const daemon of [caisson, dockerd]) docker(daemon, 'container', 'prune', '-f');
}
