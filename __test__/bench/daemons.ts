/** The daemons that the bench compares, each with roots of its own: dockerd (unpacked by scripts/bench-peers) and ours. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  globSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../ts/packageRoot.ts';

export interface Daemon {
  name: string;
  socket: string;
  pid: number;
  /** Pids of the daemon and everything that belongs to it while no container runs. */
  processes(): number[];
  stop(): Promise<void>;
}

const peers = join(packageRoot, '.cache/peers/root');

async function answering(socket: string, child: ChildProcess, log: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`daemon ended:\n${readFileSync(log, 'utf8')}`);
    if (existsSync(socket)) {
      try {
        execFileSync('docker', ['-H', `unix://${socket}`, 'version'], { stdio: 'ignore' });
        return;
      } catch {
        // not yet
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`no answer on ${socket}:\n${readFileSync(log, 'utf8')}`);
}

async function start(
  name: string,
  dir: string,
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv,
): Promise<Daemon> {
  mkdirSync(dir, { recursive: true });
  const log = join(dir, 'log');
  const socket = join(dir, 'docker.sock');
  const fd = openSync(log, 'a');
  const child = spawn(command, args, { stdio: ['ignore', fd, fd], env });
  closeSync(fd);
  await answering(socket, child, log);
  const pid = child.pid ?? 0;
  return {
    name,
    socket,
    pid,
    processes: () => descendants(pid),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

/** Both daemons run in the bench's own network namespace, each with a bridge of its own. */
export function startDockerd(dir: string, registry: string): Promise<Daemon> {
  mkdirSync(dir, { recursive: true });
  writeFileSync(`${dir}/daemon.json`, '{}'); // not the host's
  return start(
    'dockerd',
    dir,
    join(peers, 'usr/sbin/dockerd'),
    [
      '-H',
      `unix://${dir}/docker.sock`,
      '--data-root',
      `${dir}/data`,
      '--exec-root',
      `${dir}/exec`,
      '--pidfile',
      `${dir}/pid`,
      '--config-file',
      `${dir}/daemon.json`,
      '--cgroup-parent',
      '/bench-dockerd',
      '--registry-mirror',
      registry,
      '--bip',
      '10.211.0.1/16',
    ],
    { ...process.env, PATH: `${peers}/usr/sbin:${peers}/usr/bin:${process.env['PATH']}` },
  );
}

export const startCaisson = (dir: string, registry: string): Promise<Daemon> =>
  start(
    'caisson',
    dir,
    join(packageRoot, 'bin/caisson'),
    [
      'daemon',
      '-H',
      `unix://${dir}/docker.sock`,
      '--data-root',
      `${dir}/data`,
      '--exec-root',
      `${dir}/exec`,
      '--pidfile',
      `${dir}/pid`,
      '--cgroup-parent',
      '/bench-caisson',
      '--bridge-name',
      'csbench0',
      '--bip',
      '10.212.0.1/16',
      '--registry-mirror',
      registry,
    ],
    process.env,
  );

function descendants(root: number): number[] {
  const parents = new Map<number, number>();
  for (const path of globSync('/proc/[0-9]*/stat')) {
    try {
      const stat = readFileSync(path, 'utf8');
      parents.set(Number.parseInt(stat, 10), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // ended meanwhile
    }
  }
  const found = [root];
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child);
  return found;
}

/** Proportional set size in KiB. */
export function pssKib(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? Number.NaN);
}

/** CPU time in ms that processes have used so far, with that of their children that have ended: one that has is its parent's. */
export function cpuMs(pids: number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readStat(pid);
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    for (const field of fields.slice(11, 15)) ticks += Number(field);
  }
  return ticks * 10;
}

function readStat(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return '';
  }
}

/** Pids whose executable ends so, among the descendants of `root` or those re-parented to init with `mark` in their command. */
export function processesOf(program: string, mark: string): number[] {
  return globSync('/proc/[0-9]*').flatMap((path) => {
    try {
      const command = readFileSync(`${path}/cmdline`, 'utf8');
      const exe = readlinkSync(`${path}/exe`);
      return (exe.includes(program) || command.includes(program)) && command.includes(mark)
        ? [Number(path.slice(6))]
        : [];
    } catch {
      return [];
    }
  });
}
