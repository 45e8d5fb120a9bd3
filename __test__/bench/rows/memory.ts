/** Rows 9 and 10: what the daemons and their shims keep in memory, at rest and after many lives of containers. */
import { join } from 'node:path';
import { type Bench, docker, type Subjects } from '../bench.ts';
import { type Daemon, processesOf, pssKib } from '../daemons.ts';

/** MB that all processes of a daemon use in proportional set size. */
export const idleMb = (daemon: Daemon): number => daemon.processes().reduce((sum, pid) => sum + pssKib(pid), 0) / 1024;

export function memoryRows(bench: Bench, subjects: Subjects, idle: { ours: number; theirs: number }): void {
  if (bench.wanted('9-idle')) {
    const what = 'PSS of the idle daemon, all its processes';
    bench.add({ id: '9-idle', what, unit: 'MB', peer: 'dockerd+containerd', ours: [idle.ours], theirs: [idle.theirs] });
  }
  if (bench.wanted('9-worked')) {
    const worked = (daemon: Daemon): number => {
      for (let i = 0; i < 32; i++) bench.clientMs('parallel', daemon.socket, subjects.image, 'none', '32');
      return idleMb(daemon);
    };
    const what = 'the same after 1,024 lifecycles, 32 at once';
    const [ours, theirs] = [worked(subjects.caisson), worked(subjects.dockerd)];
    bench.add({ id: '9-worked', what, unit: 'MB', peer: 'dockerd+containerd', ours: [ours], theirs: [theirs] });
  }
  if (!bench.wanted('10-shim')) return;
  const shims = (daemon: Daemon, program: string): number => {
    const ids = Array.from({ length: 50 }, () =>
      docker(daemon, 'run', '-d', '--network', 'none', subjects.image, 'sleep', '100000'),
    );
    const sizes = processesOf(program, join(bench.dir, daemon.name)).map(pssKib);
    docker(daemon, 'rm', '-f', ...ids);
    return sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
  };
  bench.add({
    id: '10-shim',
    what: 'PSS of a shim, mean of 50 running',
    unit: 'KiB',
    peer: 'containerd-shim',
    ours: [shims(subjects.caisson, 'caisson-shim')],
    theirs: [shims(subjects.dockerd, 'containerd-shim')],
  });
}
