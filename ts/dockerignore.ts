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

/** The lines that say something: `!` may stand before a path without slashes at its ends. */
export const ignoreRules = (text: string): string[] =>
  text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => {
      const rule = line.trim();
      const takesBack = rule.startsWith('!');
      return `${takesBack ? '!' : ''}${cleaned(rule.slice(takesBack ? 1 : 0).trim())}`;
    })
    .filter((rule) => rule.replace('!', '') !== '');

/** Patterns in order, the last that fits decides; `!` takes back. What is below a directory that fits is excluded too. */
export function ignores(text: string, path: string): boolean {
  let excluded = false;
  for (const rule of ignoreRules(text)) {
    const takesBack = rule.startsWith('!');
    if (fits(takesBack ? rule.slice(1) : rule, path)) excluded = !takesBack;
  }
  return excluded;
}

const fits = (pattern: string, path: string): boolean =>
  new RegExp(`^${globSource(pattern, { deep: true })}(?:/|$)`).test(path);

/** Something below what is excluded may be taken back. */
export const hasExceptions = (rules: string): boolean => /^\s*!/m.test(rules);
