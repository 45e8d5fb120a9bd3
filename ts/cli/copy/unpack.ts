/** A tar archive out of a container, unpacked on this machine: names that lead out of the directory are refused. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  createWriteStream,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { posix } from 'node:path';
import { finished, pipeline } from 'node:stream/promises';
import { Parser, type ReadEntry } from 'tar';
import { CaissonError } from '../../client/index.ts';

const refuse = (name: string, why: string): CaissonError =>
  new CaissonError('DataLoss', `${JSON.stringify(name)} of the container's archive ${why}`);

/** `from` → `to`: what the first name of each path becomes. */
export async function unpack(
  archive: AsyncIterable<Uint8Array>,
  dir: string,
  { from, to }: { from: string; to?: string },
): Promise<void> {
  const times: { path: string; mtime: Date }[] = [];
  const rename = (name: string): string => {
    const clean = posix.normalize(name).replace(/\/$/, '');
    if (to === undefined) return clean;
    if (from === '.') return posix.join(to, clean);
    return clean === from || clean.startsWith(`${from}/`) ? to + clean.slice(from.length) : clean;
  };
  let failed: unknown;
  let before = Promise.resolve();
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      before = before
        .then(() => (failed === undefined ? place(entry, dir, rename, times) : undefined))
        .catch((error: unknown) => {
          failed ??= error;
        })
        .finally(() => entry.resume());
    },
  });
  const ended = once(parser, 'end');
  ended.catch(() => undefined);
  for await (const chunk of archive) {
    if (failed !== undefined) throw failed;
    if (!parser.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)))
      await Promise.race([once(parser, 'drain'), before]);
  }
  parser.end();
  await ended;
  await before;
  if (failed !== undefined) throw failed;
  // Last, since each new entry changes its directory's time.
  for (const { path, mtime } of times.reverse()) utimesSync(path, mtime, mtime);
}

/** Its path under the directory, whose parents are directories and no links. */
function inside(dir: string, name: string, shown: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw refuse(shown, 'leads out of the directory');
  let path = dir.replace(/\/\.?$/, '') || '/';
  for (const part of parts.slice(0, -1)) {
    path = posix.join(path, part);
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) mkdirSync(path);
    else if (!found.isDirectory()) throw refuse(shown, `would be written through ${path}, which is no directory`);
  }
  return posix.join(path, parts.at(-1) ?? '.');
}

async function place(
  entry: ReadEntry,
  dir: string,
  rename: (name: string) => string,
  times: { path: string; mtime: Date }[],
): Promise<void> {
  const path = inside(dir, rename(entry.path), entry.path);
  const there = lstatSync(path, { throwIfNoEntry: false });
  const isDirectory = entry.type === 'Directory';
  if (there?.isDirectory() && !isDirectory)
    throw new CaissonError('Conflict', `cannot overwrite directory ${JSON.stringify(path)} with non-directory`);
  if (there && !there.isDirectory() && isDirectory)
    throw new CaissonError('Conflict', `cannot overwrite non-directory ${JSON.stringify(path)} with directory`);
  if (there && !isDirectory) rmSync(path);
  const mode = (entry.mode ?? 0o644) & 0o7777;
  const mtime = entry.mtime ?? new Date();
  switch (entry.type) {
    case 'Directory':
      if (!there) mkdirSync(path);
      chmodSync(path, mode);
      times.push({ path, mtime });
      return;
    case 'SymbolicLink':
      symlinkSync(entry.linkpath ?? '', path);
      lutimesSync(path, mtime, mtime);
      return;
    case 'Link':
      linkSync(inside(dir, rename(entry.linkpath ?? ''), entry.path), path);
      return;
    case 'FIFO':
    case 'CharacterDevice':
    case 'BlockDevice':
      makeNode(entry, path);
      break;
    default: {
      const file = createWriteStream(path, { flags: 'wx', mode: 0o600 });
      await pipeline(entry as unknown as AsyncIterable<Buffer>, file);
      await finished(file).catch(() => undefined);
    }
  }
  chmodSync(path, mode);
  utimesSync(path, mtime, mtime);
}

function makeNode({ type, header }: ReadEntry, path: string): void {
  const numbers = [String(header.devmaj ?? 0), String(header.devmin ?? 0)];
  const args = type === 'FIFO' ? ['p'] : [type === 'BlockDevice' ? 'b' : 'c', ...numbers];
  const { status, stderr } = spawnSync('mknod', [path, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new CaissonError('System', `cannot make ${path}: ${stderr?.trim() || 'mknod failed'}`);
}
