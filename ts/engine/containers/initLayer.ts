/**
 * The init layer, below every image: what a container's root always has, whatever its image lacks. Most of it is mounted over
 * at the start; programs look for `/.dockerenv` to learn that they are in a container.
 */
import { closeSync, lstatSync, mkdirSync, openSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

const DIRECTORIES = ['dev/pts', 'dev/shm', 'proc', 'sys'];
const FILES = ['.dockerenv', 'dev/console', 'etc/hostname', 'etc/hosts', 'etc/resolv.conf'];
const LINKS = [['etc/mtab', '/proc/mounts']] as const;

/**
 * Makes what is missing, and touches nothing else: running containers of an earlier daemon have it mounted. There is nothing
 * in it that a crash could tear, so nothing is synced.
 */
export function makeInitLayer(path: string): void {
  // every user of a container may look, whatever mask the daemon was given
  const umask = process.umask(0o022);
  try {
    for (const entry of [...DIRECTORIES, 'etc']) mkdirSync(join(path, entry), { recursive: true, mode: 0o755 });
    for (const entry of FILES) closeSync(openSync(join(path, entry), 'a', 0o755));
    for (const [entry, target] of LINKS) {
      const link = join(path, entry);
      if (lstatSync(link, { throwIfNoEntry: false }) === undefined) symlinkSync(target, link);
    }
  } finally {
    process.umask(umask);
  }
}
