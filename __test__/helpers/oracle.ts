/**
 * The leak oracle: what a daemon of a test has in the kernel and on disk beside the containers that should be there.
 * Asked after every scenario; an empty list passes.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestDaemon } from './daemon.ts';

const names = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir) : []);

/** What is wrong now, given the ids of the containers that run and of those that merely exist. */
export function leaks(daemon: TestDaemon, running: string[], existing: string[]): string[] {
  const found: string[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    if (line.includes(daemon.dir)) found.push(`mount on the host: ${line}`);
  }
  // v2 is one hierarchy, at the root of them all
  for (const hierarchy of ['', ...names('/sys/fs/cgroup')]) {
    const parent = join('/sys/fs/cgroup', hierarchy, daemon.cgroupParent);
    if (!existsSync(parent)) continue;
    for (const entry of readdirSync(parent, { withFileTypes: true })) {
      if (entry.isDirectory() && entry.name !== 'shims' && !running.includes(entry.name))
        found.push(`cgroup ${hierarchy}: ${entry.name}`);
    }
  }
  const ports = names(`/sys/class/net/${daemon.bridge}/brif`).length;
  if (ports > running.length) found.push(`bridge ports: ${ports}, running: ${running.length}`);
  for (const pid of names('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const command = read(`/proc/${pid}/cmdline`);
    if (command.includes('caisson-shim') && command.includes(daemon.dir) && !running.some((id) => command.includes(id)))
      found.push(`shim ${pid}: ${command.replaceAll('\0', ' ')}`);
    const stat = read(`/proc/${pid}/stat`);
    if (/\) Z /.test(stat) && stat.split(') ')[1]?.split(' ')[1] === String(daemon.pid))
      found.push(`zombie of the daemon: ${stat.slice(0, 40)}`);
  }
  for (const id of names(join(daemon.execRoot, 'c'))) if (!running.includes(id)) found.push(`state directory ${id}`);
  for (const id of names(join(daemon.dataRoot, 'containers')))
    if (!existing.includes(id)) found.push(`container directory ${id}`);
  for (const id of names(join(daemon.dataRoot, 'overlay'))) {
    if (id.startsWith('tmp-')) found.push(`temporary layer ${id}`);
    if (
      /^[0-9a-f]{64}$/.test(id) &&
      existsSync(join(daemon.dataRoot, 'overlay', id, 'upper')) &&
      !existing.includes(id)
    )
      found.push(`snapshot ${id}`);
  }
  return found;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the process has ended meanwhile
  }
}

/** The oracle over what the API says: polls until nothing is wrong or 10 s have passed, and gives what is still wrong. */
export async function oracle(daemon: TestDaemon): Promise<string[]> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const containers = JSON.parse((await daemon.http('GET', '/containers/json?all=1')).body) as {
      Id: string;
      State: string;
    }[];
    const running = containers.filter((c) => ['running', 'paused', 'restarting'].includes(c.State)).map((c) => c.Id);
    const found = leaks(
      daemon,
      running,
      containers.map((c) => c.Id),
    );
    if (found.length === 0 || Date.now() > deadline) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
