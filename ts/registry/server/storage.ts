/**
 * Where the bytes of blobs are. Vocabulary: an *upload* is a blob being written, named by its session's id; *commit*
 * makes it a blob, named by its digest; a blob that nobody wants is *retired* (from then on it is not found, and one of
 * the same digest may be committed anew) and later *swept*.
 *
 * What is committed survives a power cut when `commit` resolves. Digests were checked by the caller, who also sees to
 * it that nobody retires what another commits at the same time. `__test__/suites/registry-storage.spec.ts` is the contract.
 */
import type { Readable } from 'node:stream';

export interface StoredUpload {
  id: string;
  modifiedMs: number;
}

export interface UploadWriter {
  /** Appends; resolves when the bytes are handed over, which may be before they are written. */
  write(chunk: Uint8Array): Promise<void>;
  /** Resolves when all that was handed over can be read. */
  flush(): Promise<void>;
  /** Waits for what is under way. To be called in every case, also after a failure. */
  close(): Promise<void>;
}

export interface BlobStorage {
  createUpload(id: string): Promise<void>;
  /** Bytes that the upload has; undefined when there is none. */
  uploadSize(id: string): Promise<number | undefined>;
  /** Continues an upload at that byte; what it has after it is dropped. */
  writeUpload(id: string, offset: number): Promise<UploadWriter>;
  /** Bytes of an upload from `start` on, up to and without `end`. */
  readUpload(id: string, start: number, end?: number): Readable;
  removeUpload(id: string): Promise<void>;
  uploads(): AsyncIterable<StoredUpload>;

  /** The upload becomes the blob; a blob that is there already is replaced by the same bytes. */
  commit(id: string, digest: string): Promise<void>;
  /** Rejects when the blob is not there; from then on the stream has all of it, whatever becomes of the blob. */
  read(digest: string, start: number, end: number): Promise<Readable>;
  /** A blob of few bytes as a whole. */
  readWhole(digest: string): Promise<Buffer>;
  has(digest: string): boolean;
  /** Synchronous, so that it belongs to the turn of the event loop in which its rows went. */
  retire(digest: string): void;
  /** Removes what was retired, also by an earlier process. */
  sweep(): Promise<void>;
  blobs(): AsyncIterable<string>;
}
