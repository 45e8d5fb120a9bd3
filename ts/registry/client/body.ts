/** Bodies of answers: small ones whole and capped, large ones chunk by chunk with a watch on their pace. */

import { finished, type Readable } from 'node:stream';
import { CaissonError } from '../../errdefs.ts';
import { connectionError, corrupt, TransientError } from './errors.ts';
import type { Answer } from './transport.ts';

/** A blob that gives less than this in a whole stall time is as good as stalled. */
const SLOW_BYTES = 16 * 1024;

/** What is read while the reader is at work with what came before. */
const AHEAD_BYTES = 1 << 20;

/** Kind DataLoss past `maxBytes`; with `cut` what is longer is cut off instead. */
export async function readSmall(
  { body, url }: Answer,
  {
    maxBytes,
    timeoutMs,
    signal,
    cut = false,
  }: { maxBytes: number; timeoutMs: number; signal: AbortSignal; cut?: boolean },
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  const late = new TransientError(`Get "${url.origin}${url.pathname}": the answer did not end in ${timeoutMs} ms`);
  const timer = setTimeout(() => body.destroy(late), timeoutMs);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > maxBytes && !cut)
        throw corrupt(`Get "${url.origin}${url.pathname}": the answer is longer than ${maxBytes} bytes`);
      chunks.push(chunk);
      if (length >= maxBytes && cut) break;
    }
    return Buffer.concat(chunks, Math.min(length, maxBytes));
  } catch (error) {
    signal.throwIfAborted();
    throw connectionError(url, error);
  } finally {
    clearTimeout(timer);
    body.destroy();
  }
}

/**
 * The chunks of a body; rejects with a TransientError when it breaks or stalls. Time that the reader takes is not counted:
 * a layer that is unpacked slowly has not stalled.
 */
export async function* readPaced(
  { body, url }: Answer,
  stallMs: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const where = `Get "${url.origin}${url.pathname}"`;
  let waitingSince = 0;
  let waitedMs = 0;
  let arrived = 0;
  // One timer for the whole body: one a chunk would cost more than the chunk.
  const watch = setInterval(() => {
    const waited = waitedMs + (waitingSince === 0 ? 0 : performance.now() - waitingSince);
    if (waited < stallMs) return;
    if (arrived < SLOW_BYTES) body.destroy(new TransientError(`${where}: stalled for ${Math.round(stallMs / 1000)} s`));
    waitedMs = 0;
    arrived = 0;
    if (waitingSince !== 0) waitingSince = performance.now();
  }, stallMs / 4);
  const chunks = arriving(body);
  try {
    for (;;) {
      waitingSince = performance.now();
      const next = await chunks.next();
      waitedMs += performance.now() - waitingSince;
      waitingSince = 0;
      if (next.done === true) return;
      arrived += next.value.length;
      yield next.value;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof CaissonError
      ? error
      : new TransientError(`${where}: ${(error as Error).message}`, { cause: error });
  } finally {
    clearInterval(watch);
    body.destroy();
  }
}

/** A stream that breaks off drops what it holds, and all that would be asked for again: what has come is given first. */
async function* arriving(body: Readable): AsyncGenerator<Buffer> {
  let came: Buffer[] = [];
  let bytes = 0;
  let end: { error: Error | null | undefined } | undefined;
  let news = Promise.withResolvers<void>();
  body.on('data', (chunk: Buffer) => {
    came.push(chunk);
    bytes += chunk.length;
    if (bytes >= AHEAD_BYTES) body.pause();
    news.resolve();
  });
  const stop = finished(body, { writable: false }, (error) => {
    end = { error };
    news.resolve();
  });
  try {
    for (;;) {
      if (came.length === 0 && end === undefined) await news.promise;
      news = Promise.withResolvers();
      if (came.length === 0 && end !== undefined) break;
      const chunks = came;
      came = [];
      bytes = 0;
      body.resume();
      yield* chunks;
    }
    if (end.error) throw end.error;
  } finally {
    stop();
  }
}
