/** The files of an image, to be read. */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { layersOf } from '../containers/spawn.ts';
import type { Engine } from '../engine.ts';
import type { ArchiveView } from '../native/files.ts';
import type { Native } from '../native/index.ts';

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

/** A path as an archive; `name`: what it is called in there, '' for what is in a directory. */
export function archiveOf(native: Native, view: ArchiveView, path: string, name: string): Socket {
  const [readFd, writeFd] = native.pipe();
  const stream = new Socket({ fd: readFd, readable: true, writable: false });
  native.readArchive(view, path, { name }, writeFd).catch((error: Error) => stream.destroy(error));
  return stream;
}
