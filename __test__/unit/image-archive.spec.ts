import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sha256Of } from '../../ts/digest.ts';
import { readArchive } from '../../ts/engine/images/archive.ts';
import { readBundles } from '../../ts/engine/images/bundles.ts';
import { CaissonError } from '../../ts/errdefs.ts';
import { MEDIA_TYPES } from '../../ts/oci.ts';
import { packed } from '../helpers/image.ts';

const dir = mkdtempSync(join(tmpdir(), 'caisson-archive-'));
const never = new AbortController().signal;
let archive: Buffer;
let layer: Buffer;

const PLATFORM = { os: 'linux', architecture: 'amd64' };

const pack = (cwd: string, paths: string[]): Promise<Buffer> => packed({ cwd, portable: true }, paths);

/** In pieces that cross every boundary of the format. */
const stream = (bytes: Buffer, piece = 700): Readable =>
  Readable.from(
    (function* () {
      for (let i = 0; i < bytes.length; i += piece) yield bytes.subarray(i, i + piece);
    })(),
    { objectMode: false },
  );

const read = (bytes: Buffer, piece?: number) =>
  readArchive(stream(bytes, piece), never, async (_path, chunks) => {
    const parts: Buffer[] = [];
    for await (const chunk of chunks) parts.push(chunk);
    return sha256Of(Buffer.concat(parts));
  });

beforeAll(async () => {
  mkdirSync(join(dir, 'in'));
  writeFileSync(join(dir, 'in/file'), 'x'.repeat(5000));
  layer = await pack(join(dir, 'in'), ['file']);
  mkdirSync(join(dir, 'out'));
  writeFileSync(join(dir, 'out/a.tar'), layer);
  writeFileSync(join(dir, 'out/b.tar.gz'), gzipSync(layer));
  writeFileSync(join(dir, 'out/empty.tar'), Buffer.alloc(1024));
  writeFileSync(join(dir, 'out/c.json'), '{"rootfs":{"type":"layers","diff_ids":[]}}');
  writeFileSync(join(dir, 'out/VERSION'), '1.0');
  writeFileSync(
    join(dir, 'out/manifest.json'),
    '[{"Config":"c.json","RepoTags":["a:b"],"Layers":["a.tar","b.tar.gz"]}]',
  );
  archive = await pack(join(dir, 'out'), ['a.tar', 'b.tar.gz', 'empty.tar', 'c.json', 'VERSION', 'manifest.json']);
});
afterAll(() => rmSync(dir, { recursive: true }));

describe('an archive', () => {
  it.each([100, 512, 700, 1 << 20])('is read in one pass, in pieces of %d bytes', async (piece) => {
    const found = await read(archive, piece);
    expect([...found.layers]).toEqual([
      ['a.tar', sha256Of(layer)],
      ['b.tar.gz', sha256Of(gzipSync(layer))],
      ['empty.tar', sha256Of(Buffer.alloc(1024))],
    ]);
    expect([...found.documents.keys()]).toEqual(['c.json', 'manifest.json']);
    expect(readBundles(found.documents, PLATFORM)).toMatchObject([
      { names: ['a:b'], layerPaths: ['a.tar', 'b.tar.gz'] },
    ]);
  });

  it('may be compressed', async () => {
    expect((await read(gzipSync(archive))).layers.size).toBe(3);
  });

  it('tells the failure of a layer, not what follows from it', async () => {
    const failure = new CaissonError('DataLoss', 'the layer is damaged');
    await expect(readArchive(stream(archive), never, () => Promise.reject(failure))).rejects.toBe(failure);
  });

  it('ends when it is aborted, also while a layer waits', async () => {
    const abort = new AbortController();
    const waiting = readArchive(stream(archive), abort.signal, async (_path, chunks) => {
      abort.abort();
      for await (const _ of chunks);
    });
    await expect(waiting).rejects.toThrow();
  });

  it('settles wherever it is cut off or changed', async () => {
    for (let i = 0; i < 64; i++) {
      const at = Math.floor((archive.length / 64) * i);
      const settled = await read(archive.subarray(0, at)).then(
        () => true,
        (error: unknown) => error instanceof CaissonError,
      );
      expect([at, settled]).toEqual([at, true]);
    }
    for (let i = 0; i < 200; i++) {
      const mutated = Buffer.from(archive);
      const at = (i * 7919) % mutated.length;
      mutated[at] = (mutated[at] ?? 0) ^ (1 + ((i * 31) % 255));
      const settled = await read(mutated).then(
        () => true,
        (error: unknown) => error instanceof CaissonError,
      );
      expect([at, settled]).toEqual([at, true]);
    }
  });
});

describe('an index', () => {
  const digest = (text: string): string => sha256Of(text);
  const describes = (text: string, mediaType: string = MEDIA_TYPES.ociManifest, more: object = {}): object => ({
    mediaType,
    digest: digest(text),
    size: Buffer.byteLength(text),
    ...more,
  });
  const layout = (index: object, blobs: string[]): Map<string, Buffer> =>
    new Map([
      ['index.json', Buffer.from(JSON.stringify(index))],
      ...blobs.map((text): [string, Buffer] => [`blobs/${digest(text).replace(':', '/')}`, Buffer.from(text)]),
    ]);
  const indexOf = (...manifests: object[]): object => ({ schemaVersion: 2, manifests });
  const config = '{"rootfs":{"type":"layers","diff_ids":[]}}';
  const image = { schemaVersion: 2, config: describes(config, MEDIA_TYPES.ociConfig), layers: [] };
  const manifest = JSON.stringify(image);
  const amd64 = { platform: PLATFORM };

  it('leads to the manifest of the platform', () => {
    const inner = JSON.stringify(
      indexOf(
        describes('other', MEDIA_TYPES.ociManifest, { platform: { os: 'linux', architecture: 'arm64' } }),
        describes(manifest, MEDIA_TYPES.ociManifest, amd64),
      ),
    );
    const annotations = { 'io.containerd.image.name': 'docker.io/library/a:b' };
    const outer = indexOf(describes(inner, MEDIA_TYPES.ociIndex, { annotations }));
    const documents = layout(outer, [inner, manifest, config]);
    expect(readBundles(documents, PLATFORM)).toMatchObject([
      { names: ['docker.io/library/a:b'], manifest: { digest: digest(manifest) }, layerPaths: [] },
    ]);
    expect(() => readBundles(documents, { os: 'linux', architecture: 's390x' })).toThrow('no image for linux/s390x');
  });

  it.each([
    ['says no platform', {}],
    ['is for a processor that this one can stand for', { platform: { os: 'linux', architecture: '386' } }],
  ])('leads to the only manifest, which %s', (_what, more) => {
    const inner = JSON.stringify(indexOf(describes(manifest, MEDIA_TYPES.ociManifest, more)));
    const documents = layout(indexOf(describes(inner, MEDIA_TYPES.ociIndex)), [inner, manifest, config]);
    expect(readBundles(documents, PLATFORM)).toMatchObject([{ manifest: { digest: digest(manifest) } }]);
  });

  it('is not followed to an attestation', () => {
    const platform = { os: 'unknown', architecture: 'unknown' };
    const outer = indexOf(describes('attestation', MEDIA_TYPES.ociManifest, { platform }), describes(manifest));
    expect(readBundles(layout(outer, ['attestation', manifest, config]), PLATFORM)).toHaveLength(1);
  });

  it.each([
    ['both an index and a manifest', { ...image, manifests: [] }, 'both an index and a manifest'],
    ['another type than the index says', { ...image, mediaType: MEDIA_TYPES.dockerManifest }, 'it was served as'],
    ['a key that others read as another', { ...image, Layers: [] }, 'which some read as layers'],
    ['a key twice', manifest.replace('{', '{"layers":[],'), 'appears twice'],
    ['a layer that is null', { ...image, layers: [null] }, 'layers[0] is no object'],
    ['a digest that is a path', { ...image, layers: [{ digest: 'sha256:../x' }] }, 'layers[0] has no mediaType'],
  ])('is refused when it names %s (CVE-2021-41190)', (_what, document, message) => {
    const text = typeof document === 'string' ? document : JSON.stringify(document);
    const documents = layout(indexOf(describes(text)), [text, config]);
    expect(() => readBundles(documents, PLATFORM)).toThrow(message);
    documents.set('manifest.json', Buffer.from('[{"Config":"c.json","RepoTags":null,"Layers":[]}]'));
    expect(() => readBundles(documents, PLATFORM)).toThrow(message);
  });

  it('is refused when a manifest has other bytes than its digest', () => {
    const documents = layout(indexOf(describes(manifest)), [manifest, config]);
    documents.set(`blobs/${digest(manifest).replace(':', '/')}`, Buffer.from(manifest.replace('[]', '[ ]')));
    expect(() => readBundles(documents, PLATFORM)).toThrow(`${digest(manifest)}: `);
  });

  it('of an archive of Docker may name artifacts beside the image', () => {
    const signature = JSON.stringify({ ...image, config: describes('{}', 'application/vnd.oci.empty.v1+json') });
    const documents = layout(indexOf(describes(signature), describes(manifest)), [signature, manifest, config]);
    documents.set('manifest.json', Buffer.from('[{"Config":"c.json","RepoTags":null,"Layers":[]}]'));
    documents.set('c.json', Buffer.from(config));
    expect(readBundles(documents, PLATFORM)).toMatchObject([{ manifest: { digest: digest(manifest) } }]);
  });

  it('of Docker may leave out what Go leaves out', () => {
    const bare = JSON.stringify({ ...image, schemaVersion: undefined });
    const documents = layout(indexOf(describes(bare)), [bare, config]);
    documents.set('manifest.json', Buffer.from('[{"Config":"c.json","RepoTags":null,"Layers":null}]'));
    documents.set('c.json', Buffer.from(config));
    expect(readBundles(documents, PLATFORM)).toMatchObject([{ names: [], layerPaths: [], manifest: undefined }]);
  });

  it('that names itself is refused: no digest can', () => {
    const self = describes('x', MEDIA_TYPES.ociIndex, amd64);
    const documents = layout(indexOf(self), ['x']);
    documents.set(`blobs/${digest('x').replace(':', '/')}`, Buffer.from(JSON.stringify(indexOf(self))));
    expect(() => readBundles(documents, PLATFORM)).toThrow(CaissonError);
  });
});
