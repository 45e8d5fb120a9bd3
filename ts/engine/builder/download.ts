/** ADD of a URL: the file that is there, as it is, fetched when a step needs it. */
import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { join, posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import got from 'got';
import { CaissonError } from '../../errdefs.ts';
import type { SingleFile } from './copy.ts';
import { BUILDKIT_VERSION } from './dockerfile.ts';

const CONNECT_MS = 30_000;
/** Servers know the builder of Docker by its name. */
const HEADERS = { 'user-agent': `buildkit/${BUILDKIT_VERSION} (caisson)` };
const TIMEOUT = { connect: CONNECT_MS, response: CONNECT_MS };
const MODE = 0o600;
/** How many URLs are known at most. */
const MAX_KNOWN = 256;

type Headers = Record<string, string | string[] | undefined>;

export interface Download {
  /** '' when neither the URL nor the server has one. */
  name: string;
  /** Where the content is. */
  content: string;
  bytes: number;
  /** `sha256:…` */
  digest: string;
  mtimeMs: number;
  etag: string | undefined;
}

interface Options {
  /** Where files go. */
  dir: string;
  signal: AbortSignal;
}

export async function download(url: string, { dir, signal }: Options): Promise<Download> {
  const request = got.stream(url, { headers: HEADERS, signal, timeout: TIMEOUT, retry: { limit: 2 } });
  let headers: Headers = {};
  request.on('response', (response: { headers: Headers }) => {
    headers = response.headers;
  });
  const content = join(dir, `download-${randomBytes(8).toString('hex')}`);
  const hash = createHash('sha256');
  let bytes = 0;
  const hashed = async function* (parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const part of parts) {
      hash.update(part);
      bytes += part.length;
      yield part;
    }
  };
  try {
    await pipeline(request, hashed, createWriteStream(content));
  } catch (error) {
    throw new CaissonError('InvalidParameter', `ADD failed: failed to GET ${url}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const modified = Date.parse(String(headers['last-modified'] ?? ''));
  return {
    name: nameOf(url, headers),
    content,
    bytes,
    digest: `sha256:${hash.digest('hex')}`,
    mtimeMs: Number.isNaN(modified) ? 0 : modified,
    etag: typeof headers.etag === 'string' ? headers.etag : undefined,
  };
}

type Known = Pick<Download, 'name' | 'digest' | 'etag'>;

/** What earlier builds found at URLs: what is the same still need not come again for a step that is known. */
export class Downloads {
  readonly #known = new Map<string, Known>();

  /** `checksum`: `sha256:…`, which the content must have. */
  async file(url: string, options: Options & { checksum: string | undefined }): Promise<SingleFile> {
    const { checksum, signal } = options;
    const known = this.#known.get(url);
    const name = known?.name ?? nameOf(url, {});
    // what it must be says what it is
    if (checksum !== undefined && name !== '') return this.#later(url, { name, digest: checksum }, options);
    if (known !== undefined && (await isSame(url, known, signal))) return this.#later(url, known, options);
    const there = await this.#fetched(url, options);
    return { name: there.name, digest: there.digest, mode: MODE, read: () => Promise.resolve(there) };
  }

  #later(url: string, { name, digest }: Omit<Known, 'etag'>, options: Options): SingleFile {
    const read = async (): Promise<Download> => {
      const there = await this.#fetched(url, options);
      if (there.digest !== digest)
        throw new CaissonError('InvalidParameter', `ADD ${url}: digest mismatch ${there.digest}: ${digest}`);
      return there;
    };
    return { name, digest, mode: MODE, read };
  }

  async #fetched(url: string, options: Options): Promise<Download> {
    const there = await download(url, options);
    this.#known.delete(url);
    this.#known.set(url, there);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
    return there;
  }
}

/** A server that cannot say is asked for all of it. */
async function isSame(url: string, { etag }: Known, signal: AbortSignal): Promise<boolean> {
  if (etag === undefined) return false;
  try {
    const headers = { ...HEADERS, 'if-none-match': etag };
    const answer = await got.head(url, {
      headers,
      signal,
      timeout: TIMEOUT,
      retry: { limit: 0 },
      throwHttpErrors: false,
    });
    return answer.statusCode === 304 || (answer.statusCode === 200 && answer.headers.etag === etag);
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

/** '' when neither the URL nor the server has one. */
function nameOf(url: string, headers: Headers): string {
  const { pathname } = new URL(url);
  const [, given = ''] = /filename="?([^";]+)"?/.exec(String(headers['content-disposition'] ?? '')) ?? [];
  return decodeURIComponent(posix.basename(pathname.endsWith('/') ? given : pathname));
}
