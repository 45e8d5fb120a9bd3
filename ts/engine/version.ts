/** Versions that the daemon reports and negotiates. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../packageRoot.ts';

export const ENGINE_VERSION: string = (
  JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }
).version;

/** Docker Engine API: what docker CLI 28, compose 2.40 and docker-py speak. */
export const API_VERSION = '1.51';
export const MIN_API_VERSION = '1.24';
