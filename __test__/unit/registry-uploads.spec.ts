/** Uploads of the registry: in chunks, resumed, cancelled, cut off, over restarts. */
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { bytesOf, codesOf, digestOf, type ServedRegistry, serveRegistry } from '../helpers/servedRegistry.ts';

let served: ServedRegistry;
beforeAll(async () => {
  served = await serveRegistry();
});
afterAll(() => served[Symbol.asyncDispose]());

/** Path of a new session. */
async function begin(name = 'up/load', query = ''): Promise<string> {
  const answer = await fetch(`${served.url}/v2/${name}/blobs/uploads/${query}`, { method: 'POST' });
  expect(answer.status).toBe(202);
  return answer.headers.get('location') ?? '';
}

const send = (method: string, path: string, body?: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(served.url + path, { method, headers, ...(body === undefined ? {} : { body: bytesOf(body) }) });

const rangeAt = async (path: string): Promise<string | null> => (await send('GET', path)).headers.get('range');
const text = async (name: string, digest: string): Promise<string> =>
  (await fetch(`${served.url}/v2/${name}/blobs/${digest}`)).text();

describe('chunks', () => {
  it('are put together in order, the last one with the PUT', async () => {
    const path = await begin();
    const first = await send('PATCH', path, 'hello ', { 'content-range': '0-5' });
    expect([first.status, first.headers.get('range'), first.headers.get('location')]).toEqual([202, '0-5', path]);
    const status = await send('GET', path);
    expect([status.status, status.headers.get('range')]).toEqual([204, '0-5']);
    expect((await send('PATCH', path, 'wide ', { 'content-range': '6-10' })).headers.get('range')).toBe('0-10');
    const digest = digestOf('hello wide world');
    const closed = await send('PUT', `${path}?digest=${digest}`, 'world', { 'content-range': '11-15' });
    expect([closed.status, closed.headers.get('location')]).toEqual([201, `/v2/up/load/blobs/${digest}`]);
    expect(await text('up/load', digest)).toBe('hello wide world');
    expect(await codesOf(await send('GET', path))).toEqual(['BLOB_UPLOAD_UNKNOWN']);
  });

  it('without ranges are appended', async () => {
    const path = await begin();
    await send('PATCH', path, 'ab');
    await send('PATCH', path, 'cd');
    expect((await send('PUT', `${path}?digest=${digestOf('abcd')}`)).status).toBe(201);
  });

  it.each([
    ['2-4', 'xyz', 416],
    ['0-2', 'xyz', 416],
    ['7-9', 'xyz', 416],
    ['nonsense', 'xyz', 416],
    ['6-4', 'xyz', 416],
    ['6-9', 'xyz', 400],
    ['6-7', 'xyz', 400],
  ])('at 6, a chunk of %s with 3 bytes is refused and changes nothing', async (range, body, status) => {
    const path = await begin();
    await send('PATCH', path, '012345', { 'content-range': '0-5' });
    const refused = await send('PATCH', path, body, { 'content-range': range });
    expect(refused.status).toBe(status);
    expect(await rangeAt(path)).toBe('0-5');
    expect((await send('PATCH', path, '678', { 'content-range': '6-8' })).status).toBe(202);
    expect((await send('PUT', `${path}?digest=${digestOf('012345678')}`)).status).toBe(201);
  });

  it('hashed by sha512 from the beginning, or only at the end', async () => {
    const digest = digestOf('five hundred twelve', 'sha512');
    for (const query of ['?digest-algorithm=sha512', '']) {
      const path = await begin('up/512', query);
      await send('PATCH', path, 'five hundred ');
      expect((await send('PUT', `${path}?digest=${digest}`, 'twelve')).status).toBe(201);
      expect(await text('up/512', digest)).toBe('five hundred twelve');
    }
    const unknown = await fetch(`${served.url}/v2/up/512/blobs/uploads/?digest-algorithm=md5`, { method: 'POST' });
    expect(await codesOf(unknown)).toEqual(['DIGEST_INVALID']);
  });
});

describe('what is wrong', () => {
  it('another digest is refused, and nothing is left of the bytes', async () => {
    const path = await begin();
    const answer = await send('PUT', `${path}?digest=${digestOf('expected')}`, 'other');
    expect([answer.status, ...(await codesOf(answer))]).toEqual([400, 'DIGEST_INVALID']);
    const single = await fetch(`${served.url}/v2/up/load/blobs/uploads/?digest=${digestOf('x')}`, {
      method: 'POST',
      body: 'y',
    });
    expect(await codesOf(single)).toEqual(['DIGEST_INVALID']);
    for (const digest of [digestOf('expected'), digestOf('x'), digestOf('y')])
      expect((await fetch(`${served.url}/v2/up/load/blobs/${digest}`)).status).toBe(404);
  });

  it('a session belongs to its repository', async () => {
    const path = await begin('up/mine');
    const stolen = path.replace('up/mine', 'up/yours');
    expect(await codesOf(await send('PATCH', stolen, 'x'))).toEqual(['BLOB_UPLOAD_UNKNOWN']);
    expect(await codesOf(await send('DELETE', stolen))).toEqual(['BLOB_UPLOAD_UNKNOWN']);
    expect((await send('GET', path)).status).toBe(204);
  });

  it.each(['../../registry.db', '%2e%2e%2fregistry.db', '00000000-0000-0000-0000-000000000000', 'x'])(
    'there is no session %s',
    async (id) => {
      const answer = await send('PATCH', `/v2/up/load/blobs/uploads/${id}`, 'x');
      expect(answer.status).toBe(404);
    },
  );

  it('cancelled, it is gone with its bytes', async () => {
    const path = await begin();
    await send('PATCH', path, 'unwanted');
    expect((await send('DELETE', path)).status).toBe(204);
    expect((await send('GET', path)).status).toBe(404);
    expect(readdirSync(join(served.root, 'uploads'))).not.toContain(path.split('/').at(-1));
  });
});

/** Sends a PATCH that announces more than it sends. Resolves with what cuts the connection. */
async function half(path: string, sent: string, announced: number): Promise<() => void> {
  const { hostname, port } = new URL(served.url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  const head = `PATCH ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${announced}\r\n\r\n`;
  await new Promise<void>((resolve) => socket.write(head + sent, () => resolve()));
  return () => socket.destroy();
}

/** Resolves when the server has received so much. */
async function received(path: string, range: string): Promise<void> {
  while ((await rangeAt(path)) !== range);
}

/** Resolves when the server has seen that the client is gone. */
async function idle(): Promise<void> {
  while (served.running.registry.uploads.active !== 0) await new Promise((resolve) => setImmediate(resolve));
}

describe('a connection that is cut', () => {
  it('leaves what came: the client goes on from there', async () => {
    const path = await begin('up/cut');
    const cut = await half(path, '0123456789', 100);
    await received(path, '0-9');
    cut();
    await idle();
    expect(await rangeAt(path)).toBe('0-9');
    expect((await send('PATCH', path, 'abc', { 'content-range': '10-12' })).status).toBe(202);
    expect((await send('PUT', `${path}?digest=${digestOf('0123456789abc')}`)).status).toBe(201);
  });

  it('that the server still believes in gives way to the next one', async () => {
    const path = await begin('up/stale');
    const cut = await half(path, '01234', 100);
    await received(path, '0-4');
    const next = await send('PATCH', path, '56789', { 'content-range': '5-9' });
    expect([next.status, next.headers.get('range')]).toEqual([202, '0-9']);
    cut();
    expect((await send('PUT', `${path}?digest=${digestOf('0123456789')}`)).status).toBe(201);
  });
});

it('a client that was told less than has come goes on from what it was told', async () => {
  const path = await begin('up/told');
  const cut = await half(path, '0123456789', 100);
  await received(path, '0-9');
  expect((await send('PATCH', path, 'ABC', { 'content-range': '4-6' })).headers.get('range')).toBe('0-6');
  cut();
  expect((await send('PUT', `${path}?digest=${digestOf('0123ABC')}`)).status).toBe(201);
});

it('outlives the registry: the session goes on after a restart, hashed again from its file', async () => {
  const path = await begin('up/again');
  const large = 'x'.repeat(2_000_000);
  await send('PATCH', path, large);
  await served.restart();
  expect(await rangeAt(path)).toBe('0-1999999');
  await send('PATCH', path, 'tail', { 'content-range': '2000000-2000003' });
  const digest = digestOf(`${large}tail`);
  expect((await send('PUT', `${path}?digest=${digest}`)).status).toBe(201);
  await served.restart();
  expect(digestOf(await text('up/again', digest))).toBe(digest);
});

it('two clients that push the same blob at once both succeed', async () => {
  const data = 'the same '.repeat(100_000);
  const digest = digestOf(data);
  const pushes = Array.from({ length: 8 }, async (_, i) => {
    const path = await begin(`up/same${i % 2}`);
    return (await send('PUT', `${path}?digest=${digest}`, data)).status;
  });
  expect(await Promise.all(pushes)).toEqual(Array(8).fill(201));
  expect(digestOf(await text('up/same1', digest))).toBe(digest);
});

it('what a full disk did not take does not count, and is not kept', async () => {
  const { storage } = served.running.registry;
  const path = await begin('up/full');
  await send('PATCH', path, 'abc');
  const write = vi.spyOn(storage, 'writeUpload').mockImplementationOnce(async (id, offset) => {
    write.mockRestore();
    const writer = await storage.writeUpload(id, offset);
    const close = async (): Promise<void> => {
      await writer.close();
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    };
    return { write: (chunk) => writer.write(chunk), flush: () => writer.flush(), close };
  });
  const refused = await send('PATCH', path, 'defgh');
  expect([refused.status, ...(await codesOf(refused))]).toEqual([507, 'UNAVAILABLE']);
  expect(await rangeAt(path)).toBe('0-2');
  expect(await storage.uploadSize(path.split('/').at(-1) ?? '')).toBe(3);
  await send('PATCH', path, 'def', { 'content-range': '3-5' });
  expect((await send('PUT', `${path}?digest=${digestOf('abcdef')}`)).status).toBe(201);
});
