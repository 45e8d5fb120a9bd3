/** Row 4, and networks: published ports, networks that come and go, containers that join and leave them. */
import { type Bench, docker, type Subjects } from '../bench.ts';
import type { Daemon } from '../daemons.ts';

const PORTS = 200;
/** Published ports of others: so many containers with so many each. */
const OTHERS = { containers: 50, ports: 10 };

export async function networkRows(bench: Bench, subjects: Subjects): Promise<void> {
  const { caisson, dockerd, image } = subjects;
  const base = { unit: 'ms', peer: 'dockerd', count: bench.pairCount };
  const network = (daemon: Daemon) => () => bench.clientMs('network', daemon.socket, 'bench');
  await bench.pairs({
    ...base,
    id: 'network-create',
    what: 'network create and rm',
    ours: network(caisson),
    theirs: network(dockerd),
  });
  if (bench.wanted('network-connect')) {
    for (const daemon of [caisson, dockerd]) {
      docker(daemon, 'network', 'create', 'joined');
      docker(daemon, 'run', '-d', '--name', 'joiner', image, 'sleep', '100000');
    }
    const connect = (daemon: Daemon) => () => bench.clientMs('connect', daemon.socket, 'joined', 'joiner');
    await bench.pairs({
      ...base,
      id: 'network-connect',
      what: 'connect and disconnect of a running container',
      ours: connect(caisson),
      theirs: connect(dockerd),
    });
    for (const daemon of [caisson, dockerd]) {
      docker(daemon, 'rm', '-f', 'joiner');
      docker(daemon, 'network', 'rm', 'joined');
    }
  }
  await portRows(bench, subjects);
}

/** A start with many published ports, with none and with many of others'. */
async function portRows(bench: Bench, { caisson, dockerd, image }: Subjects): Promise<void> {
  if (!bench.wanted('4-')) return;
  // each daemon has numbers of its own: both publish on the same host
  const range = (daemon: Daemon, first: number, count: number): string => {
    const from = first + (daemon === caisson ? 0 : 20_000);
    return `${from}-${from + count - 1}:${from}-${from + count - 1}`;
  };
  const start = (daemon: Daemon, ports: number) => (): number => {
    const publish = ports > 0 ? ['-p', range(daemon, 20_000, ports)] : [];
    const id = docker(daemon, 'create', ...publish, image, 'sleep', '100000');
    const ms = bench.clientMs('start', daemon.socket, id);
    docker(daemon, 'rm', '-f', id);
    return ms;
  };
  const row = async (id: string, what: string, ports: number): Promise<void> =>
    bench.pairs({
      id,
      what,
      unit: 'ms',
      peer: 'dockerd',
      count: Math.max(3, bench.pairCount >> 2),
      ours: start(caisson, ports),
      theirs: start(dockerd, ports),
    });
  await row('4-ports-none', 'start without published ports', 0);
  await row('4-ports', `start with ${PORTS} published ports`, PORTS);
  if (!bench.wanted('4-ports-others')) return;
  const others = [caisson, dockerd].map((daemon) => ({
    daemon,
    ids: Array.from({ length: OTHERS.containers }, (_, index) =>
      docker(
        daemon,
        'run',
        '-d',
        '-p',
        range(daemon, 30_000 + index * OTHERS.ports, OTHERS.ports),
        image,
        'sleep',
        '100000',
      ),
    ),
  }));
  const beside = `${OTHERS.containers} containers with ${OTHERS.ports} ports each`;
  await row('4-ports-others', `start with ${PORTS} published ports, beside ${beside}`, PORTS);
  for (const { daemon, ids } of others) docker(daemon, 'rm', '-f', ...ids);
}
