/**
 * Blobs as files.
 *
 *   <root>/
 *     blobs/sha256/<2 hex>/<64 hex>    committed: whole, verified, synced, never changed
 *     uploads/<id>                     being written
 *     retired/<random>                 on its way out
 */
import { randomUUID } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, renameSync } from 'node:fs';
import { type FileHandle, mkdir, open, opendir, readFile, rename, rm, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { checkDigest } from '../../digest.ts';
import type { BlobStorage, StoredUpload, UploadWriter } from './storage.ts';

const READ_BYTES = 1 << 20;
/** What is gathered before it is written: a system call a socket's read would cost more than the copy. */
const WRITE_BYTES = 1 << 20;

const isAbsent = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

export class FilesystemStorage implements BlobStorage {
  readonly #blobs: string;
  readonly #uploads: string;
  readonly #retired: string;

  constructor(root: string) {
    this.#blobs = join(root, 'blobs');
    this.#uploads = join(root, 'uploads');
    this.#retired = join(root, 'retired');
    for (const path of [this.#blobs, this.#uploads, this.#retired]) mkdirSync(path, { recursive: true, mode: 0o700 });
  }

  async createUpload(id: string): Promise<void> {
    const file = await open(this.#upload(id), 'wx', 0o600);
    await file.close();
  }

  async uploadSize(id: string): Promise<number | undefined> {
    try {
      return (await stat(this.#upload(id))).size;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  async writeUpload(id: string, offset: number): Promise<UploadWriter> {
    const file = await open(this.#upload(id), 'r+');
    try {
      await file.truncate(offset);
    } catch (error) {
      await file.close();
      throw error;
    }
    return new GatheringWriter(file, offset);
  }

  readUpload(id: string, start: number, end?: number): Readable {
    if (end !== undefined && end <= start) return Readable.from([]);
    return createReadStream(this.#upload(id), {
      start,
      ...(end === undefined ? {} : { end: end - 1 }),
      highWaterMark: READ_BYTES,
    });
  }

  async removeUpload(id: string): Promise<void> {
    await rm(this.#upload(id), { force: true });
  }

  async *uploads(): AsyncIterable<StoredUpload> {
    for await (const { name } of await opendir(this.#uploads)) {
      const modifiedMs = await stat(join(this.#uploads, name)).then(
        (found) => found.mtimeMs,
        () => undefined,
      );
      if (modifiedMs !== undefined) yield { id: name, modifiedMs };
    }
  }

  async commit(id: string, digest: string): Promise<void> {
    const source = this.#upload(id);
    const target = this.#blob(digest);
    await syncPath(source);
    const made = await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    await rename(source, target);
    await syncPath(dirname(target));
    // A directory that is new is an entry of its parent, up to one that was there.
    if (made !== undefined)
      for (let at = dirname(target); at !== dirname(made); at = dirname(at)) await syncPath(dirname(at));
  }

  async read(digest: string, start: number, end: number): Promise<Readable> {
    const file = await open(this.#blob(digest), 'r');
    if (end <= start) {
      await file.close();
      return Readable.from([]);
    }
    return file.createReadStream({ start, end: end - 1, highWaterMark: READ_BYTES });
  }

  readWhole(digest: string): Promise<Buffer> {
    return readFile(this.#blob(digest));
  }

  has(digest: string): boolean {
    return existsSync(this.#blob(digest));
  }

  retire(digest: string): void {
    try {
      renameSync(this.#blob(digest), join(this.#retired, randomUUID()));
    } catch (error) {
      if (!isAbsent(error)) throw error;
    }
  }

  async sweep(): Promise<void> {
    for await (const { name } of await opendir(this.#retired)) {
      await unlink(join(this.#retired, name)).catch((error: unknown) => {
        if (!isAbsent(error)) throw error;
      });
    }
  }

  async *blobs(): AsyncIterable<string> {
    for await (const algorithm of await opendir(this.#blobs))
      for await (const shard of await opendir(join(this.#blobs, algorithm.name)))
        for await (const { name } of await opendir(join(this.#blobs, algorithm.name, shard.name)))
          yield `${algorithm.name}:${name}`;
  }

  /** Ids are made by us, but come back from clients. */
  #upload(id: string): string {
    if (!/^[0-9a-f-]{36}$/.test(id)) throw new Error(`no upload id: ${id}`);
    return join(this.#uploads, id);
  }

  #blob(digest: string): string {
    const [algorithm = '', hex = ''] = checkDigest(digest).split(':');
    return join(this.#blobs, algorithm, hex.slice(0, 2), hex);
  }
}

/** Gathers chunks and writes them while the next ones come: at most two lots are in memory. */
class GatheringWriter implements UploadWriter {
  readonly #file: FileHandle;
  #position: number;
  #gathered: Uint8Array[] = [];
  #gatheredBytes = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(file: FileHandle, position: number) {
    this.#file = file;
    this.#position = position;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#gathered.push(chunk);
    this.#gatheredBytes += chunk.byteLength;
    if (this.#gatheredBytes < WRITE_BYTES) return;
    await this.#writing;
    this.#begin();
  }

  async flush(): Promise<void> {
    await this.#writing;
    this.#begin();
    await this.#writing;
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.#file.close();
    }
  }

  #begin(): void {
    if (this.#gatheredBytes === 0) return;
    const chunks = this.#gathered;
    const position = this.#position;
    this.#position += this.#gatheredBytes;
    this.#gathered = [];
    this.#gatheredBytes = 0;
    this.#writing = writeAll(this.#file, chunks, position);
    // Who waits next gets it; nobody may.
    this.#writing.catch(() => undefined);
  }
}

async function writeAll(file: FileHandle, chunks: Uint8Array[], position: number): Promise<void> {
  const total = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  const { bytesWritten } = await file.writev(chunks, position);
  if (bytesWritten === total) return;
  // A full disk or a signal: the rest byte by byte position, until it errs or ends.
  const rest = Buffer.concat(chunks).subarray(bytesWritten);
  for (let done = 0; done < rest.length; )
    done += (await file.write(rest, done, rest.length - done, position + bytesWritten + done)).bytesWritten;
}

async function syncPath(path: string): Promise<void> {
  const file = await open(path, 'r');
  await file.sync().finally(() => file.close());
}
