/** The files of an image, to be read. */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { layersOf } from '../containers/spawn.ts';
import type { Engine } from '../engine.ts';
import type { ArchiveView } from '../native/files.ts';

/** Below `dir`, which is the caller's to remove. `chainId`: null for no files. */
export async function imageView(engine: Engine, dir: string, chainId: string | null): Promise<ArchiveView['overlay']> {
  const own = join(dir, randomBytes(8).toString('hex'));
  const empty = join(own, 'lower');
  for (const path of [empty, join(own, 'upper')]) await mkdir(path, { recursive: true });
  const lower = layersOf(engine, chainId);
  return {
    lower: lower.length > 0 ? lower : [empty],
    upper: join(own, 'upper'),
    work: join(own, 'work'),
    volatile: true,
  };
}
