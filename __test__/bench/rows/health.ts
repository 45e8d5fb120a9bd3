/** What health checks cost: CPU time of the daemon, of the shims and of the checks themselves. */

import { join } from 'node:path';
import { setTimeout as rest } from 'node:timers/promises';
import { type Bench, docker, type Subjects } from '../bench.ts';
import { cpuMs, type Daemon, processesOf } from '../daemons.ts';

const CONTAINERS = 100;
const SECONDS = 20;

export async function healthRow(bench: Bench, { caisson, dockerd, image }: Subjects): Promise<void> {
  if (!bench.wanted('health')) return;
  const used = async (daemon: Daemon, shim: string): Promise<number> => {
    const flags = ['--network', 'none', '--health-cmd', 'true', '--health-interval', '1s'];
    const ids = Array.from({ length: CONTAINERS }, () =>
      docker(daemon, 'run', '-d', ...flags, image, 'sleep', '100000'),
    );
    const pids = [...daemon.processes(), ...processesOf(shim, join(bench.dir, daemon.name))];
    const before = cpuMs(pids);
    await rest(SECONDS * 1000);
    const ms = cpuMs(pids) - before;
    docker(daemon, 'rm', '-f', ...ids);
    return ms;
  };
  bench.add({
    id: 'health',
    what: `CPU time of ${CONTAINERS} containers with a health check each second, over ${SECONDS} s`,
    unit: 'ms',
    peer: 'dockerd',
    ours: [await used(caisson, 'caisson-shim')],
    theirs: [await used(dockerd, 'containerd-shim')],
  });
}
