/** What every BlobStorage must do (ts/registry/server/storage.ts). */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FilesystemStorage } from '../../ts/registry/server/filesystem.ts';
import type { BlobStorage } from '../../ts/registry/server/storage.ts';
import { digestOf } from '../helpers/servedRegistry.ts';

const STORAGES: [name: string, open: (root: string) => BlobStorage][] = [
  ['filesystem', (root) => new FilesystemStorage(root)],
];

describe.each(STORAGES)('%s storage', (_name, open) => {
  let root: string;
  let storage: BlobStorage;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'caisson-storage-'));
    storage = open(root);
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  async function upload(data: string | Buffer, id: string = randomUUID()): Promise<string> {
    await storage.createUpload(id);
    const writer = await storage.writeUpload(id, 0);
    await writer.write(Buffer.from(data));
    await writer.close();
    return id;
  }

  async function stored(data: string | Buffer): Promise<string> {
    const digest = digestOf(data);
    await storage.commit(await upload(data), digest);
    return digest;
  }

  async function all<T>(list: AsyncIterable<T>): Promise<T[]> {
    const found: T[] = [];
    for await (const one of list) found.push(one);
    return found;
  }

  it('gives back what was committed, whole and in parts', async () => {
    const digest = await stored('0123456789');
    expect(storage.has(digest)).toBe(true);
    expect((await storage.readWhole(digest)).toString()).toBe('0123456789');
    expect(await text(await storage.read(digest, 0, 10))).toBe('0123456789');
    expect(await text(await storage.read(digest, 3, 5))).toBe('34');
    expect(await text(await storage.read(digest, 4, 4))).toBe('');
    expect(await all(storage.blobs())).toEqual([digest]);
    expect(await all(storage.uploads())).toEqual([]);
  });

  it('keeps an empty blob and one of several megabytes that came in odd pieces', async () => {
    const data = Buffer.alloc(5_000_001, 'caisson');
    const id = randomUUID();
    await storage.createUpload(id);
    const writer = await storage.writeUpload(id, 0);
    for (let at = 0; at < data.length; at += 77_777) await writer.write(data.subarray(at, at + 77_777));
    await writer.close();
    await storage.commit(id, digestOf(data));
    expect((await buffer(await storage.read(digestOf(data), 0, data.length))).equals(data)).toBe(true);
    expect(await storage.readWhole(await stored(''))).toEqual(Buffer.alloc(0));
  });

  it('continues an upload and drops what stands after that byte', async () => {
    const id = await upload('abcdef');
    const writer = await storage.writeUpload(id, 3);
    await writer.write(Buffer.from('XY'));
    await writer.close();
    expect(await storage.uploadSize(id)).toBe(5);
    expect(await text(storage.readUpload(id, 0))).toBe('abcXY');
    expect(await text(storage.readUpload(id, 1, 4))).toBe('bcX');
    expect(await text(storage.readUpload(id, 2, 2))).toBe('');
  });

  it('lists uploads, forgets them, and knows none that it does not have', async () => {
    const id = await upload('abc');
    expect((await all(storage.uploads())).map((one) => one.id)).toEqual([id]);
    await storage.removeUpload(id);
    await storage.removeUpload(id);
    expect(await storage.uploadSize(id)).toBeUndefined();
    await expect(storage.writeUpload(id, 0)).rejects.toThrow();
  });

  it('does not find a retired blob, but lets who reads it end', async () => {
    const data = Buffer.alloc(3_000_000, 'x');
    const digest = await stored(data);
    const reading = await storage.read(digest, 0, data.length);
    storage.retire(digest);
    expect(storage.has(digest)).toBe(false);
    await expect(storage.read(digest, 0, 1)).rejects.toThrow(/ENOENT/);
    await storage.sweep();
    expect((await buffer(reading)).length).toBe(data.length);
    storage.retire(digest);
  });

  it('takes a retired blob anew, and sweeping leaves that one', async () => {
    const digest = await stored('again');
    storage.retire(digest);
    await stored('again');
    await storage.sweep();
    expect((await storage.readWhole(digest)).toString()).toBe('again');
  });

  it('replaces a blob by the same one', async () => {
    const digest = await stored('same');
    await stored('same');
    expect((await storage.readWhole(digest)).toString()).toBe('same');
  });

  it('sweeps what an earlier process retired', async () => {
    const digest = await stored('old');
    storage.retire(digest);
    const next = open(root);
    await next.sweep();
    expect(await all(next.blobs())).toEqual([]);
  });

  it('takes no id or digest that is a path', async () => {
    await expect(storage.createUpload('../../evil')).rejects.toThrow();
    expect(() => storage.has('sha256:../../evil')).toThrow(/invalid digest/);
  });
});
