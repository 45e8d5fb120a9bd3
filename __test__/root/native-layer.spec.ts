/** Layers through the built addon: what crosses the boundary is what ts/engine/native/index.ts promises. */
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { unwrap } from '../../ts/engine/native/failure.ts';
import type { LayerSink } from '../../ts/engine/native/files.ts';
import { loadNative, type Native } from '../../ts/engine/native/index.ts';
import { busyboxTar } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';

const sha256 = (data: Uint8Array): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

async function feed(sink: LayerSink, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; at += 65_536) unwrap(await sink.write(bytes.subarray(at, at + 65_536)));
}

describe.skipIf(missing('root', 'build', 'busybox'))('layers in the addon', () => {
  let native: Native;
  let dir: string;

  beforeEach(() => {
    native = loadNative();
    dir = mkdtempSync(join(tmpdir(), 'caisson-native-layer-'));
  });

  afterEach(async () => {
    await native.removeTree(dir);
    expect(existsSync(dir)).toBe(false);
  });

  test('several layers at once, each in its own compression', async () => {
    const tar = await busyboxTar({ 'etc/motd': 'hello' });
    const blobs = [tar, gzipSync(tar), zstdCompressSync(tar)];
    const applied = await Promise.all(
      blobs.map(async (blob, index) => {
        const blobPath = join(dir, `blob${index}`);
        const sink = native.openLayer({
          targetDir: join(dir, `layer${index}`),
          blobPath,
          expectedDigest: sha256(blob),
          expectedSize: blob.length,
          expectedDiffId: sha256(tar),
        });
        await feed(sink, blob);
        const result = unwrap(await sink.end());
        expect(readFileSync(blobPath).equals(blob)).toBe(true);
        expect(readFileSync(join(dir, `layer${index}`, 'etc/motd'), 'utf8')).toBe('hello');
        return result;
      }),
    );
    for (const [index, result] of applied.entries()) {
      const blob = blobs[index] as Buffer;
      expect(result).toMatchObject({ digest: sha256(blob), sizeBytes: blob.length, diffId: sha256(tar) });
      expect(result.entries).toBe(applied[0]?.entries);
    }
    const busybox = lstatSync(join(dir, 'layer0/bin/busybox'));
    expect(busybox.nlink).toBeGreaterThan(100);
    expect(await native.treeSize(join(dir, 'layer0'))).toBeGreaterThan(busybox.size);
  });

  test('a wrong digest fails as DataLoss and leaves nothing', async () => {
    const blob = gzipSync(await busyboxTar());
    const wrong = `sha256:${'0'.repeat(64)}`;
    const options = { targetDir: join(dir, 'layer'), blobPath: join(dir, 'blob'), expectedDigest: wrong };
    const sink = native.openLayer(options);
    await feed(sink, blob);
    const result = await sink.end();
    expect(result).toMatchObject({ error: { kind: 'corrupt', path: wrong } });
    expect(() => unwrap(result)).toThrow(sha256(blob));
    expect(readdirSync(dir)).toEqual([]);
  });

  test('a writer is told of a hostile archive', async () => {
    const sink = native.openLayer({ targetDir: join(dir, 'layer') });
    const junk = new Uint8Array(1 << 20).fill(120);
    let failure: unknown;
    for (let i = 0; i < 1000 && !failure; i++) {
      const result = await sink.write(junk);
      if ('error' in result) failure = result.error.kind;
    }
    expect(failure).toBe('corrupt');
    expect(await sink.end()).toMatchObject({ error: { kind: 'corrupt' } });
    expect(readdirSync(dir)).toEqual([]);
  });

  test('the bytes are copied before write returns', async () => {
    const tar = await busyboxTar();
    const sink = native.openLayer({ targetDir: join(dir, 'layer'), expectedDigest: sha256(tar) });
    const buffer = Uint8Array.from(tar);
    const written = sink.write(buffer);
    buffer.fill(0);
    unwrap(await written);
    expect(unwrap(await sink.end()).digest).toBe(sha256(tar));
  });

  test('abort half way leaves nothing', async () => {
    const sink = native.openLayer({ targetDir: join(dir, 'layer'), blobPath: join(dir, 'blob') });
    unwrap(await sink.write((await busyboxTar()).subarray(0, 300_000)));
    unwrap(await sink.abort());
    expect(readdirSync(dir)).toEqual([]);
    expect(await sink.end()).toMatchObject({ error: { kind: 'cancelled' } });
  });

  test('a directory of an image fills an empty volume, once', async () => {
    const lower = join(dir, 'lower');
    const upper = join(dir, 'upper');
    const target = join(dir, 'volume');
    for (const path of [join(lower, 'data'), join(upper, 'data'), target]) mkdirSync(path, { recursive: true });
    writeFileSync(join(lower, 'data/a'), 'lower');
    writeFileSync(join(lower, 'data/b'), 'lower');
    writeFileSync(join(upper, 'data/b'), 'upper');
    await native.copyUp({ lower: [lower], upper, source: '/data', target, subpath: '' });
    expect(readdirSync(target).sort()).toEqual(['a', 'b']);
    expect(readFileSync(join(target, 'b'), 'utf8')).toBe('upper');
    rmSync(join(target, 'a'));
    await native.copyUp({ lower: [lower], upper, source: '/data', target, subpath: '' });
    expect(readdirSync(target)).toEqual(['b']);
    await native.copyUp({ lower: [lower], source: '/missing', target, subpath: '' });
  });
});
