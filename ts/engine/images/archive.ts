/**
 * Reads an image archive (`docker save`, or an OCI layout as a tar, each perhaps compressed) as it comes: JSON is kept,
 * bounded; layers go to the unpacker as they pass, told by their first bytes, because the manifest that names them may
 * stand behind them. Nothing is extracted by the names of the archive.
 */
import { posix } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Parser, type ReadEntry } from 'tar';
import { asCaissonError, CaissonError } from '../../errdefs.ts';

/** As containerd limits the JSON of an import; here of the whole archive. */
const JSON_LIMIT = 20 * 1024 * 1024;
const BLOCK = 512;

export interface ArchiveReader<L> {
  documents: Map<string, Buffer>;
  layers: Map<string, L>;
  /** Symbolic and hard links: old archives name one layer several times. */
  links: Map<string, string>;
}

export async function readArchive<L>(
  stream: Readable,
  signal: AbortSignal,
  onLayer: (path: string, bytes: AsyncIterable<Buffer>, size: number) => Promise<L>,
): Promise<ArchiveReader<L>> {
  const found: ArchiveReader<L> = { documents: new Map(), layers: new Map(), links: new Map() };
  let kept = 0;
  let failure: unknown;
  const onEntry = async (entry: ReadEntry): Promise<void> => {
    const path = normalise(entry.path);
    if (entry.type === 'SymbolicLink' && entry.linkpath)
      found.links.set(path, posix.join(posix.dirname(path), entry.linkpath));
    if (entry.type === 'Link' && entry.linkpath) found.links.set(path, normalise(entry.linkpath));
    if (entry.type !== 'File' || failure !== undefined) return void entry.resume();
    const chunks = entry[Symbol.asyncIterator]() as AsyncGenerator<Buffer>;
    const start = await firstBytes(chunks);
    if (isLayer(start.bytes)) {
      found.layers.set(path, await onLayer(path, rest(start, chunks), entry.size));
      return;
    }
    if (start.bytes[0] !== 0x7b && start.bytes[0] !== 0x5b) {
      for await (const _ of chunks);
      return;
    }
    kept += entry.size;
    if (kept > JSON_LIMIT)
      throw new CaissonError('InvalidParameter', `invalid image archive: its JSON is larger than ${JSON_LIMIT} bytes`);
    const parts: Buffer[] = [];
    for await (const chunk of rest(start, chunks)) parts.push(chunk);
    found.documents.set(path, Buffer.concat(parts));
  };
  const ended: Promise<void>[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      ended.push(
        onEntry(entry).catch((error: unknown) => {
          failure ??= error;
          entry.resume();
          parser.abort(asCaissonError(error));
        }),
      );
    },
  });
  try {
    await pipeline(stream, parser as unknown as NodeJS.WritableStream, { signal });
  } catch (error) {
    failure ??= new CaissonError('InvalidParameter', `invalid image archive: ${asCaissonError(error).message}`, {
      code: 'ARCHIVE_INVALID',
      cause: error,
    });
  }
  await Promise.all(ended);
  signal.throwIfAborted();
  if (failure !== undefined) throw failure;
  return found;
}

interface Start {
  bytes: Buffer;
  done: boolean;
}

/** Enough to tell a tar from JSON: one block, or all that there is. */
async function firstBytes(chunks: AsyncGenerator<Buffer>): Promise<Start> {
  const parts: Buffer[] = [];
  let size = 0;
  while (size < BLOCK) {
    const next = await chunks.next();
    if (next.done === true) return { bytes: Buffer.concat(parts), done: true };
    parts.push(next.value);
    size += next.value.length;
  }
  return { bytes: Buffer.concat(parts), done: false };
}

async function* rest(start: Start, chunks: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  if (start.bytes.length > 0) yield start.bytes;
  if (!start.done) yield* chunks;
}

function isLayer(bytes: Buffer): boolean {
  const gzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
  const zstd = bytes.length >= 4 && bytes.readUInt32LE(0) === 0xfd2fb528;
  // A tar without entries is two blocks of zeros.
  const tar =
    bytes.length >= BLOCK &&
    (bytes.toString('latin1', 257, 262) === 'ustar' || bytes.subarray(0, BLOCK).every((b) => b === 0));
  return gzip || zstd || tar;
}

const normalise = (path: string): string => posix.normalize(path).replace(/^(\.?\/)+/, '');
