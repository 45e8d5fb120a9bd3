/** ADD of a URL: the file that is there, as it is. */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import got from 'got';
import { CaissonError } from '../../errdefs.ts';
import type { InlineItem } from './copy.ts';

const MAX_BYTES = 1 << 30;
const CONNECT_MS = 30_000;

/** `checksum`: `sha256:…`, which the content must have. */
export async function download(url: string, checksum: string | undefined, signal: AbortSignal): Promise<InlineItem> {
  const request = got.stream(url, {
    signal,
    timeout: { connect: CONNECT_MS, response: CONNECT_MS },
    retry: { limit: 2 },
  });
  const parts: Buffer[] = [];
  let size = 0;
  let headers: Record<string, string | string[] | undefined> = {};
  request.on('response', (response: { headers: typeof headers }) => {
    headers = response.headers;
  });
  try {
    for await (const part of request as AsyncIterable<Buffer>) {
      size += part.length;
      if (size > MAX_BYTES) throw new CaissonError('InvalidParameter', `ADD ${url}: more than ${MAX_BYTES} bytes`);
      parts.push(part);
    }
  } catch (error) {
    if (error instanceof CaissonError) throw error;
    throw new CaissonError('InvalidParameter', `ADD failed: failed to GET ${url}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const content = Buffer.concat(parts);
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
  if (checksum !== undefined && checksum !== digest)
    throw new CaissonError('InvalidParameter', `ADD ${url}: digest mismatch ${digest}: ${checksum}`);
  const modified = Date.parse(String(headers['last-modified'] ?? ''));
  return { name: nameOf(url, headers), content, mode: 0o600, mtimeMs: Number.isNaN(modified) ? 0 : modified };
}

function nameOf(url: string, headers: Record<string, string | string[] | undefined>): string {
  const { pathname } = new URL(url);
  const [, given = ''] = /filename="?([^";]+)"?/.exec(String(headers['content-disposition'] ?? '')) ?? [];
  const name = posix.basename(pathname.endsWith('/') ? given : pathname);
  if (name === '') throw new CaissonError('InvalidParameter', `cannot determine filename for source ${url}`);
  return decodeURIComponent(name);
}
