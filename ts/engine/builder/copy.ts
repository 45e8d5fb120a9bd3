/** COPY, ADD and WORKDIR: files brought into a layer of their own, without a container. */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, rm, utimes } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join, posix } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Header } from 'tar';
import { cleaned } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ArchiveReadOptions, ArchiveView, ArchiveWriteOptions } from '../native/files.ts';
import type { Native } from '../native/index.ts';
import { hashOf } from './listing.ts';
import { type Place, resolveIn, type SourceItem } from './source.ts';

/** A file that is in no source: a here-document, or what was downloaded. */
export interface SingleFile {
  name: string;
  /** `sha256:…` */
  digest: string;
  mode: number;
  read: () => Promise<FileContent>;
}

export interface FileContent {
  /** Or where that is, on this host. */
  content: Buffer | string;
  bytes: number;
  mtimeMs: number;
}

/** What is copied, and out of where. */
export type CopyItem = { file: SingleFile } | { view: ArchiveView; item: SourceItem; localPath?: string };

export interface CopyOptions {
  /** `user:group`; undefined: as in the source. */
  owner: string | undefined;
  /** As chmod takes it; undefined: as in the source. */
  mode: string | undefined;
  /** Archives are unpacked. */
  extract: { ofContext: boolean; downloaded: boolean };
}

/** What the cache goes by. */
export function hashOfItems(items: readonly CopyItem[]): string {
  // a file goes by its name into a directory; of a directory goes what is in it
  const hashes = items.map((one) => {
    if ('file' in one) return hashOf('file', [one.file.name, one.file.digest]);
    return one.item.isDirectory ? one.item.hash : hashOf('file', [one.item.name, one.item.hash]);
  });
  return hashes.length === 1 ? (hashes[0] as string) : hashOf('multi', hashes);
}

/** A layer in the making, over those of an image. */
export class LayerDraft {
  /** What was changed. */
  readonly upper: string;
  readonly #native: Native;
  readonly #view: ArchiveView;
  readonly #date: Date | undefined;
  /** Where something was written. */
  readonly #places = new Set<string>();

  private constructor(native: Native, view: ArchiveView, date: Date | undefined) {
    this.#date = date;
    this.#native = native;
    this.#view = view;
    this.upper = view.overlay.upper;
  }

  /** Below `dir`, which is the caller's to remove. `lower`: the layers' directories, the top one first. `date`: of directories that are made or written into; now by default. */
  static async begin(native: Native, dir: string, lower: readonly string[], date?: Date): Promise<LayerDraft> {
    const own = join(dir, randomBytes(8).toString('hex'));
    const empty = join(own, 'lower');
    const overlay = {
      lower: lower.length > 0 ? [...lower] : [empty],
      upper: join(own, 'upper'),
      work: join(own, 'work'),
      volatile: true,
    };
    for (const path of [empty, overlay.upper, overlay.work]) await mkdir(path, { recursive: true, mode: 0o755 });
    return new LayerDraft(native, { overlay, writable: true }, date);
  }

  /** `destination`: absolute; with a slash at its end it is a directory. */
  async copy(items: readonly CopyItem[], destination: string, options: CopyOptions): Promise<void> {
    for (const one of items) await this.#copy(one, destination, options);
    await this.#settle();
  }

  /** A directory that is there already stays as it is. Resolves with where it is. */
  async makeDirectory(path: string, owner: string | undefined): Promise<string> {
    const there = await this.#place(path);
    const place = `/${there.path}`;
    const directory = { mtimeMs: (this.#date ?? new Date()).getTime(), bytes: 0, content: '' };
    if (there.kind !== 'missing') return place;
    await this.#write('/', Readable.from(entryOf(`${there.path}/`, 'Directory', 0o755, directory)), { owner });
    await this.#settle();
    return place;
  }

  async #copy(one: CopyItem, destination: string, { owner, mode, extract }: CopyOptions): Promise<void> {
    const options = { owner, ...(mode !== undefined && { mode }) };
    if ('file' in one) return this.#single(one.file, destination, options, extract.downloaded);
    const { view, item, localPath } = one;
    if (item.isDirectory) {
      const place = await this.makeDirectory(destination, owner);
      return this.#pipe(view, item.path, { name: '', except: item.except ?? [] }, place, options);
    }
    if (extract.ofContext && localPath !== undefined && (await this.#native.isArchive(localPath)))
      return this.#write(await this.makeDirectory(destination, owner), createReadStream(localPath), options);
    const name = await this.#target(destination, item.name);
    return this.#pipe(view, item.path, { name }, '/', options);
  }

  async #single(
    { name, mode, read }: SingleFile,
    destination: string,
    options: WriteAs,
    extract: boolean,
  ): Promise<void> {
    const file = await read();
    const { content } = file;
    if (extract && typeof content === 'string' && (await this.#native.isArchive(content)))
      return this.#write(await this.makeDirectory(destination, options.owner), createReadStream(content), options);
    const target = await this.#target(destination, name);
    return this.#write('/', Readable.from(entryOf(target, 'File', mode, file)), options);
  }

  /** Where a file goes, as a name below the root. */
  async #target(destination: string, name: string): Promise<string> {
    const { path, kind } = await this.#place(destination);
    return destination.endsWith('/') || kind === 'directory' ? posix.join(path, name) : path;
  }

  async #place(path: string): Promise<Place> {
    await this.#unmarked();
    const place = await resolveIn(this.#native, { overlay: this.#view.overlay }, cleaned(path));
    this.#places.add(place.path);
    return place;
  }

  /** A directory that is written into has a new time, as those above it that come into the layer for it. */
  async #settle(): Promise<void> {
    if (this.#date === undefined) return;
    const above = new Set<string>();
    for (const place of this.#places)
      for (let at = place; ; at = posix.dirname(at)) {
        above.add(at);
        if (at === '.' || at === '') break;
      }
    for (const path of above) {
      const dir = join(this.upper, path);
      const stat = await lstat(dir).catch(() => undefined);
      if (stat?.isDirectory() && stat.mtime > this.#date) await utimes(dir, this.#date, this.#date);
    }
  }

  async #pipe(
    view: ArchiveView,
    path: string,
    how: ArchiveReadOptions,
    place: string,
    options: WriteAs,
  ): Promise<void> {
    const [readFd, writeFd] = this.#native.pipe();
    const read = this.#native.readArchive(view, `/${path}`, how, writeFd);
    const written = this.#unpack(place, options, readFd);
    // who unpacks and stops early says why; the other one only lost its reader
    const results = await Promise.allSettled([written, read]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async #write(place: string, archive: Readable, options: WriteAs): Promise<void> {
    const [readFd, writeFd] = this.#native.pipe();
    const written = this.#unpack(place, options, readFd);
    const sent = pipeline(archive, new Socket({ fd: writeFd, readable: false, writable: true }));
    const results = await Promise.allSettled([written, sent]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }
  /** Mounted without syncs, since it need not be durable before it is a layer; the kernel would mount it so only once. */
  async #unmarked(): Promise<void> {
    await rm(join(this.#view.overlay.work, 'work', 'incompat'), { recursive: true, force: true });
  }

  async #unpack(place: string, options: WriteAs, fd: number): Promise<void> {
    await this.#unmarked();
    await this.#native.writeArchive(this.#view, place, asGiven(options), fd);
  }
}

interface WriteAs {
  owner?: string | undefined;
  mode?: string;
}

const asGiven = ({ owner, mode }: WriteAs): ArchiveWriteOptions => ({
  keepKinds: true,
  ...(owner !== undefined && { owner }),
  ...(mode !== undefined && { mode }),
});

/** `--chown`: a name alone is that of the group too. */
export function ownerOf(chown: string): string {
  const parts = chown.split(':');
  if (chown === '' || parts.length > 2 || parts.includes(''))
    throw new CaissonError('InvalidParameter', `invalid chown string format: ${chown}`);
  return parts.length === 1 ? `${chown}:${chown}` : chown;
}

const CLAUSES = /^[ugoa]*([-+=]([rwxXst]*|[ugo]))+(,[ugoa]*([-+=]([rwxXst]*|[ugo]))+)*$/;

/** `--chmod`: octal digits, or clauses as `u=rwX,go-w`. */
export function modeOf(chmod: string): string {
  if (!/^0?[0-7]{1,4}$/.test(chmod) && !CLAUSES.test(chmod))
    throw new CaissonError(
      'InvalidParameter',
      `invalid chmod parameter: '${chmod}'. it should be octal string and between 0 and 07777`,
    );
  return chmod;
}

/** A whole archive of one entry, with the long name that a header may not hold refused by itself. */
async function* entryOf(
  path: string,
  type: 'File' | 'Directory',
  mode: number,
  { mtimeMs, bytes, content }: FileContent,
): AsyncGenerator<Buffer> {
  const header = new Header({ path, type, mode, uid: 0, gid: 0, size: bytes, mtime: new Date(mtimeMs) });
  const head = Buffer.alloc(512);
  if (header.encode(head, 0)) throw new CaissonError('InvalidParameter', `${path}: the name is too long`);
  yield head;
  if (typeof content !== 'string') yield content;
  else if (bytes > 0) yield* createReadStream(content);
  yield Buffer.alloc(((512 - (bytes % 512)) % 512) + 1024);
}
