/**
 * The init layer, below every image: what a container's root always has, whatever its image lacks. Most of it is mounted over
 * at the start; programs look for `/.dockerenv` to learn that they are in a container.
 */
import { closeSync, mkdirSync, openSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

const DIRECTORIES = ['dev/pts', 'dev/shm', 'proc', 'sys'];
const FILES = ['.dockerenv', 'dev/console', 'etc/hostname', 'etc/hosts', 'etc/resolv.conf'];
const LINKS = [['etc/mtab', '/proc/mounts']] as const;

/** Makes what is missing. There is nothing in it that a crash could tear, so nothing is synced. */
export function makeInitLayer(path: string): void {
  const mode = 0o755;
  for (const entry of DIRECTORIES) mkdirSync(join(path, entry), { recursive: true, mode });
  mkdirSync(join(path, 'etc'), { recursive: true, mode });
  for (const entry of FILES) closeSync(openSync(join(path, entry), 'a', mode));
  for (const [entry, target] of LINKS) {
    rmSync(join(path, entry), { force: true });
    symlinkSync(target, join(path, entry));
  }
}
