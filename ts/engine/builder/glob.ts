/** Paths and patterns of COPY and of `.dockerignore`; patterns in Go's dialect. */
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
