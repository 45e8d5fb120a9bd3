/** Pulling through: by path, by ns, as a mirror; stale when the upstream is down. */

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RegistryConfig } from '../../ts/registry/server/config.ts';
import {
  codesOf,
  digestOf,
  manifestOf,
  pushBlob,
  pushManifest,
  putManifest,
  type ServedRegistry,
  serveRegistry,
} from '../helpers/servedRegistry.ts';

let upstream: ServedRegistry;
let mirror: ServedRegistry;
const LAYER = 'layer bytes '.repeat(50_000);
const PARTS = { config: '{"up":1}', layers: [LAYER] };

async function startMirror(settings: Partial<RegistryConfig> = {}): Promise<void> {
  mirror = await serveRegistry({
    upstreams: [{ host: 'docker.io', url: upstream.url }],
    allowDelete: true,
    ...settings,
  });
}
beforeEach(async () => {
  upstream = await serveRegistry({ allowDelete: true });
  await startMirror();
});
afterEach(async () => {
  expect(mirror.running.registry.db.errors()).toEqual([]);
  await mirror[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});

const get = (path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Response> =>
  fetch(`${mirror.url}/v2/${path}`, { headers, method });
const layer = digestOf(LAYER);

describe('a repository of an upstream', () => {
  let digest: string;
  beforeEach(async () => {
    digest = await pushManifest(upstream.url, 'library/app', 'v1', PARTS);
  });

  it.each([
    ['by its path', 'docker.io/library/app', ''],
    ['by its short path', 'docker.io/app', ''],
    ['by ns', 'library/app', '?ns=docker.io'],
  ])('%s is served and kept', async (_how, name, query) => {
    const manifest = await get(`${name}/manifests/v1${query}`);
    expect([manifest.status, manifest.headers.get('docker-content-digest')]).toEqual([200, digest]);
    expect(manifest.headers.get('oci-namespace')).toBe(query === '' ? null : 'docker.io');
    expect(Buffer.from(await manifest.arrayBuffer()).equals(manifestOf(PARTS))).toBe(true);
    const head = await get(`${name}/blobs/${layer}${query}`, {}, 'HEAD');
    expect([head.status, head.headers.get('content-length')]).toEqual([200, String(LAYER.length)]);
    expect(await (await get(`${name}/blobs/${layer}${query}`)).text()).toBe(LAYER);
    expect(await (await get(`${name}/blobs/${digestOf(PARTS.config)}${query}`)).text()).toBe(PARTS.config);
    await upstream.running.close(0);
    const kept = await get(`${name}/manifests/${digest}${query}`);
    expect([kept.status, kept.headers.get('warning')]).toEqual([200, null]);
    const part = await get(`${name}/blobs/${layer}${query}`, { range: 'bytes=6-10' });
    expect([part.status, await part.text()]).toEqual([206, 'bytes']);
  });

  it('many clients at once cause one download', async () => {
    await get('docker.io/library/app/manifests/v1');
    const answers = await Promise.all(Array.from({ length: 10 }, () => get(`docker.io/library/app/blobs/${layer}`)));
    for (const answer of answers) expect(await answer.text()).toBe(LAYER);
    expect(mirror.running.registry.blobs.totals().count).toBe(1);
  });

  it('the tag follows the upstream, and goes with it', async () => {
    await get('docker.io/library/app/manifests/v1');
    const next = await pushManifest(upstream.url, 'library/app', 'v1', { config: '{"up":2}', layers: [] });
    expect((await get('docker.io/library/app/manifests/v1')).headers.get('docker-content-digest')).toBe(next);
    await fetch(`${upstream.url}/v2/library/app/manifests/v1`, { method: 'DELETE' });
    const gone = await get('docker.io/library/app/manifests/v1');
    expect([gone.status, ...(await codesOf(gone))]).toEqual([404, 'MANIFEST_UNKNOWN']);
    expect((await get('docker.io/library/app/tags/list')).status).toBe(200);
  });

  it('with a time of freshness the upstream is not asked', async () => {
    await mirror[Symbol.asyncDispose]();
    await startMirror({ upstreamFreshMs: 3_600_000 });
    await get('docker.io/library/app/manifests/v1');
    await pushManifest(upstream.url, 'library/app', 'v1', { config: '{"up":2}', layers: [] });
    expect((await get('docker.io/library/app/manifests/v1')).headers.get('docker-content-digest')).toBe(digest);
  });

  it('stale, with a warning, when the upstream is down; what is not known is 503', async () => {
    await get('docker.io/library/app/manifests/v1');
    await get(`docker.io/library/app/blobs/${layer}`).then((answer) => answer.text());
    await upstream.running.close(0);
    for (const _ of [1, 2]) {
      const answer = await get('docker.io/library/app/manifests/v1');
      expect([answer.status, answer.headers.get('warning')]).toEqual([200, '110 - "Response is Stale"']);
    }
    const unknown = await get('docker.io/library/app/manifests/v2');
    expect([unknown.status, ...(await codesOf(unknown))]).toEqual([503, 'UNAVAILABLE']);
    expect((await get(`docker.io/library/app/blobs/${digestOf(PARTS.config)}`)).status).toBe(503);
    await upstream.restart();
  });

  it('takes no pushes', async () => {
    const answer = await fetch(`${mirror.url}/v2/docker.io/library/app/blobs/uploads/`, { method: 'POST' });
    expect([answer.status, ...(await codesOf(answer))]).toEqual([405, 'UNSUPPORTED']);
    expect((await putManifest(mirror.url, 'docker.io/library/app', 'v1', manifestOf(PARTS))).status).toBe(405);
  });

  it('goes when nobody has asked for it for long', async () => {
    await get('docker.io/library/app/manifests/v1');
    await get(`docker.io/library/app/blobs/${layer}`).then((answer) => answer.text());
    const { collector, config } = mirror.running.registry;
    expect((await collector.collect(Date.now() + config.upstreamTtlMs / 2)).manifests).toBe(0);
    expect(await collector.collect(Date.now() + 2 * config.upstreamTtlMs)).toMatchObject({ manifests: 1, blobs: 1 });
  });

  it('as the mirror of docker.io: bare names, but our own ones first', async () => {
    await mirror[Symbol.asyncDispose]();
    await startMirror({ mirrorOf: 'docker.io' });
    expect((await get('library/app/manifests/v1')).status).toBe(200);
    const own = await pushOwn('own/app');
    expect((await get('own/app/manifests/v1')).headers.get('docker-content-digest')).toBe(own);
    expect((await get('library/absent/manifests/v1')).status).toBe(404);
  });

  async function pushOwn(name: string): Promise<string> {
    mirror.running.registry.repositories.ensure(name);
    return pushManifest(mirror.url, name, 'v1', { config: '{"own":1}', layers: [] });
  }

  it('a blob that no manifest names is not fetched', async () => {
    await pushBlob(upstream.url, 'library/app', 'loose');
    const answer = await get(`docker.io/library/app/blobs/${digestOf('loose')}`);
    expect([answer.status, ...(await codesOf(answer))]).toEqual([404, 'BLOB_UNKNOWN']);
  });

  it('the rights count for the whole name', async () => {
    await mirror[Symbol.asyncDispose]();
    await startMirror({ rights: [{ users: ['anonymous'], repositories: ['local/**'], actions: ['pull'] }] });
    expect((await get('docker.io/library/app/manifests/v1')).status).toBe(403);
    expect((await get('library/app/manifests/v1?ns=docker.io')).status).toBe(403);
    expect(mirror.running.registry.repositories.id('docker.io/library/app')).toBeUndefined();
  });
});

describe('an upstream that lies', () => {
  let server: Server;
  let answer: Record<string, { type: string; body: string | Buffer }>;
  beforeEach(async () => {
    answer = {};
    server = createServer((request, response) => {
      const found = answer[request.url ?? ''];
      if (found === undefined) return response.writeHead(404).end();
      return response
        .writeHead(200, { 'content-type': found.type, 'content-length': found.body.length })
        .end(request.method === 'HEAD' ? undefined : found.body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const bound = server.address();
    const port = typeof bound === 'object' ? bound?.port : 0;
    await mirror[Symbol.asyncDispose]();
    await startMirror({ upstreams: [{ host: 'liar.example', url: `http://127.0.0.1:${port}` }] });
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  it.each([1000, 1_000_000])('about a blob of %i bytes leaves nothing of it', async (size) => {
    const parts = { config: 'x'.repeat(size), layers: [] };
    answer['/v2/app/manifests/v1'] = { type: 'application/vnd.oci.image.manifest.v1+json', body: manifestOf(parts) };
    answer[`/v2/app/blobs/${digestOf(parts.config)}`] = { type: 'application/octet-stream', body: 'y'.repeat(size) };
    expect((await get('liar.example/app/manifests/v1')).status).toBe(200);
    const blob = await get(`liar.example/app/blobs/${digestOf(parts.config)}`);
    // a small one is an error; of a large one the last byte never comes
    if (blob.status === 200) await expect(blob.text()).rejects.toThrow();
    else expect(blob.status).toBe(502);
    expect(mirror.running.registry.storage.has(digestOf(parts.config))).toBe(false);
  });

  it('about a manifest, by digest or by two meanings, is not believed', async () => {
    const body = manifestOf({ config: '{}', layers: [] });
    answer[`/v2/app/manifests/${digestOf('other')}`] = { type: 'application/vnd.oci.image.manifest.v1+json', body };
    answer['/v2/app/manifests/two'] = { type: 'application/vnd.oci.image.index.v1+json', body };
    expect((await get(`liar.example/app/manifests/${digestOf('other')}`)).status).toBe(502);
    expect((await get('liar.example/app/manifests/two')).status).toBe(400);
    expect(mirror.running.registry.manifests.head('liar.example/app', 'two')).toBeUndefined();
  });
});

it('any upstream, when it is told so: by host', async () => {
  await mirror[Symbol.asyncDispose]();
  const host = new URL(upstream.url).host;
  await startMirror({ upstreams: [{ host: '*', url: undefined }] });
  await pushManifest(upstream.url, 'any/app', 'v1', PARTS);
  expect((await get(`${host}/any/app/manifests/v1`)).status).toBe(200);
  expect((await get('plain/app/manifests/v1')).status).toBe(404);
});
