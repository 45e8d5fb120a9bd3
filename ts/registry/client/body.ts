/** Bodies of answers: small ones whole and capped, large ones chunk by chunk with a watch on their pace. */

import { CaissonError } from '../../errdefs.ts';
import { connectionError, corrupt, TransientError } from './errors.ts';
import type { Answer } from './transport.ts';

/** A blob that gives less than this in a whole stall time is as good as stalled. */
const SLOW_BYTES = 16 * 1024;

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
  const chunks = (body as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
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
