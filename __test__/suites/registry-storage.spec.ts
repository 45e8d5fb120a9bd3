/** What every BlobStorage must do (ts/registry/server/storage.ts). */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
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
    const writer = await storage.writeUpload(id, 0);
    await writer.write(Buffer.from(data));
    await writer.close(true);
    return id;
  }

  async function stored(data: string | Buffer): Promise<string> {
    const digest = digestOf(data);
    await storage.commit(await upload(data), digest);
    return digest;
  }

  /** Of a blob, the bytes from `start` on, up to and without `end`. */
  async function part(digest: string, start: number, end: number): Promise<Buffer> {
    const source = await storage.open(digest);
    const into = Buffer.alloc(end - start);
    let length = 0;
    for (let came = -1; came !== 0 && length < into.length; length += came)
      came = await source.read(into.subarray(length), start + length);
    await source.close();
    return into.subarray(0, length);
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
    expect((await part(digest, 0, 10)).toString()).toBe('0123456789');
    expect((await part(digest, 3, 5)).toString()).toBe('34');
    expect((await part(digest, 8, 20)).toString()).toBe('89');
    expect(await all(storage.blobs())).toEqual([digest]);
    expect(await all(storage.uploads())).toEqual([]);
  });

  it('keeps an empty blob and one of several megabytes that came in odd pieces', async () => {
    const data = Buffer.alloc(5_000_001, 'caisson');
    const id = randomUUID();
    const writer = await storage.writeUpload(id, 0);
    for (let at = 0; at < data.length; at += 77_777) await writer.write(data.subarray(at, at + 77_777));
    await writer.close(true);
    await storage.commit(id, digestOf(data));
    expect((await part(digestOf(data), 0, data.length)).equals(data)).toBe(true);
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

  it('lets an upload be read while it grows, and still when it has become a blob', async () => {
    const id = await upload('abc');
    const source = await storage.openUpload(id);
    const writer = await storage.writeUpload(id, 3);
    await writer.write(Buffer.from('def'));
    await writer.flush();
    const into = Buffer.alloc(10);
    expect(into.subarray(0, await source.read(into, 1)).toString()).toBe('bcdef');
    await writer.close(true);
    await storage.commit(id, digestOf('abcdef'));
    expect(into.subarray(0, await source.read(into, 4)).toString()).toBe('ef');
    await source.close();
    await expect(storage.openUpload(id)).rejects.toThrow(/ENOENT/);
  });

  it('lists uploads, forgets them, and knows none that it does not have', async () => {
    const id = await upload('abc');
    expect((await all(storage.uploads())).map((one) => one.id)).toEqual([id]);
    await storage.removeUpload(id);
    await storage.removeUpload(id);
    expect(await storage.uploadSize(id)).toBeUndefined();
    await expect(storage.writeUpload(id, 1)).rejects.toThrow();
  });

  it('does not find a retired blob, but lets who reads it end', async () => {
    const data = Buffer.alloc(3_000_000, 'x');
    const digest = await stored(data);
    const reading = await storage.open(digest);
    storage.retire(digest);
    expect(storage.has(digest)).toBe(false);
    await expect(storage.open(digest)).rejects.toThrow(/ENOENT/);
    await storage.sweep();
    expect(await reading.read(Buffer.alloc(10), data.length - 5)).toBe(5);
    await reading.close();
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
    await expect(storage.writeUpload('../../evil', 0)).rejects.toThrow();
    expect(() => storage.has('sha256:../../evil')).toThrow(/invalid digest/);
  });
});
