/** Which process has a port, for the message to whoever wanted it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

const LISTENS = '0A';
const UNCONNECTED = '07';

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // a table that this kernel has not, or a process that has ended meanwhile
  }
}

/** `nginx (pid 123)`; undefined when nobody is found: a process of another network namespace, or one that has ended. */
export function portHolder(proto: string, port: number): string | undefined {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const wanted = proto === 'tcp' ? LISTENS : UNCONNECTED;
  const sockets = new Set(
    [`/proc/net/${proto}`, `/proc/net/${proto}6`]
      .flatMap((table) => read(table).split('\n').slice(1))
      .map((line) => line.trim().split(/\s+/))
      .filter(([, local, , state]) => local?.endsWith(`:${hex}`) && state === wanted)
      .map((columns) => `socket:[${columns[9]}]`),
  );
  if (sockets.size === 0) return undefined;
  const pid = readdirSync('/proc').find((name) => /^\d+$/.test(name) && holds(name, sockets));
  return pid === undefined ? undefined : `${read(`/proc/${pid}/comm`).trim()} (pid ${pid})`;
}

function holds(pid: string, sockets: ReadonlySet<string>): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return sockets.has(readlinkSync(`/proc/${pid}/fd/${fd}`));
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}
