/** Paths and patterns of `.dockerignore` and COPY; patterns in Go's dialect. */
import { posix } from 'node:path';
import { CaissonError } from './errdefs.ts';

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
    .map((line) => ruleOf(line.trim()))
    .filter((rule) => rule !== '');

export function ruleOf(pattern: string): string {
  if (pattern === '!') throw new CaissonError('InvalidParameter', 'illegal exclusion pattern: "!"');
  return pattern.startsWith('!') ? `!${cleaned(pattern.slice(1).trim())}` : cleaned(pattern);
}

/** Rules in order, the last that fits decides; `!` takes back. What is below a directory that fits is excluded too. */
export function ignoring(rules: readonly string[]): (path: string) => boolean {
  const all = rules.map((rule) => ({ takesBack: rule.startsWith('!'), fits: fitting(rule.replace(/^!/, '')) }));
  return (path) => all.findLast(({ fits }) => fits(path))?.takesBack === false;
}

/** What the pattern names, and what is below that. */
export function fitting(pattern: string): (path: string) => boolean {
  const wanted = new RegExp(`^${globSource(pattern, { deep: true })}(?:/|$)`);
  return (path) => wanted.test(path);
}

/** Something below what is excluded may be taken back. */
export const hasExceptions = (rules: string): boolean => /^\s*!/m.test(rules);
