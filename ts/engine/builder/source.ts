/** Where COPY and ADD take files from: the build's context, or an image. */
import { Socket } from 'node:net';
import { posix } from 'node:path';
import { cleaned, globSource } from '../../dockerignore.ts';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { ArchiveView } from '../native/files.ts';
import type { Native } from '../native/index.ts';
import { type Entry, hashOfTree, Listing } from './listing.ts';
import { isNarrow, type Narrow, NOTHING, narrowed, pivotOf } from './narrow.ts';

export interface SourceItem {
  /** In the source, no part of it a symlink. */
  path: string;
  /** What it is called where it is copied to. */
  name: string;
  isDirectory: boolean;
  /** Of all that is copied: `file:…` or `dir:…`. */
  hash: string;
  /** Of a directory: what is not copied, nor anything below it. */
  except?: readonly string[];
}

/** What is taken of that which a path names. */
export interface Selection {
  /** Patterns of what is left out below it; `!` takes back. */
  exclude: readonly string[];
  /** The directories above come along, from `/./` on. */
  parents: boolean;
}

export const EVERYTHING: Selection = { exclude: [], parents: false };

export interface CopySource {
  view: ArchiveView;
  /** What a path or pattern names; kind NotFound when that is nothing. */
  find(path: string, selection?: Selection): Promise<SourceItem[]>;
}

export const isPattern = (path: string): boolean => /(?<!\\)[*?[]/.test(path);

export const matcher = (pattern: string): RegExp => new RegExp(`^${globSource(pattern)}$`);

/** What a layer chain holds at a path never changes. */
const hashes = new Map<string, string>();
const MAX_HASHES = 10_000;

/** The files of an image. */
export class ImageSource implements CopySource {
  readonly view: ArchiveView;
  readonly #native: Native;
  readonly #chainId: string;

  constructor(native: Native, view: ArchiveView, chainId: string) {
    this.#native = native;
    this.view = view;
    this.#chainId = chainId;
  }

  async find(path: string, selection = EVERYTHING): Promise<SourceItem[]> {
    if (selection.parents) {
      const { base, pattern } = pivotOf(path);
      const narrow = { ...selection, include: pattern };
      const items = await Promise.all((await this.find(base)).map((above) => this.#item(above.path, narrow)));
      return items.filter(({ hash }) => hash !== NOTHING);
    }
    if (!isPattern(path)) return [await this.#item(cleaned(path), selection)];
    const wanted = matcher(cleaned(path));
    const parts = cleaned(path).split('/');
    const base = parts.slice(0, parts.findIndex(isPattern)).join('/');
    const below = await this.#list(base);
    const names = [...below.keys()].map((name) => posix.join(base, name)).sort();
    return Promise.all(names.filter((name) => wanted.test(name)).map((name) => this.#item(name, selection)));
  }

  async #item(path: string, narrow: Narrow): Promise<SourceItem> {
    const { path: real, kind } = await resolveIn(this.#native, this.view, path);
    if (kind === 'missing') throw new CaissonError('NotFound', `stat ${path}: file does not exist`);
    const isDirectory = kind === 'directory';
    const item = { path: real, name: posix.basename(path), isDirectory };
    if (isDirectory && isNarrow(narrow)) return { ...item, ...narrowed(await this.#list(real), narrow) };
    return { ...item, hash: await this.#hash(real, isDirectory) };
  }

  async #hash(path: string, isDirectory: boolean): Promise<string> {
    const key = `${this.#chainId} ${path}`;
    const known = hashes.get(key);
    if (known !== undefined) return known;
    const entries = await this.#list(path);
    const hash = isDirectory ? hashOfTree(entries) : `file:${entries.get('x')?.hash}`;
    if (hashes.size >= MAX_HASHES) hashes.clear();
    hashes.set(key, hash);
    return hash;
  }

  /** Of a directory what is in it, of a file itself as `x`. */
  async #list(path: string): Promise<Map<string, Entry>> {
    const { kind } = await resolveIn(this.#native, this.view, path);
    const [readFd, writeFd] = this.#native.pipe();
    const stream = new Socket({ fd: readFd, readable: true, writable: false });
    const listing = new Listing({ withOwners: true });
    const packed = this.#native.readArchive(this.view, `/${path}`, { name: kind === 'directory' ? '' : 'x' }, writeFd);
    const [listed] = await Promise.allSettled([listing.drain(stream), packed]);
    await packed;
    if (listed.status === 'rejected') throw listed.reason;
    return listing.entries;
  }
}

export interface Place {
  /** Symlinks followed to their end, which may be where nothing is. */
  path: string;
  kind: 'directory' | 'file' | 'missing';
}

const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;
const S_IFDIR = 0o040000;

/** Where a path leads. */
export async function resolveIn(native: Native, view: ArchiveView, path: string): Promise<Place> {
  let at = `/${path}`;
  for (let follows = 0; follows < 40; follows++) {
    const stat = await native.statArchive(view, at).catch((error: unknown) => {
      if (!isKind(error, 'NotFound')) throw error;
    });
    if (stat === undefined) return { path: cleaned(at), kind: 'missing' };
    const type = stat.mode & S_IFMT;
    if (type !== S_IFLNK) return { path: cleaned(at), kind: type === S_IFDIR ? 'directory' : 'file' };
    at = stat.linkTarget;
  }
  throw new CaissonError('InvalidParameter', `${path}: too many levels of symbolic links`);
}
