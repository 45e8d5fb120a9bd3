/**
 * Reads an image archive (`docker save`, or an OCI layout as a tar, each perhaps compressed) as it comes: JSON is kept,
 * bounded; layers go to the unpacker as they pass, told by their first bytes, because the manifest that names them may
 * stand behind them. Nothing is extracted by the names of the archive.
 */
import { once } from 'node:events';
import { posix } from 'node:path';
import { Parser, type ReadEntry } from 'tar';
import { abortable } from '../../async.ts';
import { asCaissonError, CaissonError } from '../../errdefs.ts';

/** As containerd limits the JSON of an import; here of the whole archive. */
const JSON_LIMIT = 20 * 1024 * 1024;
const BLOCK = 512;
/** Without a byte it is a layer without files: old archives have such. */
const EMPTY_LAYER = 'layer.tar';

export interface ArchiveReader<L> {
  documents: Map<string, Buffer>;
  layers: Map<string, L>;
  /** Symbolic and hard links: old archives name one layer several times. */
  links: Map<string, string>;
}

export async function readArchive<L>(
  stream: AsyncIterable<Buffer>,
  signal: AbortSignal,
  onLayer: (path: string, bytes: AsyncIterable<Buffer>, size: number) => Promise<L>,
): Promise<ArchiveReader<L>> {
  const found: ArchiveReader<L> = { documents: new Map(), layers: new Map(), links: new Map() };
  // The first failure ends everything: the pump, and whoever waits for bytes of an entry that will not come.
  const failed = new AbortController();
  const stopped = AbortSignal.any([signal, failed.signal]);
  let kept = 0;

  const readEntry = async (entry: ReadEntry, path: string): Promise<void> => {
    const chunks = entryChunks(entry, stopped);
    const start = await firstBytes(chunks);
    if (isLayer(start.bytes) || (entry.size === 0 && posix.basename(path) === EMPTY_LAYER)) {
      found.layers.set(path, await onLayer(path, rest(start, chunks), entry.size));
      return;
    }
    if (start.bytes[0] !== 0x7b && start.bytes[0] !== 0x5b) {
      for await (const _ of chunks);
      return;
    }
    kept += entry.size;
    if (kept > JSON_LIMIT) throw invalid(`its JSON is larger than ${JSON_LIMIT} bytes`);
    const parts: Buffer[] = [];
    for await (const chunk of rest(start, chunks)) parts.push(chunk);
    found.documents.set(path, Buffer.concat(parts));
  };

  const entries: Promise<void>[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      const path = normalise(entry.path);
      if (entry.type === 'SymbolicLink' && entry.linkpath)
        found.links.set(path, posix.join(posix.dirname(path), entry.linkpath));
      if (entry.type === 'Link' && entry.linkpath) found.links.set(path, normalise(entry.linkpath));
      if (entry.type === 'File') entries.push(readEntry(entry, path).catch((error: unknown) => failed.abort(error)));
      else entry.resume();
    },
  });
  parser.on('error', (error) => failed.abort(invalid(asCaissonError(error).message, error)));
  try {
    await pump(stream, parser, stopped);
    await abortable(Promise.all(entries), stopped);
  } catch (error) {
    failed.abort(error);
    await Promise.all(entries);
    throw error;
  }
  stopped.throwIfAborted();
  return found;
}

const invalid = (reason: string, cause?: unknown): CaissonError =>
  new CaissonError('InvalidParameter', `invalid image archive: ${reason}`, { code: 'ARCHIVE_INVALID', cause });

/** By hand, because the parser may throw out of write and end, where a pipe would let it go uncaught. */
async function pump(stream: AsyncIterable<Buffer>, parser: Parser, stopped: AbortSignal): Promise<void> {
  const ended = once(parser, 'end');
  ended.catch(() => undefined);
  const chunks = stream[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await abortable(chunks.next(), stopped);
      if (next.done === true) break;
      if (!attempt(() => parser.write(next.value))) await abortable(once(parser, 'drain'), stopped);
    }
  } catch (error) {
    // Not awaited: it waits for the chunk that was asked for, which may never come.
    chunks.return?.().catch(() => undefined);
    throw error;
  }
  attempt(() => parser.end());
  await abortable(ended, stopped);
}

function attempt<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw invalid(asCaissonError(error).message, error);
  }
}

async function* entryChunks(entry: ReadEntry, stopped: AbortSignal): AsyncGenerator<Buffer> {
  const chunks = entry[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  for (;;) {
    const next = await abortable(chunks.next(), stopped);
    if (next.done === true) return;
    yield next.value;
  }
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
