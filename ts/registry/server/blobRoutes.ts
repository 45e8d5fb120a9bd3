/** /v2/<name>/blobs/…: blobs and their uploads. */
import type { OutgoingHttpHeaders } from 'node:http';
import { isDigest } from '../../digest.ts';
import { RegistryError } from './errors.ts';
import { byteRange, type Exchange, etagMatches, send, sendBytes } from './exchange.ts';
import type { Registry } from './registry.ts';
import { digestOf } from './routes.ts';
import type { ByteSource } from './storage.ts';
import { type ChunkRange, rangeOf } from './uploads.ts';

/** A small body costs less as a whole than as a stream. */
const WHOLE_BYTES = 64 * 1024;

export const unknownBlob = (name: string, digest: string): RegistryError =>
  new RegistryError('BLOB_UNKNOWN', `${name} has no blob ${digest}`, { detail: { digest } });

export async function getBlob(registry: Registry, exchange: Exchange, name: string, digest: string): Promise<void> {
  const { blobs, storage } = registry;
  const size = exchange.method === 'HEAD' ? blobs.sizeKept(name, digest, Date.now()) : blobs.size(name, digest);
  if (size === undefined) throw unknownBlob(name, digest);
  try {
    const open = () => (size <= WHOLE_BYTES ? storage.readWhole(digest) : storage.open(digest));
    await sendBlob(exchange, digest, size, open);
  } catch (error) {
    // Collected since it was looked up.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw unknownBlob(name, digest);
    throw error;
  }
}

/** `open` gives the whole of a small blob, or where its bytes come from. */
export async function sendBlob(
  exchange: Exchange,
  digest: string,
  size: number,
  open: () => Promise<ByteSource | Buffer>,
  extra: OutgoingHttpHeaders = {},
): Promise<void> {
  const { request, method } = exchange;
  const headers: OutgoingHttpHeaders = {
    ...extra,
    'Docker-Content-Digest': digest,
    ETag: `"${digest}"`,
    'Accept-Ranges': 'bytes',
    // The bytes of a digest never change; whether they may be had is asked each time.
    'Cache-Control': 'private, no-cache',
  };
  if (etagMatches(request.headers['if-none-match'], digest)) return send(exchange, 304, headers);
  headers['Content-Type'] = 'application/octet-stream';
  if (method === 'HEAD') return send(exchange, 200, { ...headers, 'Content-Length': size });
  const ifRange = request.headers['if-range'] as string | undefined;
  const range =
    ifRange === undefined || etagMatches(ifRange, digest) ? byteRange(request.headers.range, size) : undefined;
  const { start, end } = range ?? { start: 0, end: size };
  headers['Content-Length'] = end - start;
  if (range !== undefined) headers['Content-Range'] = `bytes ${start}-${end - 1}/${size}`;
  const status = range === undefined ? 200 : 206;
  const body = await open();
  if (Buffer.isBuffer(body)) send(exchange, status, headers, body.subarray(start, end));
  else await sendBytes(exchange, status, headers, body, { start, end });
}

export async function deleteBlob(registry: Registry, exchange: Exchange, name: string, digest: string): Promise<void> {
  const outcome = registry.blobs.remove(name, digest);
  if (outcome === 'unknown') throw unknownBlob(name, digest);
  if (outcome === 'used')
    throw new RegistryError('UNSUPPORTED', `manifests of ${name} name the blob ${digest}: delete those first`);
  await registry.db.durable();
  send(exchange, 202, { 'Docker-Content-Digest': digest });
}

/** POST …/uploads/: a mount, a whole blob, or a session. */
export async function postUpload(registry: Registry, exchange: Exchange, name: string): Promise<void> {
  const { query, request } = exchange;
  const mount = query.get('mount');
  if (mount !== null && (await mountBlob(registry, exchange, name, digestOf(mount)))) return;
  const whole = query.get('digest');
  if (whole !== null) {
    const digest = digestOf(whole);
    const id = registry.uploads.start(name, algorithmOf(digest));
    await receiveWhole(registry, exchange, name, id);
    return finish(registry, exchange, name, id, digest);
  }
  request.resume();
  const algorithm = query.get('digest-algorithm') ?? 'sha256';
  if (algorithm !== 'sha256' && algorithm !== 'sha512')
    throw new RegistryError('DIGEST_INVALID', `unsupported digest algorithm ${JSON.stringify(algorithm.slice(0, 50))}`);
  const id = registry.uploads.start(name, algorithm);
  sendSession(exchange, 202, name, id, 0);
}

/** A cut body of a single request leaves no session behind: nobody knows its name. */
async function receiveWhole(registry: Registry, { request }: Exchange, name: string, id: string): Promise<void> {
  try {
    await registry.uploads.append(name, id, request, { range: undefined, last: true });
  } catch (error) {
    await registry.uploads.cancel(name, id);
    throw error;
  }
}

/** False when it cannot be mounted: the client uploads then. Without `from` any repository that he may pull serves. */
async function mountBlob(registry: Registry, exchange: Exchange, name: string, digest: string): Promise<boolean> {
  const { query, principal, request } = exchange;
  const from = query.get('from');
  const sources = from === null || from === '' ? registry.blobs.repositoriesOf(digest) : [from];
  const source = sources.find(
    (repository) => principal.may(repository, 'pull') && registry.blobs.mount(repository, name, digest, Date.now()),
  );
  if (source === undefined) return false;
  request.resume();
  await registry.db.durable();
  sendCreated(exchange, name, digest);
  return true;
}

export async function getUpload(registry: Registry, exchange: Exchange, name: string, id: string): Promise<void> {
  sendSession(exchange, 204, name, id, await registry.uploads.offset(name, id));
}

export async function patchUpload(registry: Registry, exchange: Exchange, name: string, id: string): Promise<void> {
  const offset = await registry.uploads.append(name, id, exchange.request, { range: chunkRange(exchange) });
  sendSession(exchange, 202, name, id, offset);
}

export async function putUpload(registry: Registry, exchange: Exchange, name: string, id: string): Promise<void> {
  const text = exchange.query.get('digest');
  if (!isDigest(text))
    throw new RegistryError(
      'DIGEST_INVALID',
      `the upload is closed with no valid digest: ${JSON.stringify(text)?.slice(0, 150)}`,
    );
  await registry.uploads.append(name, id, exchange.request, { range: chunkRange(exchange), last: true });
  await finish(registry, exchange, name, id, text);
}

export async function deleteUpload(registry: Registry, exchange: Exchange, name: string, id: string): Promise<void> {
  await registry.uploads.cancel(name, id);
  send(exchange, 204, {});
}

const algorithmOf = (digest: string): string => digest.slice(0, digest.indexOf(':'));

async function finish(registry: Registry, exchange: Exchange, name: string, id: string, digest: string): Promise<void> {
  await registry.uploads.finish(name, id, digest);
  sendCreated(exchange, name, digest);
}

const sendCreated = (exchange: Exchange, name: string, digest: string): void =>
  send(exchange, 201, { Location: `/v2/${name}/blobs/${digest}`, 'Docker-Content-Digest': digest });

const sendSession = (exchange: Exchange, status: number, name: string, id: string, offset: number): void =>
  send(exchange, status, {
    Location: `/v2/${name}/blobs/uploads/${id}`,
    Range: rangeOf(offset),
    'Docker-Upload-UUID': id,
  });

/** `Content-Range: 0-99`, which the specification writes without a unit. */
function chunkRange({ request }: Exchange): ChunkRange | undefined {
  const header = request.headers['content-range'];
  if (header === undefined) return undefined;
  const [, start, end] = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\d+|\*))?$/.exec(header) ?? [];
  const range = { start: Number(start), end: Number(end) };
  if (start === undefined || range.end < range.start)
    throw new RegistryError('BLOB_UPLOAD_INVALID', `invalid Content-Range ${JSON.stringify(header.slice(0, 100))}`, {
      status: 416,
    });
  const length = request.headers['content-length'];
  if (length !== undefined && Number(length) !== range.end - range.start + 1)
    throw new RegistryError('SIZE_INVALID', `Content-Range ${header} does not hold the ${length} bytes of the body`);
  return range;
}
