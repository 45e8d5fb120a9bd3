/** What the two paths of a copy mean: a trailing `/` or `/.` says "a directory" and "what is in it". */
import { lstatSync, readlinkSync, realpathSync, type Stats, statSync } from 'node:fs';
import { posix } from 'node:path';
import { CaissonError } from '../../client/index.ts';

/** One end of a copy. */
export interface CopyInfo {
  path: string;
  exists: boolean;
  isDirectory: boolean;
  /** The name that the copy gets, where it is not the path's own (a link was followed). */
  renamed?: string;
}

/** `container:path`; a path alone is local, and so is `./a:b`. */
export function splitArgument(text: string): { container?: string; path: string } {
  const colon = text.indexOf(':');
  if (text.startsWith('/') || text.startsWith('.') || colon < 0) return { path: text };
  return { container: text.slice(0, colon), path: text.slice(colon + 1) };
}

const saysCurrent = (path: string): boolean => path === '.' || path.endsWith('/.');
const saysDirectory = (path: string): boolean => path.endsWith('/') || saysCurrent(path);

/** Directory and last name; `.` counts as a name. */
export function splitPath(path: string): { dir: string; base: string } {
  const clean = posix.normalize(path).replace(/(?<=.)\/$/, '');
  if (!saysCurrent(path)) return { dir: posix.dirname(clean), base: posix.basename(clean) };
  return { dir: clean, base: '.' };
}

/** Absolute, with what its end says. */
export function absolute(path: string): string {
  const full = posix.resolve(path);
  const end = saysCurrent(path) ? '/.' : path.endsWith('/') ? '/' : '';
  return full === '/' || full.endsWith(end) ? full : full + end;
}

/** A link that was followed keeps its own name in the copy. */
export function nameOfLink(path: string, target: string): string | undefined {
  const [own, real] = [posix.basename(path), posix.basename(target)];
  return saysCurrent(path) || own === real ? undefined : own;
}

function lstat(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

export function localSource(given: string, followLink: boolean): CopyInfo {
  const path = absolute(given);
  const found = lstat(path.replace(/\/\.?$/, '') || '/');
  if (found === undefined)
    throw new CaissonError('NotFound', `lstat ${posix.normalize(path)}: no such file or directory`, {
      hint: 'the source is looked for on this machine',
    });
  const follow = followLink || (saysDirectory(path) && found.isSymbolicLink());
  const real = follow ? realpathSync(path) : path;
  const isDirectory = (follow ? statSync(real) : found).isDirectory();
  if (saysDirectory(path) && !isDirectory) throw new CaissonError('InvalidParameter', `${given}: not a directory`);
  const renamed = follow ? nameOfLink(path, real) : undefined;
  const kept = saysCurrent(path) && !saysCurrent(real) ? `${real}/.` : real;
  return { path: kept, exists: true, isDirectory, ...(renamed !== undefined && { renamed }) };
}

export function localTarget(given: string): CopyInfo {
  let path = absolute(given);
  for (let i = 0; i < 10; i++) {
    const found = lstat(path.replace(/\/\.?$/, '') || '/');
    if (found === undefined) {
      if (!statSync(splitPath(path).dir, { throwIfNoEntry: false })?.isDirectory())
        throw new CaissonError('NotFound', `invalid output path: directory "${splitPath(path).dir}" does not exist`, {
          hint: `create it: mkdir -p ${splitPath(path).dir}`,
        });
      return { path, exists: false, isDirectory: false };
    }
    if (!found.isSymbolicLink()) return { path, exists: true, isDirectory: found.isDirectory() };
    const bare = path.replace(/\/\.?$/, '');
    path = posix.resolve(posix.dirname(bare), readlinkSync(bare));
  }
  throw new CaissonError('InvalidParameter', `${given}: too many symbolic links`);
}

/** Where the archive is unpacked, and the name that its first name becomes (undefined: it stays). */
export function placement(source: CopyInfo, target: CopyInfo): { dir: string; from: string; to?: string } {
  const from = source.renamed ?? splitPath(source.path).base;
  if (target.exists && target.isDirectory) return { dir: target.path, from };
  if (target.exists && source.isDirectory)
    throw new CaissonError('InvalidParameter', 'cannot copy directory', { hint: `${target.path} is a file` });
  const { dir, base: to } = splitPath(target.path);
  if (!target.exists && !source.isDirectory && saysDirectory(target.path))
    throw new CaissonError('InvalidParameter', `the destination directory ${target.path} must exist`, {
      hint: 'without the slash at its end it is the name of the copy',
    });
  return { dir, from, to };
}
