/** Pushing blobs and manifests: what is sent, what is sent again, and what goes to nobody else. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseReference } from '../../ts/reference.ts';
import type { Credentials } from '../../ts/registry/client/auth.ts';
import { RegistryClient } from '../../ts/registry/client/client.ts';
import type { PushTarget, Upload } from '../../ts/registry/client/upload.ts';
import { problem, sha256 } from '../helpers/scriptedRegistry.ts';
import { UploadRegistry } from '../helpers/uploadRegistry.ts';

const LARGE = randomBytes(6 << 20);
const { signal } = new AbortController();
let registry: UploadRegistry;
let client: RegistryClient;

const target = (credentials?: Credentials): PushTarget =>
  client.target(parseReference(`${registry.host}/app`), credentials);

function upload(data: Buffer, more: Partial<Upload> = {}): Upload {
  return {
    descriptor: { mediaType: 'application/octet-stream', digest: sha256(data), size: data.length },
    async *open(offset) {
      for (let at = offset; at < data.length; at += 65_536) yield data.subarray(at, at + 65_536);
    },
    onProgress: () => undefined,
    mountFrom: [],
    ...more,
  };
}

beforeEach(async () => {
  registry = await new UploadRegistry().listen();
  client = new RegistryClient({ timing: { backoffMs: 1, maxRetryAfterMs: 1, stallMs: 200, responseMs: 2000 } });
});
afterEach(async () => {
  await client.close();
  await registry[Symbol.asyncDispose]();
});

describe('a blob', () => {
  it.each([
    ['large', LARGE, ['HEAD', 'POST', 'PATCH', 'PUT']],
    ['small', LARGE.subarray(0, 1000), ['HEAD', 'POST', 'PUT']],
    ['empty', Buffer.alloc(0), ['HEAD', 'POST', 'PUT']],
  ])('that is %s is sent', async (_what, data, methods) => {
    const progress: number[] = [];
    expect(await target().push(upload(data, { onProgress: (bytes) => progress.push(bytes) }), signal)).toBe('sent');
    expect(registry.blobs.get(`app@${sha256(data)}`)?.equals(data)).toBe(true);
    expect(registry.seen.map(({ method }) => method).filter((method) => method !== 'GET')).toEqual(methods);
    expect(progress.at(-1)).toBe(data.length);
  });

  it('that is there is not sent', async () => {
    registry.blobs.set(`app@${sha256(LARGE)}`, LARGE);
    expect(await target().push(upload(LARGE), signal)).toBe('present');
    expect(registry.received).toBe(0);
  });

  it('is mounted from a repository that has it, else its upload has begun', async () => {
    registry.blobs.set(`other/one@${sha256(LARGE)}`, LARGE);
    const mounted = await target().push(upload(LARGE, { mountFrom: ['no/such', 'other/one'] }), signal);
    expect([mounted, registry.received]).toEqual([{ mountedFrom: 'other/one' }, 0]);
    const data = randomBytes(10);
    expect(await target().push(upload(data, { mountFrom: ['other/one'] }), signal)).toBe('sent');
    expect(registry.asked('POST').filter(({ url }) => !url.searchParams.has('mount'))).toEqual([]);
  });

  it('goes on where the connection was cut: at most a tenth is sent twice', async () => {
    let next = 1 << 20;
    registry.cut = (received) => {
      if (received < next) return false;
      next += 1 << 20;
      return true;
    };
    expect(await target().push(upload(LARGE), signal)).toBe('sent');
    expect(registry.blobs.get(`app@${sha256(LARGE)}`)?.equals(LARGE)).toBe(true);
    expect(registry.asked('PATCH').length).toBeGreaterThan(4);
    expect(registry.received).toBeLessThanOrEqual(LARGE.length * 1.1);
  });

  it('is begun anew when the registry has forgotten the upload', async () => {
    let forgotten = false;
    registry.fault = (request, response) => {
      if (request.method !== 'PATCH' || forgotten) return false;
      forgotten = true;
      request.resume();
      problem(response, 404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
      return true;
    };
    expect(await target().push(upload(LARGE), signal)).toBe('sent');
    expect(registry.asked('POST')).toHaveLength(2);
  });

  it('that the registry does not take is given up after five attempts', async () => {
    registry.fault = (request, response) => {
      if (request.method !== 'PATCH') return false;
      request.resume();
      response.writeHead(503).end();
      return true;
    };
    await expect(target().push(upload(LARGE), signal)).rejects.toMatchObject({ kind: 'Unavailable' });
    expect(registry.asked('PATCH')).toHaveLength(5);
  });

  it('stalls no longer than it may', async () => {
    registry.fault = (request) => request.method === 'PATCH';
    const failing = target().push(upload(LARGE), signal);
    await expect(failing).rejects.toMatchObject({
      kind: 'Unavailable',
      message: expect.stringMatching(/took nothing|did/),
    });
  });

  it('ends at once when it is aborted, with the reason', async () => {
    const abort = new AbortController();
    const reason = new Error('the client has gone');
    registry.fault = (request) => {
      if (request.method !== 'PATCH') return false;
      abort.abort(reason);
      return true;
    };
    await expect(target().push(upload(LARGE), abort.signal)).rejects.toBe(reason);
  });

  it('whose digest the registry finds wrong fails, without another attempt', async () => {
    const wrong = upload(LARGE, { open: () => upload(randomBytes(LARGE.length)).open(0) });
    await expect(target().push(wrong, signal)).rejects.toThrow('digest invalid: wrong digest');
    expect(registry.asked('PUT')).toHaveLength(1);
  });
});

describe('credentials', () => {
  const credentials = { username: 'ann', password: 'secret' };

  it('are sent when the registry asks, and not to where it places an upload', async () => {
    await using storage = await new UploadRegistry().listen();
    const taken: (string | undefined)[] = [];
    storage.fault = (request, response) => {
      taken.push(request.headers.authorization);
      request.resume();
      request.once('end', () => response.writeHead(request.method === 'PUT' ? 201 : 202).end());
      return true;
    };
    registry.place = (path) => `http://${storage.host}${path}`;
    registry.fault = (request, response) => {
      if (request.headers.authorization !== undefined || request.url === '/v2/') return false;
      problem(response, 401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': 'Basic realm="x"' });
      return true;
    };
    expect(await target(credentials).push(upload(LARGE), signal)).toBe('sent');
    expect(taken).toEqual([undefined, undefined]);
    expect(registry.asked('POST').at(-1)?.headers.authorization).toMatch(/^Basic /);
  });

  it('bring a token for pushing, and for reading what is mounted', async () => {
    const scopes: string[][] = [];
    registry.blobs.set(`other@${sha256(LARGE)}`, LARGE);
    registry.fault = (request, response, url) => {
      if (url.pathname === '/token') {
        scopes.push(url.searchParams.getAll('scope'));
        response.end('{"token":"t"}');
        return true;
      }
      if (request.headers.authorization === 'Bearer t' || url.pathname === '/v2/') return false;
      const challenge = `Bearer realm="http://${registry.host}/token",service="s"`;
      problem(response, 401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': challenge });
      return true;
    };
    await target(credentials).push(upload(LARGE, { mountFrom: ['other'] }), signal);
    expect(scopes).toEqual([['repository:app:pull,push'], ['repository:app:pull,push', 'repository:other:pull']]);
  });

  it('that do not suffice are told in Docker’s words', async () => {
    registry.fault = (_request, response) => {
      problem(response, 403, 'DENIED', 'requested access to the resource is denied');
      return true;
    };
    await expect(target(credentials).putManifest('1', upload(LARGE).descriptor, LARGE, signal)).rejects.toMatchObject({
      kind: 'Forbidden',
      message: 'denied: requested access to the resource is denied',
    });
  });
});

describe('a manifest', () => {
  it('is put under its tag, with its type, and its digest is compared', async () => {
    const bytes = Buffer.from('{}');
    const descriptor = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: sha256(bytes), size: 2 };
    await target().putManifest('1', descriptor, bytes, signal);
    expect(registry.manifests.get('app:1')).toEqual({ type: descriptor.mediaType, body: bytes });
    const other = { ...descriptor, digest: sha256('other') };
    await expect(target().putManifest('1', other, bytes, signal)).rejects.toMatchObject({ kind: 'DataLoss' });
  });
});
