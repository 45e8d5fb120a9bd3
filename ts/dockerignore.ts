/** Paths and patterns of `.dockerignore` and COPY; patterns in Go's dialect. */
import { posix } from 'node:path';

/** `./a//b/` → `a/b`; '' for the root. */
export const cleaned = (path: string): string => posix.join('/', path).replace(/^\/|\/$/g, '');

const SIGN = /\\(.)|\*\*\/?|\*|\?|\[(\^?)((?:\\.|[^\]])+)\]|[^\\*?[]/gs;

/** No sign but a slash itself stands for a slash; with `deep`, `**` does for whole directories. */
export function globSource(pattern: string, { deep = false } = {}): string {
  return pattern.replace(SIGN, (sign, escaped?: string, not?: string, set?: string) => {
    if (escaped !== undefined) return quoted(escaped);
    if (sign.startsWith('**')) return deep ? (sign === '**' ? '.*' : '(?:.*/)?') : sign === '**' ? '[^/]*' : '[^/]*/';
    if (sign === '*') return '[^/]*';
    if (sign === '?') return '[^/]';
    if (set !== undefined) return `[${not}${set}]`;
    return quoted(sign);
  });
}

const quoted = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');

/** Patterns in order, the last that fits decides; `!` takes back. What is below a directory that fits is excluded too. */
export function ignores(rules: string, path: string): boolean {
  let excluded = false;
  for (const line of rules.replace(/^\uFEFF/, '').split(/\r?\n/)) {
    const rule = line.trim();
    if (rule === '' || line.startsWith('#')) continue;
    const takesBack = rule.startsWith('!');
    const pattern = cleaned(rule.slice(takesBack ? 1 : 0).trim());
    if (pattern !== '' && fits(pattern, path)) excluded = !takesBack;
  }
  return excluded;
}

const fits = (pattern: string, path: string): boolean =>
  new RegExp(`^${globSource(pattern, { deep: true })}(?:/|$)`).test(path);

/** Something below what is excluded may be taken back. */
export const hasExceptions = (rules: string): boolean => /^\s*!/m.test(rules);
