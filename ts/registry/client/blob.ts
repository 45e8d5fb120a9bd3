/** A blob as a stream that mends itself: what breaks off is asked for again from that byte on. */
import { createHash } from 'node:crypto';
import { CaissonError } from '../../errdefs.ts';
import type { Descriptor } from '../../oci.ts';
import { readPaced } from './body.ts';
import { corrupt, TransientError } from './errors.ts';
import { backOff, MAX_ATTEMPTS } from './retry.ts';
import type { RegistryTiming } from './settings.ts';
import { type Answer, header } from './transport.ts';

export interface BlobOptions {
  signal: AbortSignal;
  /** First byte that is wanted. */
  offset?: number;
  /** false: the caller checks the digest himself. */
  verify?: boolean;
  /** How often it is asked for without any progress. */
  attempts?: number;
}

/** An attempt that brought so much has not failed: the count starts anew, or a bad line never carries a large layer. */
const PROGRESS_BYTES = 16 * 1024;

export async function* readBlob(
  { digest, size }: Pick<Descriptor, 'digest' | 'size'>,
  { signal, offset = 0, verify = true, attempts = MAX_ATTEMPTS }: BlobOptions,
  timing: RegistryTiming,
  get: (headers: Record<string, string>) => Promise<Answer>,
): AsyncGenerator<Uint8Array> {
  const hash = verify && offset === 0 ? createHash(digest.slice(0, digest.indexOf(':'))) : undefined;
  let at = offset;
  for (let failed = 0; at < size || size === 0; ) {
    const from = at;
    try {
      const answer = await get(at === 0 ? {} : { range: `bytes=${at}-` });
      let skip = checkRange(answer, at, { digest, size });
      for await (const chunk of readPaced(answer, timing.stallMs, signal)) {
        const wanted = skip >= chunk.byteLength ? chunk.subarray(chunk.byteLength) : chunk.subarray(skip);
        skip -= chunk.byteLength - wanted.byteLength;
        if (wanted.byteLength === 0) continue;
        at += wanted.byteLength;
        if (at > size) throw corrupt(`blob ${digest}: more than its ${size} bytes came`);
        hash?.update(wanted);
        yield wanted;
      }
      if (at === size) break;
      throw new TransientError(`blob ${digest}: ${at} of ${size} bytes came`, { code: 'REGISTRY_CUT' });
    } catch (error) {
      signal.throwIfAborted();
      // A registry that is away in the middle of a blob is being started again.
      const isAway = at > offset && error instanceof CaissonError && error.code === 'REGISTRY_UNREACHABLE';
      if (!(error instanceof TransientError) && !isAway) throw error;
      failed = at - from >= PROGRESS_BYTES ? 1 : failed + 1;
      if (failed >= attempts) throw error;
      await backOff(failed, error instanceof TransientError ? error : new TransientError(''), timing, signal);
    }
  }
  const actual = hash === undefined ? digest : `${digest.slice(0, digest.indexOf(':'))}:${hash.digest('hex')}`;
  if (actual !== digest) throw corrupt(`blob ${digest}: what came has the digest ${actual}`);
}

/** How many bytes at the beginning of the body are had already. */
function checkRange(answer: Answer, at: number, { digest, size }: Pick<Descriptor, 'digest' | 'size'>): number {
  const wrong = (what: string): Error => {
    answer.body.destroy();
    return corrupt(`blob ${digest}: the registry answers with ${what}`);
  };
  const length = header(answer, 'content-length');
  const expected = answer.status === 206 ? size - at : size;
  if (length !== undefined && Number(length) !== expected) throw wrong(`${length} bytes in place of ${expected}`);
  // A registry without ranges sends all of it again.
  if (answer.status !== 206) return at;
  const range = header(answer, 'content-range') ?? '';
  const [, start, end, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range) ?? [];
  const right = Number(start) === at && Number(end) === size - 1 && (total === '*' || Number(total) === size);
  if (!right) throw wrong(`the range ${JSON.stringify(range.slice(0, 100))} when asked for ${at}-${size - 1}/${size}`);
  return 0;
}
