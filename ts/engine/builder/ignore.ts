/** `.dockerignore`: the client leaves out what it names; here it is only asked for the files that had to be sent all the same. */
import { cleaned, globSource } from './glob.ts';

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
