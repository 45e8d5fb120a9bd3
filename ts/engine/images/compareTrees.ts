/** Whether two trees that nobody writes to are the same to a container: names, types, owners, modes, times, contents. */
import type { BigIntStats } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';

const CHUNK_BYTES = 1 << 20;
const SLASH = Buffer.from('/');

/** Undefined, or where they differ first and how. Names may be any bytes, so paths are bytes. */
export async function firstDifference(a: string, b: string, signal: AbortSignal): Promise<string | undefined> {
  return compare(Buffer.from(a), Buffer.from(b), '', signal);
}

async function compare(a: Buffer, b: Buffer, shown: string, signal: AbortSignal): Promise<string | undefined> {
  signal.throwIfAborted();
  const [own, other] = await Promise.all([lstat(a, { bigint: true }), lstat(b, { bigint: true })]);
  const name = shown === '' ? '/' : shown;
  const differs = differingAttribute(own, other);
  if (differs !== undefined) return `${name}: ${differs}`;
  if (own.isSymbolicLink()) {
    const [to, otherTo] = await Promise.all([readlink(a, 'buffer'), readlink(b, 'buffer')]);
    return to.equals(otherTo) ? undefined : `${name}: it leads to ${to}, not to ${otherTo}`;
  }
  if (own.isFile()) return (await sameBytes(a, b)) ? undefined : `${name}: other bytes`;
  if (!own.isDirectory()) return undefined;
  const [names, otherNames] = await Promise.all([namesIn(a), namesIn(b)]);
  for (const [one, entry] of otherNames) if (!names.has(one)) return `${shown}/${entry}: it is missing`;
  for (const [one, entry] of names) if (!otherNames.has(one)) return `${shown}/${entry}: it does not belong there`;
  for (const entry of names.values()) {
    const below = (dir: Buffer): Buffer => Buffer.concat([dir, SLASH, entry]);
    const found = await compare(below(a), below(b), `${shown}/${entry}`, signal);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function namesIn(dir: Buffer): Promise<Map<string, Buffer>> {
  const names = await readdir(dir, { encoding: 'buffer' });
  return new Map(names.map((name) => [name.toString('latin1'), name]));
}

function differingAttribute(own: BigIntStats, other: BigIntStats): string | undefined {
  const show: [string, (stats: BigIntStats) => bigint, number][] = [
    ['mode', ({ mode }) => mode, 8],
    ['owner', ({ uid }) => uid, 10],
    ['group', ({ gid }) => gid, 10],
    ['device', ({ rdev }) => rdev, 10],
    ['size', (stats) => (stats.isDirectory() ? 0n : stats.size), 10],
    ['number of links', (stats) => (stats.isDirectory() ? 0n : stats.nlink), 10],
    // an archive need not name its directories, and its root it seldom does: those are as old as their unpacking
    ['time', (stats) => (stats.isDirectory() ? 0n : stats.mtimeNs), 10],
  ];
  const differing = show.find(([, value]) => value(own) !== value(other));
  if (differing === undefined) return undefined;
  const [what, value, base] = differing;
  return `its ${what} is ${value(own).toString(base)}, not ${value(other).toString(base)}`;
}

async function sameBytes(a: Buffer, b: Buffer): Promise<boolean> {
  await using own = await open(a);
  await using other = await open(b);
  const [mine, theirs] = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)];
  for (let at = 0; ; ) {
    const [{ bytesRead }, second] = await Promise.all([
      own.read(mine, 0, CHUNK_BYTES, at),
      other.read(theirs, 0, CHUNK_BYTES, at),
    ]);
    if (bytesRead !== second.bytesRead) return false;
    if (bytesRead === 0) return true;
    if (mine.compare(theirs, 0, bytesRead, 0, bytesRead) !== 0) return false;
    at += bytesRead;
  }
}
