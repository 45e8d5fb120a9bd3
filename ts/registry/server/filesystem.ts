/**
 * Blobs as files.
 *
 *   <root>/
 *     blobs/sha256/<64 hex>    committed: whole, verified, synced, never changed
 *     uploads/<id>             being written
 *     retired/<random>         on its way out
 */
import { closeSync, createReadStream, existsSync, fsyncSync, mkdirSync, openSync, renameSync } from 'node:fs';
import { type FileHandle, open, opendir, readFile, rename, rm, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { checkDigest } from '../../digest.ts';
import { crypto } from '../../late.ts';
import type { BlobStorage, ByteSource, StoredUpload, UploadWriter } from './storage.ts';

const READ_BYTES = 1 << 20;
/** What is gathered before it is written: a system call a socket's read would cost more than the copy. */
const WRITE_BYTES = 1 << 20;

const isAbsent = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

export class FilesystemStorage implements BlobStorage {
  readonly #blobs: string;
  readonly #uploads: string;
  readonly #retired: string;
  readonly #syncs = new Map<string, { current: Promise<void>; next: Promise<void> | undefined }>();

  constructor(root: string) {
    this.#blobs = join(root, 'blobs');
    this.#uploads = join(root, 'uploads');
    this.#retired = join(root, 'retired');
    const algorithms = ['sha256', 'sha512'].map((algorithm) => join(this.#blobs, algorithm));
    for (const path of [...algorithms, this.#uploads, this.#retired]) mkdirSync(path, { recursive: true, mode: 0o700 });
    for (const path of [this.#blobs, root]) syncDirectorySync(path);
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
    if (offset === 0) return new GatheringWriter(await open(this.#upload(id), 'w', 0o600), 0);
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

  async openUpload(id: string): Promise<ByteSource> {
    return new FileSource(await open(this.#upload(id), 'r'));
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
    const target = this.#blob(digest);
    await rename(this.#upload(id), target);
    await this.#syncDirectory(dirname(target));
  }

  async open(digest: string): Promise<ByteSource> {
    return new FileSource(await open(this.#blob(digest), 'r'));
  }

  readWhole(digest: string): Promise<Buffer> {
    return readFile(this.#blob(digest));
  }

  has(digest: string): boolean {
    return existsSync(this.#blob(digest));
  }

  retire(digest: string): void {
    try {
      renameSync(this.#blob(digest), join(this.#retired, crypto().randomUUID()));
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
      for await (const { name } of await opendir(join(this.#blobs, algorithm.name))) yield `${algorithm.name}:${name}`;
  }

  /** One sync for all who have renamed before it began: clients that push at once share it. */
  #syncDirectory(path: string): Promise<void> {
    const waiting = this.#syncs.get(path);
    if (waiting?.next !== undefined) return waiting.next;
    const run = (): Promise<void> => {
      const current = syncPath(path);
      this.#syncs.set(path, { current, next: undefined });
      const settled = (): void => {
        if (this.#syncs.get(path)?.next === undefined) this.#syncs.delete(path);
      };
      current.then(settled, settled);
      return current;
    };
    if (waiting === undefined) return run();
    waiting.next = waiting.current.catch(() => undefined).then(run);
    return waiting.next;
  }

  /** Ids are made by us, but come back from clients. */
  #upload(id: string): string {
    if (!/^[0-9a-f-]{36}$/.test(id)) throw new Error(`no upload id: ${id}`);
    return join(this.#uploads, id);
  }

  #blob(digest: string): string {
    const [algorithm = '', hex = ''] = checkDigest(digest).split(':');
    return join(this.#blobs, algorithm, hex);
  }
}

class FileSource implements ByteSource {
  readonly #file: FileHandle;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async read(into: Buffer, position: number): Promise<number> {
    return (await this.#file.read(into, 0, into.length, position)).bytesRead;
  }

  close(): Promise<void> {
    return this.#file.close();
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

  async close(sync = false): Promise<void> {
    try {
      await this.flush();
      if (sync) await this.#file.sync();
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

function syncDirectorySync(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
