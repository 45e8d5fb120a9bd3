import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { create } from 'tar';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sha256Of } from '../../ts/digest.ts';
import { readArchive } from '../../ts/engine/images/archive.ts';
import { readBundles } from '../../ts/engine/images/bundles.ts';
import { CaissonError } from '../../ts/errdefs.ts';

const dir = mkdtempSync(join(tmpdir(), 'caisson-archive-'));
const never = new AbortController().signal;
let archive: Buffer;
let layer: Buffer;

const PLATFORM = { os: 'linux', architecture: 'amd64' };

async function pack(cwd: string, paths: string[]): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of create({ cwd, portable: true }, paths) as AsyncIterable<Buffer>)
    chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

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
  const layout = (index: object, blobs: string[]): Map<string, Buffer> =>
    new Map([
      ['index.json', Buffer.from(JSON.stringify(index))],
      ...blobs.map((text): [string, Buffer] => [`blobs/${digest(text).replace(':', '/')}`, Buffer.from(text)]),
    ]);
  const config = '{"rootfs":{"type":"layers","diff_ids":[]}}';
  const manifest = JSON.stringify({ schemaVersion: 2, config: { digest: digest(config) }, layers: [] });

  it('leads to the manifest of the platform', () => {
    const inner = JSON.stringify({
      manifests: [
        { digest: digest('other'), platform: { os: 'linux', architecture: 'arm64' } },
        { digest: digest(manifest), platform: { os: 'linux', architecture: 'amd64' } },
      ],
    });
    const annotations = { 'io.containerd.image.name': 'docker.io/library/a:b' };
    const documents = layout({ manifests: [{ digest: digest(inner), annotations }] }, [inner, manifest, config]);
    expect(readBundles(documents, PLATFORM)).toMatchObject([
      { names: ['docker.io/library/a:b'], manifest: { digest: digest(manifest) }, layerPaths: [] },
    ]);
    expect(() => readBundles(documents, { os: 'linux', architecture: 's390x' })).toThrow('no image for linux/s390x');
  });

  it('is not followed to an attestation', () => {
    const platform = { os: 'unknown', architecture: 'unknown' };
    const manifests = [{ digest: digest('attestation'), platform }, { digest: digest(manifest) }];
    expect(readBundles(layout({ manifests }, ['attestation', manifest, config]), PLATFORM)).toHaveLength(1);
  });

  it('is refused when it is a manifest at the same time (CVE-2021-41190)', () => {
    const both = JSON.stringify({ manifests: [], layers: [], config: { digest: digest(config) } });
    expect(() => readBundles(layout({ manifests: [{ digest: digest(both) }] }, [both, config]), PLATFORM)).toThrow(
      'both an index and a manifest',
    );
  });

  it('does not lead in circles', () => {
    const self = `blobs/sha256/${'a'.repeat(64)}`;
    const loop = { manifests: [{ digest: `sha256:${'a'.repeat(64)}`, platform: PLATFORM }] };
    const documents = new Map([
      ['index.json', Buffer.from(JSON.stringify(loop))],
      [self, Buffer.from(JSON.stringify(loop))],
    ]);
    expect(() => readBundles(documents, PLATFORM)).toThrow(CaissonError);
  });
});
