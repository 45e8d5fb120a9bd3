/** The registry's garbage collection and retention. Time is given to the collector: no test waits. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Collected } from '../../ts/registry/server/collector.ts';
import type { RegistryConfig } from '../../ts/registry/server/config.ts';
import {
  digestOf,
  manifestOf,
  pushBlob,
  pushManifest,
  putManifest,
  type ServedRegistry,
  serveRegistry,
} from '../helpers/servedRegistry.ts';

const HOUR = 3_600_000;
let served: ServedRegistry;
const start = async (settings: Partial<RegistryConfig> = {}): Promise<void> => {
  served = await serveRegistry({ allowDelete: true, ...settings });
};
beforeEach(() => start());
afterEach(async () => {
  expect(served.running.registry.db.errors()).toEqual([]);
  await served[Symbol.asyncDispose]();
});

const collect = (afterMs: number): Promise<Collected> =>
  served.running.registry.collector.collect(Date.now() + afterMs);
const status = async (path: string, method = 'HEAD'): Promise<number> =>
  (await fetch(`${served.url}/v2/${path}`, { method })).status;
const files = (): string[] =>
  readdirSync(join(served.root, 'blobs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);

describe('blobs', () => {
  it('that nobody names go after the grace time, those in use stay', async () => {
    await pushManifest(served.url, 'live', 'v', { config: '{}', layers: ['layer'] });
    await pushBlob(served.url, 'live', 'unused');
    expect((await collect(HOUR / 2)).blobs).toBe(0);
    expect(await collect(2 * HOUR)).toMatchObject({ links: 1, blobs: 1 });
    expect(await status(`live/blobs/${digestOf('unused')}`)).toBe(404);
    expect(await status(`live/blobs/${digestOf('layer')}`)).toBe(200);
    expect(files()).toHaveLength(2);
    expect(readdirSync(join(served.root, 'retired'))).toEqual([]);
  });

  it('go with their last manifest, and not before the last repository has let go', async () => {
    const parts = { config: '{}', layers: ['shared'] };
    const digest = await pushManifest(served.url, 'one', 'v', parts);
    await pushManifest(served.url, 'two', 'v', parts);
    await status(`one/manifests/${digest}`, 'DELETE');
    expect(await collect(2 * HOUR)).toMatchObject({ links: 2, blobs: 0 });
    expect(await status(`two/blobs/${digestOf('shared')}`)).toBe(200);
    expect(await status(`one/blobs/${digestOf('shared')}`)).toBe(404);
    await status(`two/manifests/${digest}`, 'DELETE');
    expect(await collect(2 * HOUR)).toMatchObject({ links: 2, blobs: 2 });
    expect(files()).toEqual([]);
    expect(await status('two/tags/list', 'GET')).toBe(404);
  });

  it('pushed again after they were collected are there again', async () => {
    const digest = await pushBlob(served.url, 'again', 'phoenix');
    await collect(2 * HOUR);
    expect(await status(`again/blobs/${digest}`)).toBe(404);
    await pushManifest(served.url, 'again', 'v', { config: 'phoenix', layers: [] });
    await collect(2 * HOUR);
    expect(await status(`again/blobs/${digest}`)).toBe(200);
  });

  it('that a client has just asked for stay for its push', async () => {
    const { blobs, collector } = served.running.registry;
    const digest = await pushBlob(served.url, 'asked', 'asked for');
    const later = Date.now() + 0.9 * HOUR;
    expect(blobs.sizeKept('asked', digest, later)).toBe(9);
    expect((await collector.collect(later + 0.5 * HOUR)).blobs).toBe(0);
    expect((await collector.collect(later + 2 * HOUR)).blobs).toBe(1);
  });

  it('of a manifest that came before them count as used', async () => {
    await served[Symbol.asyncDispose]();
    await start({ allowSparse: true });
    await putManifest(served.url, 'sparse', 'v', manifestOf({ config: 'late', layers: [] }));
    const digest = await pushBlob(served.url, 'sparse', 'late');
    await collect(2 * HOUR);
    expect(await status(`sparse/blobs/${digest}`)).toBe(200);
  });
});

it('files that a crash left without a row are found at start', async () => {
  const { storage, collector } = served.running.registry;
  const kept = await pushBlob(served.url, 'kept', 'kept');
  const id = '00000000-0000-4000-8000-000000000000';
  await (await storage.writeUpload(id, 0)).close(true);
  await storage.commit(id, digestOf(''));
  expect(await collector.cleanOrphans()).toBe(1);
  expect(storage.has(digestOf(''))).toBe(false);
  expect(storage.has(kept)).toBe(true);
});

it('uploads that rest for too long are gone, those that go on are not', async () => {
  const begin = async (): Promise<string> =>
    (await fetch(`${served.url}/v2/rest/blobs/uploads/`, { method: 'POST' })).headers.get('location') ?? '';
  const path = await begin();
  await fetch(served.url + path, { method: 'PATCH', body: 'some bytes' });
  const empty = await begin();
  expect((await collect(23 * HOUR)).uploads).toBe(0);
  expect((await fetch(served.url + path)).status).toBe(204);
  expect((await collect(25 * HOUR)).uploads).toBe(2);
  for (const gone of [path, empty]) expect((await fetch(served.url + gone)).status).toBe(404);
  expect(readdirSync(join(served.root, 'uploads'))).toEqual([]);
});

describe('retention', () => {
  async function tags(name: string): Promise<string[]> {
    return ((await (await fetch(`${served.url}/v2/${name}/tags/list`)).json()) as { tags: string[] }).tags;
  }

  it('keeps the newest tags of the repositories that the rule names', async () => {
    await served[Symbol.asyncDispose]();
    await start({ retention: [{ repositories: ['ci/*'], keepTags: 2, untaggedTtlMs: HOUR }] });
    const { db } = served.running.registry;
    const setTime = db.prepare<[number, string], unknown>('UPDATE tag SET updated_ms = ? WHERE name = ?');
    for (const name of ['ci/app', 'release'])
      for (const [age, tag] of ['b', 'a', 'c'].entries()) {
        await pushManifest(served.url, name, tag, { config: '{}', layers: [tag] });
        setTime.run(age, tag);
      }
    expect(await collect(0)).toMatchObject({ tags: 1, manifests: 0 });
    expect(await tags('ci/app')).toEqual(['a', 'c']);
    expect(await tags('release')).toEqual(['a', 'b', 'c']);
    // the link to its layer goes with it: two hours from now the grace of one hour is over as well
    expect(await collect(2 * HOUR)).toMatchObject({ manifests: 1, blobs: 0, links: 1 });
    expect(await status(`ci/app/blobs/${digestOf('b')}`)).toBe(404);
    expect(await status(`release/blobs/${digestOf('b')}`)).toBe(200);
  });

  it('an untagged manifest goes after its time; one of an index and the signature of one that stays do not', async () => {
    await served[Symbol.asyncDispose]();
    await start({ retention: [{ repositories: ['**'], untaggedTtlMs: HOUR }] });
    const descriptor = (digest: string, size: number) => ({
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest,
      size,
    });
    const parts = (layer: string) => ({ config: '{}', layers: [layer] });
    const child = await pushManifest(served.url, 'r', digestOf(manifestOf(parts('child'))), parts('child'));
    const index = JSON.stringify({
      schemaVersion: 2,
      manifests: [descriptor(child, manifestOf(parts('child')).length)],
    });
    await putManifest(served.url, 'r', 'index', index, { 'content-type': 'application/vnd.oci.image.index.v1+json' });
    const signature = { ...parts('sig'), subject: descriptor(child, 1) };
    const signed = await pushManifest(served.url, 'r', digestOf(manifestOf(signature)), signature);
    const loose = await pushManifest(served.url, 'r', digestOf(manifestOf(parts('loose'))), parts('loose'));
    expect(await collect(2 * HOUR)).toMatchObject({ manifests: 1 });
    expect([
      await status(`r/manifests/${loose}`),
      await status(`r/manifests/${child}`),
      await status(`r/manifests/${signed}`),
    ]).toEqual([404, 200, 200]);
    await status('r/manifests/index', 'DELETE');
    expect(await collect(2 * HOUR)).toMatchObject({ manifests: 3 });
    expect(await status(`r/manifests/${signed}`)).toBe(404);
  });
});

it('pushes, deletes and collections at once leave nothing dangling', async () => {
  await served[Symbol.asyncDispose]();
  await start({ blobGraceMs: 300 });
  let collecting = true;
  const collector = (async () => {
    while (collecting) {
      await collect(0);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  await Promise.all(
    Array.from({ length: 8 }, async (_, worker) => {
      for (let round = 0; round < 8; round++) {
        const name = `busy/${worker % 3}`;
        const parts = { config: '{}', layers: [`layer ${round % 4}`] };
        const body = manifestOf(parts);
        for (let pushed = false; !pushed; ) {
          for (const blob of [parts.config, ...parts.layers]) await pushBlob(served.url, name, blob);
          // with so little grace a collection may come in between; then the push says so and begins anew
          pushed = (await putManifest(served.url, name, `t${worker}`, body)).status === 201;
        }
        for (const blob of [parts.config, ...parts.layers]) {
          const found = await fetch(`${served.url}/v2/${name}/blobs/${digestOf(blob)}`);
          const manifest = await status(`${name}/manifests/${digestOf(body)}`);
          // another worker may have deleted the manifest since; while it is there its blobs are
          if (manifest === 200 && found.status !== 200)
            expect(await status(`${name}/manifests/t${worker}`)).not.toBe(200);
          else if (found.status === 200) expect(await found.text()).toBe(blob);
        }
        if (round % 3 === 0) await status(`${name}/manifests/${digestOf(body)}`, 'DELETE');
      }
    }),
  );
  collecting = false;
  await collector;
  await collect(60_000);
  const { db, storage } = served.running.registry;
  const needed = db
    .prepare<[], { digest: string }>("SELECT DISTINCT digest FROM reference WHERE kind = 'blob'")
    .all()
    .map(({ digest }) => digest);
  expect(needed.every((digest) => storage.has(digest))).toBe(true);
  expect(files().length).toBe(needed.length);
}, 30_000);
