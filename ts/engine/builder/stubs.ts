/** What a container leaves of its mounts: the empty files and directories that they were mounted over. */
import { lstat, rmdir, unlink } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { isKind } from '../../errdefs.ts';
import type { ArchiveView } from '../native/files.ts';
import type { Native } from '../native/index.ts';

/** Of the places of mounts, and of the directories above them, those that an image does not have. */
export async function missingIn(
  native: Native,
  overlay: ArchiveView['overlay'],
  targets: readonly string[],
): Promise<string[]> {
  const missing = new Set<string>();
  for (const target of targets) {
    for (let path = target; path !== '/' && !missing.has(path); path = posix.dirname(path)) {
      const there = await native.statArchive({ overlay }, path).catch((error: unknown) => {
        if (!isKind(error, 'NotFound') && !isKind(error, 'InvalidParameter')) throw error;
      });
      if (there !== undefined) break;
      missing.add(path);
    }
  }
  // what lies in another goes first
  return [...missing].sort((a, b) => b.length - a.length);
}

/** Removes them from what a container has changed, unless it has put something there. */
export async function removeStubs(upper: string, stubs: readonly string[]): Promise<void> {
  for (const stub of stubs) {
    if (!(await isBelow(upper, stub))) continue;
    const place = join(upper, stub);
    const stat = await lstat(place);
    // one that is not empty stays
    if (stat.isDirectory()) await rmdir(place).catch(() => undefined);
    else if (stat.isFile() && stat.size === 0) await unlink(place);
  }
}

/** No part of the way is a link that the container may have laid. */
async function isBelow(upper: string, path: string): Promise<boolean> {
  let at = upper;
  for (const name of posix
    .dirname(path)
    .split('/')
    .filter((part) => part !== '')) {
    at = join(at, name);
    if (!(await lstat(at).catch(() => undefined))?.isDirectory()) return false;
  }
  return (await lstat(join(upper, path)).catch(() => undefined)) !== undefined;
}
