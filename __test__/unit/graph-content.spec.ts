import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ContentStore } from '../../ts/graph/content-store.ts';
import { Database } from '../../ts/graph/db.ts';
import { GarbageCollector } from '../../ts/graph/gc.ts';
import { Graph } from '../../ts/graph/graph.ts';
import { removePlainTree, Snapshotter } from '../../ts/graph/snapshotter.ts';

let dir: string;
let graph: Graph;
let content: ContentStore;
let snapshotter: Snapshotter;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-content-'));
  graph = new Graph(new Database(join(dir, 'graph.db')));
  content = new ContentStore(dir, graph.blobs);
  snapshotter = new Snapshotter({ dataRoot: dir, layers: graph.layers, removeTree: removePlainTree });
});

afterEach(async () => {
  await graph.db.close();
  rmSync(dir, { recursive: true });
});

const digest = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const bytes = (text: string): Uint8Array => Buffer.from(text);
const stored = (): string[] => readdirSync(join(dir, 'content/blobs/sha256'));
const ingests = (): string[] => readdirSync(join(dir, 'content/ingest'));
const container = (id: string, chainId: string | null) => ({
  id,
  name: id,
  imageId: 'gone',
  imageName: 'gone',
  chainId,
  created: '',
  config: '{}',
  hostConfig: '{}',
  detail: '{}',
});

describe('content store', () => {
  async function* chunks(...parts: string[]): AsyncGenerator<Uint8Array> {
    for (const part of parts) yield bytes(part);
  }

  test('keeps what it is given, by digest', async () => {
    const row = await content.ingest(chunks('hel', 'lo'), { mediaType: 'text/plain' });
    expect(row).toMatchObject({ digest: digest('hello'), sizeBytes: 5, mediaType: 'text/plain' });
    expect((await content.read(row.digest)).toString()).toBe('hello');
    expect(graph.blobs.get(row.digest)).toEqual(row);
    await content.ingest(bytes('hello'), { mediaType: 'text/plain', digest: digest('hello'), sizeBytes: 5 });
    expect(graph.blobs.all()).toEqual([row]);
    expect(ingests()).toEqual([]);
  });

  test('knows sha512', async () => {
    const sha512 = `sha512:${createHash('sha512').update('x').digest('hex')}`;
    await content.ingest(bytes('x'), { mediaType: 't', digest: sha512 });
    expect((await content.read(sha512)).toString()).toBe('x');
  });

  test.each([
    ['another digest', 'other', { digest: digest('hello') }, 'has other bytes'],
    ['one byte less', 'hell', { sizeBytes: 5 }, 'has 4 bytes, not the 5 announced'],
    ['one byte more', 'hello!', { sizeBytes: 5 }, 'more than the 5 bytes'],
  ])('refuses %s and leaves nothing', async (_, text, expected, message) => {
    await expect(content.ingest(bytes(text), { mediaType: 't', ...expected })).rejects.toMatchObject({
      kind: 'DataLoss',
      message: expect.stringContaining(message),
    });
    expect([stored(), ingests(), graph.blobs.all()]).toEqual([[], [], []]);
  });

  test('leaves nothing when the source fails or the caller aborts', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield bytes('x');
      throw new Error('connection reset');
    }
    await expect(content.ingest(broken(), { mediaType: 't' })).rejects.toThrow('connection reset');
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(content.ingest(chunks('a'), { mediaType: 't', signal })).rejects.toThrow('enough');
    expect([stored(), ingests()]).toEqual([[], []]);
  });

  test.each(['sha256:../../etc/passwd', 'sha256:AB', `sha256:${'A'.repeat(64)}`, 'md5:00', ''])(
    'makes no path of %j',
    (bad) => {
      expect(() => content.path(bad)).toThrow('invalid digest');
    },
  );

  test('tells damage, loss and size', async () => {
    const row = await content.ingest(bytes('hello'), { mediaType: 't' });
    writeFileSync(content.path(row.digest), 'jello');
    await expect(content.read(row.digest)).rejects.toMatchObject({ kind: 'DataLoss' });
    rmSync(content.path(row.digest));
    await expect(content.read(row.digest)).rejects.toMatchObject({ kind: 'DataLoss' });
    await expect(content.read(digest('nothing'))).rejects.toMatchObject({ kind: 'NotFound' });
    graph.blobs.insert({ ...row, digest: digest('big'), sizeBytes: 9_000_000 });
    await expect(content.read(digest('big'))).rejects.toMatchObject({ kind: 'InvalidParameter' });
  });

  test('cleans what a killed daemon left, and no more', async () => {
    const row = await content.ingest(bytes('kept'), { mediaType: 't' });
    writeFileSync(content.newIngest(), 'half');
    writeFileSync(content.path(digest('no row')), 'no row');
    new ContentStore(dir, graph.blobs).clean();
    expect(stored()).toEqual([row.digest.slice(7)]);
    expect(ingests()).toEqual([]);
  });
});

async function layer(chainId: string, parent: string | null = null, blobDigest: string | null = null): Promise<string> {
  const cacheId = snapshotter.newCacheId();
  mkdirSync(await snapshotter.prepareLayer(cacheId));
  await snapshotter.commitLayer(cacheId);
  graph.layers.insert({
    chainId,
    diffId: chainId,
    parent,
    cacheId,
    sizeBytes: 10,
    blobDigest,
    blobSizeBytes: null,
    blobMediaType: null,
    createdMs: 1,
    keepsBlob: 1,
  });
  return cacheId;
}

describe('snapshotter', () => {
  const overlay = (): string[] => readdirSync(join(dir, 'overlay')).sort();

  test('gives a layer its place when it is complete', async () => {
    const cacheId = snapshotter.newCacheId();
    const diff = await snapshotter.prepareLayer(cacheId);
    expect(overlay()).toEqual([`tmp-${cacheId}`]);
    mkdirSync(diff);
    writeFileSync(join(diff, 'file'), 'x');
    await snapshotter.commitLayer(cacheId);
    expect(overlay()).toEqual([cacheId]);
    expect(readFileSync(join(snapshotter.layerDirectory(cacheId), 'file'), 'utf8')).toBe('x');
    await snapshotter.discardLayer(cacheId);
    await snapshotter.discardLayer(cacheId);
    expect(overlay()).toEqual([]);
  });

  test('discards nothing that is a layer of the graph', async () => {
    const cacheId = await layer('base');
    await snapshotter.discardLayer(cacheId);
    expect(overlay()).toEqual([cacheId]);
  });

  test('lists the lower directories from the top', async () => {
    const base = await layer('base');
    const top = await layer('top', 'base');
    expect(snapshotter.lower('top')).toEqual([top, base].map((cacheId) => snapshotter.layerDirectory(cacheId)));
    expect(snapshotter.lower(null)).toEqual([]);
    expect(() => snapshotter.lower('unknown')).toThrow('layer unknown is not in the store');
  });

  test('makes a container directory whose root looks like the image', async () => {
    const base = await layer('base');
    rmSync(snapshotter.layerDirectory(base), { recursive: true });
    mkdirSync(snapshotter.layerDirectory(base), { mode: 0o711 });
    const id = 'c'.repeat(64);
    await snapshotter.prepareContainer(id, 'base');
    const { upper, work } = snapshotter.container(id);
    expect(statSync(upper).mode & 0o7777).toBe(0o711);
    expect(readdirSync(work)).toEqual([]);
    await snapshotter.removeContainer(id);
    await snapshotter.removeContainer(id);
    expect(overlay()).toEqual([base]);
  });

  test('cleans orphans at start, but nothing that a row or a job knows', async () => {
    const [kept, planned, orphan, half] = await Promise.all([
      layer('kept'),
      ...[1, 2, 3].map(async () => {
        const cacheId = snapshotter.newCacheId();
        await snapshotter.prepareLayer(cacheId);
        return cacheId;
      }),
    ]);
    await snapshotter.commitLayer(orphan as string);
    await snapshotter.prepareContainer('a'.repeat(64), null);
    await snapshotter.prepareContainer('b'.repeat(64), null);
    const removed = await snapshotter.clean(['a'.repeat(64)], [planned as string]);
    expect(removed.sort()).toEqual([orphan, `tmp-${half}`, 'b'.repeat(64)].sort());
    expect(overlay()).toEqual(['a'.repeat(64), kept, `tmp-${planned}`].sort());
  });

  test('never leaves its directory', () => {
    for (const bad of ['..', '../../etc', '', 'abc'])
      expect(() => snapshotter.layerDirectory(bad)).toThrow('no snapshot');
  });
});

describe('garbage collector', () => {
  let gc: GarbageCollector;
  beforeEach(() => {
    gc = new GarbageCollector(graph, content, snapshotter, 'boot');
  });

  const image = (id: string, layers: string[], blobs: string[]): void =>
    graph.images.insert({
      image: { id, config: '{}', manifestDigest: null, sizeBytes: 1, parent: null, createdMs: 1, taggedMs: null },
      layers,
      blobs,
    });
  const lease = (bootId: string, expiresMs: number | null): void =>
    graph.leases.insert({ id: 'l', purpose: 'test', bootId, createdMs: 1, expiresMs });
  const chainIds = (): string[] => graph.layers.all().map((row) => row.chainId);
  const blob = async (text: string): Promise<string> => (await content.ingest(bytes(text), { mediaType: 't' })).digest;

  test('takes what nothing refers to, the top layer first, and its files', async () => {
    const manifest = await blob('manifest');
    const packed = await blob('packed');
    const cacheIds = [await layer('z'), await layer('a', 'z', packed), await layer('m', 'a')];
    image('i', ['z', 'a', 'm'], [manifest]);
    expect(gc.collect()).toEqual({ layers: [], blobs: [], detached: [], reclaimedBytes: 0 });

    graph.images.delete('i');
    const garbage = gc.collect();
    expect(garbage.layers.map((row) => row.chainId)).toEqual(['m', 'a', 'z']);
    expect(garbage.blobs.map((row) => row.digest).sort()).toEqual([manifest, packed].sort());
    expect(garbage.reclaimedBytes).toBe(3 * 10 + 'manifest'.length + 'packed'.length);
    expect(stored()).toEqual([]);
    expect(readdirSync(join(dir, 'overlay')).sort()).toEqual([...cacheIds].sort());
    await gc.sweep(garbage);
    expect([ingests(), readdirSync(join(dir, 'overlay'))]).toEqual([[], []]);
  });

  test('keeps what another image, a container or a lease needs, and all below', async () => {
    await layer('base');
    await layer('shared', 'base');
    await layer('mine', 'shared');
    await layer('run', 'shared');
    await layer('leased', 'base');
    await layer('dead', 'base');
    image('i', ['base', 'shared', 'mine'], []);
    graph.containers.insert(container('c', 'run'));
    lease('boot', null);
    graph.leases.add('l', 'layer', 'leased');
    graph.leases.add('l', 'blob', digest('leased'));
    await blob('leased');
    expect(gc.collect().layers.map((row) => row.chainId)).toEqual(['dead']);
    expect(graph.blobs.all()).toHaveLength(1);
    graph.images.delete('i');
    expect(gc.collect().layers.map((row) => row.chainId)).toEqual(['mine']);
    graph.leases.delete('l');
    graph.containers.delete('c');
    gc.collect();
    expect([chainIds(), graph.blobs.all()]).toEqual([[], []]);
  });

  test.each([
    ['of another boot', 'old', null],
    ['that expired', 'boot', 1],
  ])('does not honour a lease %s', async (_, bootId, expiresMs) => {
    await layer('a');
    lease(bootId, expiresMs);
    graph.leases.add('l', 'layer', 'a');
    gc.collect();
    expect([chainIds(), graph.leases.all()]).toEqual([[], []]);
  });

  test('in a transaction that is rolled back takes nothing', async () => {
    const kept = await blob('kept');
    expect(() =>
      graph.db.transaction(() => {
        gc.collect();
        throw new Error('no');
      }),
    ).toThrow('no');
    expect((await content.read(kept)).toString()).toBe('kept');
  });

  test('does not take a blob that came back while the old file was on its way out', async () => {
    const one = await blob('one');
    const garbage = gc.collect();
    await blob('one');
    await gc.sweep(garbage);
    expect((await content.read(one)).toString()).toBe('one');
  });
});
