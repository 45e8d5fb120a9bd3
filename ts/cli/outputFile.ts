/** An archive to a file, or to standard output where that is no terminal. */
import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ExitCode } from './failure.ts';

export function requireOutput(path: string | undefined): void {
  if (path === undefined && process.stdout.isTTY)
    throw new ExitCode(1, 'caisson: cowardly refusing to write an archive to a terminal: use -o, or redirect');
}

/** The file appears whole, or not at all. */
export async function writeArchive(archive: AsyncIterable<Uint8Array>, path: string | undefined): Promise<void> {
  if (path === undefined) {
    await pipeline(Readable.from(archive), process.stdout, { end: false });
    return;
  }
  const partial = join(dirname(path), `.${basename(path)}.${process.pid}`);
  try {
    await pipeline(Readable.from(archive), createWriteStream(partial, { mode: 0o600 }));
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}
