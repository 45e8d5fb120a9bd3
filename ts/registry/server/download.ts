/** A blob on its way from an upstream into the storage, which clients read while it comes: one download for all of them. */
import type { BlobStorage, ByteSource, UploadWriter } from './storage.ts';

/** What is written at once, and what a reader waits for. */
const STEP_BYTES = 512 * 1024;

export interface DownloadOptions {
  storage: BlobStorage;
  /** Of the upload that it is written to. */
  id: string;
  digest: string;
  sizeBytes: number;
  /** Rejects unless it brings exactly the bytes of the digest. */
  source: AsyncIterable<Uint8Array>;
  /** Makes the upload the blob, and shows it. */
  commit: () => Promise<void>;
}

export class Download {
  readonly sizeBytes: number;
  readonly #storage: BlobStorage;
  readonly #id: string;
  readonly #digest: string;
  #writtenBytes = 0;
  #ended = false;
  #failure: unknown;
  #changed = Promise.withResolvers<void>();
  /** Resolves when the blob is committed; rejects when it did not come whole. */
  readonly done: Promise<void>;

  constructor({ storage, id, digest, sizeBytes, source, commit }: DownloadOptions) {
    this.#storage = storage;
    this.#id = id;
    this.#digest = digest;
    this.sizeBytes = sizeBytes;
    this.done = this.#run(source, commit);
    // Readers see it too; who only looks for the end need not.
    this.done.catch(() => undefined);
  }

  /** To be read as it comes, by each client at its own pace. */
  async open(): Promise<ByteSource> {
    // Until something is written there is no file.
    while (this.#writtenBytes === 0 && !this.#ended) await this.#changed.promise;
    const source = await this.#openNow();
    return { read: (into, position) => this.#read(source, into, position), close: () => source.close() };
  }

  async #run(source: AsyncIterable<Uint8Array>, commit: () => Promise<void>): Promise<void> {
    try {
      await this.#write(source, await this.#storage.writeUpload(this.#id, 0));
      // Who reads has all bytes, but not the file's name, until the commit is over.
      await commit();
    } catch (error) {
      this.#failure = error;
      await this.#storage.removeUpload(this.#id);
      throw error;
    } finally {
      this.#ended = true;
      this.#tell();
    }
  }

  async #write(source: AsyncIterable<Uint8Array>, writer: UploadWriter): Promise<void> {
    let receivedBytes = 0;
    try {
      for await (const chunk of source) {
        await writer.write(chunk);
        receivedBytes += chunk.byteLength;
        if (receivedBytes - this.#writtenBytes < STEP_BYTES) continue;
        await writer.flush();
        this.#writtenBytes = receivedBytes;
        this.#tell();
      }
    } finally {
      await writer.close(true);
    }
    this.#writtenBytes = receivedBytes;
    this.#tell();
  }

  async #openNow(): Promise<ByteSource> {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return await (this.#ended ? this.#storage.open(this.#digest) : this.#storage.openUpload(this.#id));
    } catch (error) {
      // It was committed between the look and the opening: it is a blob now.
      if (this.#ended || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      await this.done;
      return this.#storage.open(this.#digest);
    }
  }

  /** The last byte waits for the commit: what a client has whole has been checked. */
  async #read(source: ByteSource, into: Buffer, position: number): Promise<number> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const until = this.#ended ? this.sizeBytes : Math.min(this.#writtenBytes, this.sizeBytes - 1);
      if (until > position) return source.read(into.subarray(0, until - position), position);
      if (this.#ended) return 0;
      await this.#changed.promise;
    }
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}
