/** How long the client waits before it asks again; the waits are recorded, not waited for. */
import { Readable } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { parseReference } from '../../ts/reference.ts';
import { readBlob } from '../../ts/registry/client/blob.ts';
import { answerError, connectionError, TransientError } from '../../ts/registry/client/errors.ts';
import { MAX_ATTEMPTS, retrying } from '../../ts/registry/client/retry.ts';
import { DEFAULT_TIMING } from '../../ts/registry/client/settings.ts';
import type { Answer } from '../../ts/registry/client/transport.ts';
import { sha256 } from '../helpers/scriptedRegistry.ts';

const waits = vi.hoisted((): number[] => []);
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => {
    waits.push(ms);
    return Promise.resolve();
  },
}));

const NOW = Date.parse('2026-11-28T10:00:00Z');
const MAX_MS = 60_000;
const { signal } = new AbortController();

/** The waits of a request that a registry refuses each time. */
async function waitsAfter(headers: Record<string, string>, status = 429): Promise<number[]> {
  waits.length = 0;
  const answer = { status, headers, url: new URL('http://r/v2/') };
  const refused = answerError(answer, '', parseReference('r/app'), MAX_MS);
  const asked = retrying({ backoffMs: 1000 }, signal, () => Promise.reject(refused));
  await expect(asked).rejects.toBe(refused);
  expect(refused).toBeInstanceOf(TransientError);
  return [...waits];
}

describe('before the next attempt', () => {
  afterEach(() => vi.useRealTimers());

  it.each([
    ['7', 7000],
    ['0', 0],
    ['Sat, 28 Nov 2026 10:00:42 GMT', 42_000],
    ['Sat, 28 Nov 2026 09:00:00 GMT', 0],
    ['3600', MAX_MS],
  ])('Retry-After: %s is waited for exactly', async (value, ms) => {
    vi.useFakeTimers({ now: NOW, toFake: ['Date'] });
    expect(await waitsAfter({ 'retry-after': value })).toEqual(Array(MAX_ATTEMPTS - 1).fill(ms));
  });

  it.each([{}, { 'retry-after': 'soon' }])(
    'without one (%j) the waits double, half of each by chance',
    async (headers) => {
      const found = await waitsAfter(headers, 503);
      expect(found).toHaveLength(MAX_ATTEMPTS - 1);
      for (const [at, ms] of found.entries()) {
        expect(ms).toBeGreaterThanOrEqual(500 * 2 ** at);
        expect(ms).toBeLessThanOrEqual(1000 * 2 ** at);
      }
    },
  );
});

const url = new URL('https://r.example/v2/app/blobs/x');
const away = (more: object): Error => connectionError(url, Object.assign(new Error('away'), more));

describe('where there is no connection', () => {
  it.each([
    { code: 'ENOTFOUND' },
    { code: 'EAI_AGAIN' },
    { code: 'ECONNREFUSED' },
    { code: 'ENETUNREACH' },
    { code: 'EHOSTUNREACH' },
    { code: 'ETIMEDOUT', event: 'lookup' },
    { code: 'ETIMEDOUT', event: 'connect' },
    { code: 'ETIMEDOUT', event: 'secureConnect' },
  ])('no other attempt is made: %j', async (more) => {
    waits.length = 0;
    const asked = retrying({ backoffMs: 1000 }, signal, () => Promise.reject(away(more)));
    await expect(asked).rejects.toMatchObject({ kind: 'Unavailable', code: 'REGISTRY_UNREACHABLE' });
    expect(waits).toEqual([]);
  });

  it('in the middle of a blob, the registry is waited for', async () => {
    const data = Buffer.from('0123456789');
    const descriptor = { digest: sha256(data), size: data.length };
    const body = (part: Buffer): Answer['body'] => Readable.from([part], { objectMode: false }) as Answer['body'];
    const asked: Record<string, string>[] = [];
    const get = async (headers: Record<string, string>): Promise<Answer> => {
      asked.push(headers);
      if (asked.length === 2) throw away({ code: 'ECONNREFUSED' });
      if (asked.length === 1) return { status: 200, headers: {}, url, body: body(data.subarray(0, 4)) };
      return { status: 206, headers: { 'content-range': 'bytes 4-9/10' }, url, body: body(data.subarray(4)) };
    };
    const chunks: Uint8Array[] = [];
    for await (const chunk of readBlob(descriptor, { signal }, DEFAULT_TIMING, get)) chunks.push(chunk);
    expect(Buffer.concat(chunks).toString()).toBe(data.toString());
    expect(asked).toEqual([{}, { range: 'bytes=4-' }, { range: 'bytes=4-' }]);
  });

  it('a blob is asked for as often as the settings say', async () => {
    for (const attempts of [1, 7]) {
      let asked = 0;
      const get = (): Promise<Answer> => Promise.reject(new TransientError(String(++asked)));
      const blob = readBlob({ digest: sha256(Buffer.from('x')), size: 1 }, { signal, attempts }, DEFAULT_TIMING, get);
      await expect(blob.next()).rejects.toThrow(String(attempts));
      expect(asked).toBe(attempts);
    }
  });
});
