import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The directory of caisson's own package.json, whether this runs from `ts/` (tests) or from `dist/ts/` (installed). */
export const packageRoot: string = (() => {
  for (let dir = import.meta.dirname; ; dir = dirname(dir)) {
    if (existsSync(join(dir, 'package.json'))) return dir;
    if (dir === '/') throw new Error(`caisson: no package.json above ${import.meta.dirname}`);
  }
})();
