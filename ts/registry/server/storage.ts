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
  /** Waits for what is under way, and with `sync` until it survives a power cut. To be called in every case, also after a failure. */
  close(sync?: boolean): Promise<void>;
}

export interface ByteSource {
  /** Fills the buffer from that byte on; resolves with how many bytes came: none at the end. */
  read(into: Buffer, position: number): Promise<number>;
  close(): Promise<void>;
}

export interface BlobStorage {
  /** Bytes that the upload has; undefined when nothing was ever written to it. */
  uploadSize(id: string): Promise<number | undefined>;
  /** Continues an upload at that byte, or begins it at 0; what it has after it is dropped. */
  writeUpload(id: string, offset: number): Promise<UploadWriter>;
  /** Bytes of an upload from `start` on, up to and without `end`. */
  readUpload(id: string, start: number, end?: number): Readable;
  /** The upload as far as it is written, to the same bytes also when it becomes a blob. Rejects when there is none. */
  openUpload(id: string): Promise<ByteSource>;
  removeUpload(id: string): Promise<void>;
  uploads(): AsyncIterable<StoredUpload>;

  /** The upload, which was closed with `sync`, becomes the blob; one that is there already is replaced by the same bytes. */
  commit(id: string, digest: string): Promise<void>;
  /** Rejects when the blob is not there; from then on all of it can be read, whatever becomes of the blob. */
  open(digest: string): Promise<ByteSource>;
  /** A blob of few bytes as a whole. */
  readWhole(digest: string): Promise<Buffer>;
  has(digest: string): boolean;
  /** Synchronous, so that nothing comes between it and the look whether the blob is wanted. */
  retire(digest: string): void;
  /** Removes what was retired, also by an earlier process. */
  sweep(): Promise<void>;
  blobs(): AsyncIterable<string>;
}
