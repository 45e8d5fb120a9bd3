/** `COPY --exclude` and `--parents`: what of a directory is taken. */
import { posix } from 'node:path';
import { cleaned, fitting, ignoring } from '../../dockerignore.ts';
import { type Entry, hashOfTree } from './listing.ts';

export interface Narrow {
  /** Patterns of what is left out; `!` takes back. */
  exclude: readonly string[];
  /** A pattern of what is taken; without one it is everything. */
  include?: string;
}

/** Of a directory of which nothing is taken. */
export const NOTHING = hashOfTree(new Map());

export const isNarrow = ({ exclude, include }: Narrow): boolean => exclude.length > 0 || include !== undefined;

/** `entries`: what is in the directory, by its path from there. */
export function narrowed(
  entries: ReadonlyMap<string, Entry>,
  narrow: Narrow,
): { hash: string; except?: readonly string[] } {
  if (!isNarrow(narrow)) return { hash: hashOfTree(entries) };
  const { exclude, include } = narrow;
  const isIgnored = ignoring(exclude);
  const isIncluded = fitting(include ?? '**');
  const taken = new Set<string>();
  for (const name of entries.keys()) {
    if (isIgnored(name) || !isIncluded(name)) continue;
    // with the directories that it is in
    for (let at = name; at !== '.' && !taken.has(at); at = posix.dirname(at)) taken.add(at);
  }
  const hash = hashOfTree(new Map([...entries].filter(([name]) => taken.has(name))));
  const isTaken = (name: string): boolean => name === '.' || taken.has(name);
  const except = [...entries.keys()].filter((name) => !isTaken(name) && isTaken(posix.dirname(name)));
  return { hash, except };
}

/** `--parents`: `a/./b/c` is `b/c` of the directory `a`. */
export function pivotOf(path: string): { base: string; pattern: string } {
  const [, base = '', pattern = ''] = /^(?:(.*?)\/\.\/)?(.*)$/s.exec(path) ?? [];
  return { base: cleaned(base), pattern: cleaned(pattern) || '**' };
}
