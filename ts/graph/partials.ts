/**
 * Beginnings of blobs whose download was cut off, so that the next one goes on from there:
 *
 *   <data>/content/partial/<algorithm>-<hex>    a hard link to the ingest that is being written
 *
 * The link outlives whatever ends the download: an abort, SIGKILL of the daemon. Nobody has checked these bytes; the digest
 * of the whole does. A beginning that nobody goes on with is removed after a day.
 */
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, link, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { checkDigest } from '../digest.ts';

export interface Beginning {
  file: FileHandle;
  sizeBytes: number;
}

const KEPT_MS = 24 * 3600 * 1000;

export class Partials {
  readonly #root: string;

  constructor(dataRoot: string) {
    this.#root = join(dataRoot, 'content', 'partial');
    mkdirSync(this.#root, { recursive: true, mode: 0o700 });
  }

  /** What is there of a blob; the caller closes it. */
  async open(digest: string, wholeBytes: number): Promise<Beginning | undefined> {
    const file = await open(this.#path(digest), 'r').catch(() => undefined);
    if (file === undefined) return undefined;
    const { size } = await file.stat();
    if (size > 0 && size <= wholeBytes) return { file, sizeBytes: size };
    await file.close();
    return undefined;
  }

  /**
   * From now on the file being written is the beginning to go on from, once it is longer than the last one (`beyondBytes`):
   * false until then.
   */
  async hold(digest: string, writing: string, beyondBytes: number): Promise<boolean> {
    const size = await stat(writing).then(
      (stats) => stats.size,
      () => 0,
    );
    if (size <= beyondBytes) return false;
    const aside = `${writing}.partial`;
    try {
      await link(writing, aside);
      await rename(aside, this.#path(digest));
      // Of two names of one file rename leaves both.
      await rm(aside, { force: true });
    } catch {
      // A file system without hard links: a download that is cut off there begins anew.
    }
    return true;
  }

  async drop(digest: string): Promise<void> {
    await rm(this.#path(digest), { force: true });
  }

  /** At start. */
  clean(nowMs = Date.now()): void {
    for (const name of readdirSync(this.#root)) {
      const path = join(this.#root, name);
      if (statSync(path).mtimeMs < nowMs - KEPT_MS) rmSync(path, { force: true });
    }
  }

  /** All of them: the bytes that this frees. */
  prune(): number {
    const paths = readdirSync(this.#root).map((name) => join(this.#root, name));
    let bytes = 0;
    for (const path of paths) {
      const { size, nlink } = statSync(path);
      // One with a second name is being written.
      if (nlink > 1) continue;
      rmSync(path, { force: true });
      bytes += size;
    }
    return bytes;
  }

  sizeBytes(): number {
    return readdirSync(this.#root).reduce((sum, name) => {
      const { size, nlink } = statSync(join(this.#root, name));
      return sum + (nlink > 1 ? 0 : size);
    }, 0);
  }

  #path(digest: string): string {
    return join(this.#root, checkDigest(digest).replace(':', '-'));
  }
}
