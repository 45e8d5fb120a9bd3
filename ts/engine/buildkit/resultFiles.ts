/** The files of a build's result, as a gateway client reads them one by one. */
import { once } from 'node:events';
import { posix } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { Parser, type ReadEntry } from 'tar';
import { cleaned } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import { matcher, resolveIn } from '../builder/source.ts';
import { archiveOf } from '../builder/view.ts';
import type { ArchiveView } from '../native/files.ts';
import type { Native } from '../native/index.ts';
import { type Stat, StatSchema } from './proto/filesync_pb.ts';
import { goMode } from './tarEntry.ts';

/** What one answer may hold. */
const MAX_BYTES = 16 << 20;

export class ResultFiles {
  readonly #native: Native;
  readonly #view: ArchiveView;

  constructor(native: Native, view: ArchiveView) {
    this.#native = native;
    this.#view = view;
  }

  /** `length`: 0 for all from there on. */
  async read(path: string, offset: number, length: number): Promise<Buffer> {
    const place = await this.#place(path, 'open');
    if (place.kind === 'directory') throw new CaissonError('InvalidParameter', `read ${path}: is a directory`);
    const wanted = length === 0 ? Number.POSITIVE_INFINITY : offset + length;
    const chunks: Buffer[] = [];
    let bytes = 0;
    await this.#entries(place.path, 'x', (entry, fail) => {
      entry.on('data', (chunk: Buffer) => {
        if (bytes < wanted) chunks.push(chunk);
        bytes += chunk.length;
        if (Math.min(bytes, wanted) - offset > MAX_BYTES) fail(tooLarge(path));
      });
    });
    return Buffer.concat(chunks).subarray(offset, Math.min(bytes, wanted));
  }

  async stat(path: string): Promise<Stat> {
    const place = await this.#place(path, 'stat');
    const { mode, size, mtimeSeconds, mtimeNanoseconds } = await this.#native.statArchive(this.#view, `/${place.path}`);
    return create(StatSchema, {
      path: posix.basename(path),
      mode: goMode(place.kind === 'directory' ? 'Directory' : 'File', mode),
      size: BigInt(size),
      modTime: BigInt(mtimeSeconds) * 1_000_000_000n + BigInt(mtimeNanoseconds),
    });
  }

  /** What is right below; `pattern`: '' for all. */
  async list(path: string, pattern: string): Promise<Stat[]> {
    const place = await this.#place(path, 'open');
    if (place.kind !== 'directory') throw new CaissonError('InvalidParameter', `readdir ${path}: not a directory`);
    const wanted = pattern === '' ? /./ : matcher(pattern);
    const found: Stat[] = [];
    await this.#entries(place.path, '', (entry) => {
      const name = cleaned(entry.path);
      if (name !== '' && !name.includes('/') && wanted.test(name)) found.push(statOf(name, entry));
      entry.resume();
    });
    return found.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  async #place(path: string, call: string): Promise<{ path: string; kind: 'directory' | 'file' }> {
    const { path: real, kind } = await resolveIn(this.#native, this.#view, cleaned(path));
    if (kind === 'missing') throw new CaissonError('NotFound', `${call} ${path}: no such file or directory`);
    return { path: real, kind };
  }

  /** `use` takes the content of each, or passes over it. */
  async #entries(
    path: string,
    name: string,
    use: (entry: ReadEntry, fail: (error: Error) => void) => void,
  ): Promise<void> {
    const archive = archiveOf(this.#native, this.#view, `/${path}`, name);
    const fail = (error: Error): void => void archive.destroy(error);
    const parser = new Parser({ onReadEntry: (entry) => use(entry, fail) });
    parser.on('error', fail);
    for await (const chunk of archive as AsyncIterable<Buffer>) parser.write(chunk);
    const ended = once(parser, 'end');
    parser.end();
    await ended;
  }
}

const tooLarge = (path: string): CaissonError =>
  new CaissonError('InvalidParameter', `read ${path}: more than ${MAX_BYTES} bytes at once`, {
    hint: 'read it in parts',
  });

function statOf(path: string, { type, mode = 0, uid = 0, gid = 0, size = 0, mtime, linkpath = '' }: ReadEntry): Stat {
  const modTime = BigInt(mtime?.getTime() ?? 0) * 1_000_000n;
  return create(StatSchema, {
    path,
    mode: goMode(type, mode),
    uid,
    gid,
    size: BigInt(size),
    modTime,
    linkname: linkpath,
  });
}
