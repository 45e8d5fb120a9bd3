/** One request with its answer, as the routes see them. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Principal } from './auth/rights.ts';
import { RegistryError } from './errors.ts';
import type { ByteSource } from './storage.ts';

export interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  method: string;
  query: URLSearchParams;
  principal: Principal;
}

export function send(
  { response, method }: Exchange,
  status: number,
  headers: OutgoingHttpHeaders,
  body?: Buffer | string,
): void {
  const length = body === undefined ? 0 : Buffer.byteLength(body);
  if (status !== 204 && status !== 304 && headers['Content-Length'] === undefined) headers['Content-Length'] = length;
  response.writeHead(status, headers);
  response.end(method === 'HEAD' ? undefined : body);
}

export const sendJson = (exchange: Exchange, value: unknown, headers: OutgoingHttpHeaders = {}): void =>
  send(exchange, 200, { 'Content-Type': 'application/json; charset=utf-8', ...headers }, JSON.stringify(value));

const SEND_BYTES = 512 * 1024;
const MAX_SPARE = 32;
/** Kept, because fresh memory of this size costs more than the copy into it. */
const spare: Buffer[] = [];

/** Nobody is being sent anything. */
export const dropSpareBuffers = (): void => {
  spare.length = 0;
};

/**
 * Sends the bytes from `start` on, up to and without `end`: one buffer is read while the other one is sent. Rejects when
 * the client goes away before the end. Closes the source.
 */
export async function sendBytes(
  { response }: Exchange,
  status: number,
  headers: OutgoingHttpHeaders,
  source: ByteSource,
  { start, end }: ByteRange,
): Promise<void> {
  const buffers = [0, 1].map(() => spare.pop() ?? Buffer.allocUnsafeSlow(SEND_BYTES)) as [Buffer, Buffer];
  let sending = Promise.resolve();
  try {
    response.writeHead(status, headers);
    for (let at = start, turn = 0; at < end; turn ^= 1) {
      const room = (turn === 0 ? buffers[0] : buffers[1]).subarray(0, Math.min(SEND_BYTES, end - at));
      const length = await source.read(room, at);
      if (length === 0) throw new Error(`the blob ends at ${at}, before ${end}`);
      at += length;
      await sending;
      sending = write(response, room.subarray(0, length));
      // Who awaits it next gets the failure.
      sending.catch(() => undefined);
    }
    await sending;
    response.end();
    if (spare.length < MAX_SPARE) spare.push(...buffers);
  } finally {
    await source.close();
  }
}

/** Resolves when the bytes are out of the buffer. */
function write(response: ServerResponse, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const gone = (): void => reject(new ClientGone());
    response.once('close', gone);
    response.write(bytes, (error) => {
      response.off('close', gone);
      if (error) reject(new ClientGone());
      else resolve();
    });
  });
}

/** Nobody is left to answer to. */
export class ClientGone extends Error {}

/** A whole body of at most that many bytes; 413 beyond, without having kept more than that. */
export async function readBody({ request }: Exchange, maxBytes: number): Promise<Buffer> {
  const tooLarge = (): RegistryError =>
    new RegistryError('SIZE_INVALID', `the body has more than ${maxBytes} bytes`, { status: 413 });
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  // Not for await: that would destroy the connection, and with it the answer.
  await new Promise<void>((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= maxBytes) chunks.push(chunk);
      else reject(tooLarge());
    });
    request.once('end', resolve).once('error', reject);
    request.once('close', () =>
      reject(new RegistryError('SIZE_INVALID', 'the request ended before its body was complete')),
    );
  });
  return Buffer.concat(chunks, length);
}

/** ETags are digests; the lists that clients send may have weak ones. */
export function etagMatches(header: string | undefined, digest: string): boolean {
  if (header === undefined) return false;
  return header.split(',').some((tag) => {
    const bare = tag.trim().replace(/^W\//, '');
    return bare === '*' || bare === `"${digest}"` || bare === digest;
  });
}

export interface Page {
  limit: number;
  last: string;
}

const MAX_PAGE = 1000;

/** `n` is clamped, not refused, when it is too large, and may be empty; what is no number is refused. */
export function pageOf(query: URLSearchParams): Page {
  const n = query.get('n') || null;
  if (n !== null && !/^\d+$/.test(n))
    throw new RegistryError('PAGINATION_NUMBER_INVALID', `n=${n.slice(0, 50)} is no number of entries`);
  return { limit: n === null ? MAX_PAGE : Math.min(Number(n), MAX_PAGE), last: query.get('last') ?? '' };
}

/** `rows` holds one more than the page takes when there is more. */
export function nextLink(
  path: string,
  { limit }: Page,
  rows: readonly string[],
  more: Record<string, string> = {},
): OutgoingHttpHeaders {
  if (limit === 0 || rows.length <= limit) return {};
  const query = new URLSearchParams({ ...more, n: String(limit), last: rows[limit - 1] ?? '' });
  return { Link: `<${path}?${query}>; rel="next"` };
}

export interface ByteRange {
  start: number;
  /** Exclusive. */
  end: number;
}

/** RFC 9110, 14: undefined for the whole, also when the header is not understood or has several ranges; throws 416. */
export function byteRange(header: string | undefined, size: number): ByteRange | undefined {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header?.replaceAll(' ', '') ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  const range =
    first === ''
      ? { start: Math.max(0, size - Number(last)), end: size }
      : { start: Number(first), end: last === '' ? size : Math.min(Number(last) + 1, size) };
  if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined;
  if (range.start >= size || (first === '' && Number(last) === 0))
    throw new RegistryError('SIZE_INVALID', `the range ${header} is outside of the ${size} bytes`, {
      status: 416,
      headers: { 'Content-Range': `bytes */${size}` },
    });
  return range;
}
