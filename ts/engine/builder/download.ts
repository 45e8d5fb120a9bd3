/** ADD of a URL: the file that is there, as it is. */
import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { join, posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import got from 'got';
import { CaissonError } from '../../errdefs.ts';
import type { SingleFile } from './copy.ts';

const CONNECT_MS = 30_000;

export type Download = SingleFile & { content: string };

/** To a file in `dir`. `checksum`: `sha256:…`, which the content must have. */
export async function download(
  url: string,
  dir: string,
  checksum: string | undefined,
  signal: AbortSignal,
): Promise<Download> {
  const request = got.stream(url, {
    signal,
    timeout: { connect: CONNECT_MS, response: CONNECT_MS },
    retry: { limit: 2 },
  });
  let headers: Record<string, string | string[] | undefined> = {};
  request.on('response', (response: { headers: typeof headers }) => {
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
  const digest = `sha256:${hash.digest('hex')}`;
  if (checksum !== undefined && checksum !== digest)
    throw new CaissonError('InvalidParameter', `ADD ${url}: digest mismatch ${digest}: ${checksum}`);
  const modified = Date.parse(String(headers['last-modified'] ?? ''));
  const mtimeMs = Number.isNaN(modified) ? 0 : modified;
  return { name: nameOf(url, headers), content, bytes, digest, mode: 0o600, mtimeMs };
}

/** '' when neither the URL nor the server has one. */
function nameOf(url: string, headers: Record<string, string | string[] | undefined>): string {
  const { pathname } = new URL(url);
  const [, given = ''] = /filename="?([^";]+)"?/.exec(String(headers['content-disposition'] ?? '')) ?? [];
  const name = posix.basename(pathname.endsWith('/') ? given : pathname);
  return decodeURIComponent(name);
}
