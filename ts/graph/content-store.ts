/**
 * Blobs by digest: manifests, indexes, configs and compressed layers.
 *
 *   <data>/content/
 *     blobs/sha256/<64 hex>    committed: complete, verified, synced, and never changed
 *     ingest/<random>          being written, or on its way out; emptied at start
 *
 * A blob comes into being by: write and sync the ingest, check digest and size, rename, sync the directory, row. So a row
 * promises a whole file, also after a power cut. Going is the reverse: row, then file.
 *
 * Whoever needs a blob for longer than one transaction holds a lease on its digest *before* looking for it: see gc.ts.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdirSync, type ReadStream, readdirSync, renameSync, rmSync } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { checkDigest } from '../digest.ts';
import { CaissonError } from '../errdefs.ts';
import type { BlobRow, BlobStore } from './blobs.ts';

export interface ExpectedBlob {
  mediaType: string;
  /** Absent: whatever it turns out to be (sha256). */
  digest?: string;
  sizeBytes?: number;
  signal?: AbortSignal;
}

/** Manifests and configs are read whole; a larger one is refused (security.md row 43). */
const MAX_READ_BYTES = 8 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;

export class ContentStore {
  readonly #blobs: BlobStore;
  /** All of it, with beginnings of downloads (partials.ts). */
  readonly directory: string;
  readonly #root: string;
  readonly #ingest: string;

  constructor(dataRoot: string, blobs: BlobStore) {
    this.#blobs = blobs;
    this.directory = join(dataRoot, 'content');
    this.#root = join(this.directory, 'blobs');
    this.#ingest = join(this.directory, 'ingest');
    for (const algorithm of ['sha256', 'sha512']) {
      mkdirSync(join(this.#root, algorithm), { recursive: true, mode: 0o700 });
    }
    mkdirSync(this.#ingest, { recursive: true, mode: 0o700 });
  }

  /** Where the blob is, if it is. */
  path(digest: string): string {
    const [algorithm = '', hex = ''] = checkDigest(digest).split(':');
    return join(this.#root, algorithm, hex);
  }

  /** A fresh path on the same file system for a blob that somebody else writes, verifies and syncs; then `commit` it. */
  newIngest(): string {
    return join(this.#ingest, randomBytes(16).toString('hex'));
  }

  /**
   * Writes a blob. Kind DataLoss when digest or size are not the expected ones; then, and when the source fails, nothing
   * is left. A blob that is there already is checked and written again, to no effect.
   */
  async ingest(
    source: Uint8Array | AsyncIterable<Uint8Array>,
    { mediaType, digest, sizeBytes, signal }: ExpectedBlob,
  ): Promise<BlobRow> {
    const path = this.newIngest();
    const file = await open(path, 'wx', 0o600);
    try {
      const written = await write(file, source, digest, sizeBytes, signal)
        .then(async (done) => {
          await file.datasync();
          return done;
        })
        .finally(() => file.close());
      return await this.commit(path, { ...written, mediaType });
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  /** Takes over an ingest whose bytes are complete, verified against `digest` and synced. */
  async commit(ingest: string, blob: Omit<BlobRow, 'createdMs'>): Promise<BlobRow> {
    const target = this.path(blob.digest);
    await rename(ingest, target);
    await syncDirectory(join(target, '..'));
    const row = { ...blob, createdMs: Date.now() };
    this.#blobs.insert(row);
    return row;
  }

  has(digest: string): boolean {
    return this.#blobs.get(digest) !== undefined;
  }

  /** The bytes of a large blob, not checked: whoever takes them does. */
  stream(digest: string, offset = 0): ReadStream {
    return createReadStream(this.path(digest), { start: offset, highWaterMark: CHUNK_BYTES });
  }

  /** As `stream`, and ends with kind DataLoss when the bytes were not the blob's. */
  async *verified(digest: string): AsyncGenerator<Buffer> {
    const hash = createHash(checkDigest(digest).split(':')[0] ?? '');
    for await (const chunk of this.stream(digest) as AsyncIterable<Buffer>) {
      hash.update(chunk);
      yield chunk;
    }
    const found = `${digest.split(':')[0]}:${hash.digest('hex')}`;
    if (found !== digest) throw damaged(digest, found);
  }

  /** The whole blob, up to 8 MiB. Kind NotFound; kind DataLoss when the file is not what the row promises. */
  async read(digest: string): Promise<Buffer> {
    const row = this.#blobs.get(checkDigest(digest));
    if (row === undefined) {
      throw new CaissonError('NotFound', `blob ${digest} is not in the content store`, { code: 'BLOB_NOT_FOUND' });
    }
    if (row.sizeBytes > MAX_READ_BYTES) {
      throw new CaissonError(
        'InvalidParameter',
        `blob ${digest} has ${row.sizeBytes} bytes; a ${row.mediaType} of more than ${MAX_READ_BYTES} is not read`,
      );
    }
    let bytes: Buffer;
    try {
      bytes = await readFile(this.path(digest));
    } catch (error) {
      throw new CaissonError('DataLoss', `blob ${digest} is lost: ${this.path(digest)} cannot be read`, {
        cause: error,
      });
    }
    const found = digestOf(digest, bytes);
    if (found !== digest) throw damaged(digest, found);
    return bytes;
  }

  /** What is wrong with a blob's file, in words; undefined when it is what its row promises. Reads all of it. */
  async examine({ digest, sizeBytes }: Pick<BlobRow, 'digest' | 'sizeBytes'>): Promise<string | undefined> {
    const hash = createHash(checkDigest(digest).split(':')[0] ?? '');
    let size = 0;
    try {
      for await (const chunk of this.stream(digest) as AsyncIterable<Buffer>) {
        hash.update(chunk);
        size += chunk.length;
      }
    } catch (error) {
      return `its file cannot be read: ${(error as Error).message}`;
    }
    if (size !== sizeBytes) return `its file has ${size} bytes, not ${sizeBytes}`;
    const found = `${digest.split(':')[0]}:${hash.digest('hex')}`;
    return found === digest ? undefined : `its bytes have the digest ${found}`;
  }

  /**
   * Moves the files of blobs whose rows were just deleted out of the way; call it in the same turn of the event loop as
   * that transaction. From then on a new blob of the same digest has nothing to fear. Returns what to unlink.
   */
  detach(digests: readonly string[]): string[] {
    const moved: string[] = [];
    for (const digest of digests) {
      const path = this.newIngest();
      try {
        renameSync(this.path(digest), path);
        moved.push(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
    return moved;
  }

  /** Of a damaged blob row and file go, whoever refers to it. */
  async giveUp(digest: string): Promise<void> {
    this.#blobs.giveUp(digest);
    await this.unlink(this.detach([digest]));
  }

  async unlink(paths: readonly string[]): Promise<void> {
    await Promise.all(paths.map((path) => unlink(path)));
  }

  /** At start, before anything is ingested: what an earlier daemon left, and files without a row. */
  clean(): void {
    for (const name of readdirSync(this.#ingest)) rmSync(join(this.#ingest, name), { force: true });
    const known = new Set(this.#blobs.all().map((blob) => this.path(blob.digest)));
    for (const algorithm of readdirSync(this.#root)) {
      for (const name of readdirSync(join(this.#root, algorithm))) {
        const path = join(this.#root, algorithm, name);
        if (!known.has(path)) rmSync(path, { force: true });
      }
    }
  }
}

async function write(
  file: FileHandle,
  source: Uint8Array | AsyncIterable<Uint8Array>,
  digest: string | undefined,
  sizeBytes: number | undefined,
  signal: AbortSignal | undefined,
): Promise<{ digest: string; sizeBytes: number }> {
  const algorithm = digest === undefined ? 'sha256' : (checkDigest(digest).split(':')[0] ?? '');
  const hash = createHash(algorithm);
  let written = 0;
  for await (const chunk of source instanceof Uint8Array ? [source] : source) {
    signal?.throwIfAborted();
    written += chunk.byteLength;
    if (sizeBytes !== undefined && written > sizeBytes) {
      throw new CaissonError('DataLoss', `blob ${digest ?? ''} has more than the ${sizeBytes} bytes announced`);
    }
    hash.update(chunk);
    await file.writeFile(chunk);
  }
  const found = `${algorithm}:${hash.digest('hex')}`;
  if (digest !== undefined && found !== digest) {
    throw new CaissonError('DataLoss', `blob ${digest} has other bytes: their digest is ${found}`);
  }
  if (sizeBytes !== undefined && written !== sizeBytes) {
    throw new CaissonError('DataLoss', `blob ${found} has ${written} bytes, not the ${sizeBytes} announced`);
  }
  return { digest: found, sizeBytes: written };
}

const damaged = (digest: string, found: string): CaissonError =>
  new CaissonError('DataLoss', `blob ${digest} is damaged: its bytes have ${found}`, {
    code: 'BLOB_DAMAGED',
    hint: 'caisson system check --repair fetches it again, or pull or load its images again',
  });

function digestOf(digest: string, bytes: Uint8Array): string {
  const [algorithm = ''] = digest.split(':');
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  await directory.sync().finally(() => directory.close());
}
