/** What the client does when a registry or the line to it misbehaves. */
import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseReference } from '../../ts/reference.ts';
import { RegistryClient } from '../../ts/registry/client/client.ts';
import type { Repository } from '../../ts/registry/client/repository.ts';
import { problem, ScriptedRegistry } from '../helpers/scriptedRegistry.ts';

const platform = { os: 'linux', architecture: 'amd64' };
const LAYER = randomBytes(600_000);
let registry: ScriptedRegistry;
let client: RegistryClient;
let source: Repository;
const { signal } = new AbortController();

beforeEach(async () => {
  registry = await new ScriptedRegistry().listen();
  client = new RegistryClient({ timing: { backoffMs: 1, maxRetryAfterMs: 1, stallMs: 80, responseMs: 2000 } });
  source = client.repository(parseReference(`${registry.host}/app`));
});
afterEach(async () => {
  await client.close();
  await registry[Symbol.asyncDispose]();
});

/** `turns` of the event loop pass between chunks. */
async function pull(turns = 0): Promise<Buffer> {
  const { manifest } = await source.resolve({ platform, signal });
  const chunks: Uint8Array[] = [];
  for (const layer of manifest.layers)
    for await (const chunk of source.fetchBlob(layer, { signal })) {
      chunks.push(chunk);
      for (let turn = 0; turn < turns; turn++) await nextTurn();
    }
  return Buffer.concat(chunks);
}

const isBlob = (url = ''): boolean => url.includes('/blobs/');

describe('blobs', () => {
  it('come whole', async () => {
    registry.addImage([LAYER, Buffer.alloc(0)]);
    expect((await pull()).equals(LAYER)).toBe(true);
  });

  it.each([
    ['64 KiB', 65_536, LAYER, 0],
    ['200 kB, for a reader that is slower than the line', 200_000, randomBytes(10_000_000), 20],
  ])('are resumed by ranges when the connection is cut every %s', async (_what, piece, layer, turns) => {
    registry.addImage([layer]);
    let sent = 0;
    registry.fault = (request, response) => {
      if (!isBlob(request.url)) return false;
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': layer.length - from,
        'content-range': `bytes ${from}-${layer.length - 1}/${layer.length}`,
      });
      sent += layer.subarray(from, from + piece).length;
      response.write(layer.subarray(from, from + piece), () => {
        if (from + piece >= layer.length) response.end();
        else setImmediate(() => response.destroy());
      });
      return true;
    };
    expect((await pull(turns)).equals(layer)).toBe(true);
    const ranges = registry.asked(/blobs/).map(({ headers }) => Number(/\d+/.exec(headers.range ?? '0')?.[0]));
    expect(ranges.length).toBeGreaterThanOrEqual(Math.ceil(layer.length / piece));
    expect(ranges).toEqual([...ranges].sort((a, b) => a - b));
    expect(sent).toBeLessThanOrEqual(layer.length * 1.1);
  });

  it('are resumed by a registry that has no ranges, without the bytes that came before', async () => {
    registry.addImage([LAYER]);
    registry.fault = (request, response, attempt) => {
      if (!isBlob(request.url)) return false;
      response.writeHead(200, { 'content-length': LAYER.length });
      if (attempt === 1) response.write(LAYER.subarray(0, 100_000), () => setImmediate(() => response.destroy()));
      else response.end(LAYER);
      return true;
    };
    expect((await pull()).equals(LAYER)).toBe(true);
  });

  it('that stall are asked for again from where they stopped', async () => {
    registry.addImage([LAYER]);
    registry.fault = (request, response, attempt) => {
      if (!isBlob(request.url) || attempt > 1) return false;
      response.writeHead(200, { 'content-length': LAYER.length }).write(LAYER.subarray(0, 50_000));
      return true;
    };
    expect((await pull()).equals(LAYER)).toBe(true);
    expect(registry.asked(/blobs/)[1]?.headers.range).toBe('bytes=50000-');
  });

  it('that trickle are asked for again, too', async () => {
    registry.addImage([LAYER]);
    registry.fault = (request, response, attempt) => {
      if (!isBlob(request.url) || attempt > 1) return false;
      response.writeHead(200, { 'content-length': LAYER.length });
      let at = 0;
      const trickle = setInterval(() => response.write(LAYER.subarray(at, ++at)), 5);
      response.once('close', () => clearInterval(trickle));
      return true;
    };
    expect((await pull()).equals(LAYER)).toBe(true);
    expect(Number(/\d+/.exec(registry.asked(/blobs/)[1]?.headers.range ?? '')?.[0])).toBeGreaterThan(0);
  });

  it.each([
    [
      'one bit flipped',
      (data: Buffer) => Buffer.concat([Buffer.from([(data[0] ?? 0) ^ 1]), data.subarray(1)]),
      'what came',
    ],
    ['one byte less', (data: Buffer) => data.subarray(0, -1), '599999 bytes in place of 600000'],
    ['one byte more', (data: Buffer) => Buffer.concat([data, Buffer.from([0])]), '600001 bytes in place of 600000'],
  ])('with %s are refused by their digest', async (_what, spoil, why) => {
    const [layer] = registry.addImage([LAYER]).layers;
    registry.blobs.set(layer?.digest ?? '', spoil(LAYER));
    const failed = await pull().catch((error: unknown) => error);
    expect(failed).toMatchObject({ kind: 'DataLoss', message: expect.stringContaining(why) });
    expect(failed).toMatchObject({ message: expect.stringContaining(layer?.digest ?? '') });
  });

  it('that go on without end are left at their size', async () => {
    registry.addImage([LAYER]);
    registry.fault = (request, response) => {
      if (!isBlob(request.url)) return false;
      const more = (error?: Error | null): void => void (error ?? response.write(LAYER, more));
      more();
      return true;
    };
    await expect(pull()).rejects.toMatchObject({ kind: 'DataLoss', message: expect.stringContaining('more than its') });
  });

  it.each(['bytes 0-599999/600000', 'bytes 50001-599999/600000', 'bytes 50000-599999/700000', 'nonsense'])(
    'refuse the wrong range %s',
    async (range) => {
      registry.addImage([LAYER]);
      registry.fault = (request, response, attempt) => {
        if (!isBlob(request.url)) return false;
        if (attempt > 1) response.writeHead(206, { 'content-range': range }).end(LAYER.subarray(50_000));
        else {
          response.writeHead(200, { 'content-length': LAYER.length });
          response.write(LAYER.subarray(0, 50_000), () => setImmediate(() => response.destroy()));
        }
        return true;
      };
      await expect(pull()).rejects.toMatchObject({ kind: 'DataLoss', message: expect.stringContaining('range') });
    },
  );

  it('end at once when they are aborted, with the reason', async () => {
    registry.addImage([LAYER]);
    const arrived = Promise.withResolvers<void>();
    registry.fault = (request, response) => {
      if (!isBlob(request.url)) return false;
      response.writeHead(200, { 'content-length': LAYER.length }).flushHeaders();
      arrived.resolve();
      return true;
    };
    const { manifest } = await source.resolve({ platform, signal });
    const abort = new AbortController();
    const [layer] = manifest.layers;
    if (layer === undefined) throw new Error('no layer');
    const next = source.fetchBlob(layer, { signal: abort.signal }).next();
    await arrived.promise;
    const reason = new Error('the client has gone');
    abort.abort(reason);
    await expect(next).rejects.toBe(reason);
  });
});

describe('attempts', () => {
  it.each([429, 500, 502, 503, 504])('after %i are made until it works', async (status) => {
    registry.addImage([LAYER]);
    registry.fault = (_request, response, attempt) => {
      if (attempt > 4) return false;
      response.writeHead(status, { 'retry-after': '3600' }).end();
      return true;
    };
    expect((await pull()).equals(LAYER)).toBe(true);
  });

  it('are five', async () => {
    registry.fault = (_request, response) => {
      problem(response, 503, 'UNAVAILABLE', 'try later');
      return true;
    };
    await expect(pull()).rejects.toMatchObject({ kind: 'Unavailable', message: expect.stringContaining('try later') });
    expect(registry.asked(/manifests/)).toHaveLength(5);
  });

  it('end with the wait when it is aborted', async () => {
    await client.close();
    client = new RegistryClient({ timing: { backoffMs: 3_600_000 } });
    source = client.repository(parseReference(`${registry.host}/app`));
    const abort = new AbortController();
    registry.fault = (_request, response) => {
      response.writeHead(503).end();
      response.once('close', () => setImmediate(() => abort.abort(new Error('gone'))));
      return true;
    };
    await expect(source.resolve({ platform, signal: abort.signal })).rejects.toThrow('gone');
  });

  it('are not made for what no attempt mends', async () => {
    await expect(pull()).rejects.toMatchObject({
      kind: 'NotFound',
      message: `manifest for ${registry.host}/app:latest not found: manifest unknown: manifest unknown`,
    });
    expect(registry.asked(/manifests/)).toHaveLength(1);
  });

  it('give up on headers that never end', async () => {
    await client.close();
    client = new RegistryClient({ timing: { backoffMs: 1, responseMs: 50 } });
    source = client.repository(parseReference(`${registry.host}/app`));
    registry.fault = (_request, response) => {
      response.socket?.write('HTTP/1.1 200 OK\r\nX-A: b\r\n');
      return true;
    };
    await expect(pull()).rejects.toMatchObject({ kind: 'Unavailable' });
    expect(registry.asked(/manifests/)).toHaveLength(5);
  });
});

describe('answers', () => {
  it('longer than a manifest may be are refused', async () => {
    registry.addManifest(`{"a":"${'x'.repeat(5 << 20)}"}`, undefined, 'latest');
    await expect(pull()).rejects.toThrow('longer than 4194304 bytes');
  });

  it('of errors are read up to a limit', async () => {
    await client.close();
    client = new RegistryClient({ timing: { responseMs: 3_600_000 } });
    source = client.repository(parseReference(`${registry.host}/app`));
    registry.fault = (_request, response) => {
      response.writeHead(404);
      const more = (): void => void response.write(Buffer.alloc(65_536, 'x'), (error) => error ?? more());
      more();
      return true;
    };
    await expect(pull()).rejects.toMatchObject({ kind: 'NotFound' });
  });

  it('with another digest than they claim are refused', async () => {
    registry.addImage([LAYER]);
    const found = registry.manifests.get('latest');
    if (found) found.headers = { 'docker-content-digest': `sha256:${'0'.repeat(64)}` };
    await expect(pull()).rejects.toMatchObject({ kind: 'DataLoss' });
  });
});

it('a mirror that fails is passed over', async () => {
  await using upstream = await new ScriptedRegistry().listen();
  registry.fault = (_request, response) => {
    response.writeHead(404).end();
    return true;
  };
  upstream.addImage([LAYER]);
  const mirrored = new RegistryClient({
    settings: () => ({ mirrors: [`http://${registry.host}`, `http://${upstream.host}`] }),
  });
  const found = await mirrored.repository(parseReference('app')).resolve({ platform, signal });
  expect(found.manifest.layers).toHaveLength(1);
  expect(registry.asked(/library\/app\/manifests\/latest/)).toHaveLength(1);
  expect(upstream.asked(/library\/app\/manifests\/latest/)).toHaveLength(1);
  await mirrored.close();
});
