/** The build context: the files that the client sent along, unpacked and listed with their hashes. */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { dirname, join, posix } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { cleaned, ignoreRules, ignoring } from '../../dockerignore.ts';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { ArchiveView } from '../native/files.ts';
import type { Native } from '../native/index.ts';
import { type Entry, entriesBelow, IMPLIED, Listing } from './listing.ts';
import { type Narrow, NOTHING, narrowed, pivotOf } from './narrow.ts';
import { type CopySource, EVERYTHING, isPattern, matcher, resolveIn, type SourceItem } from './source.ts';
import { archiveOf } from './view.ts';

const MAX_FOLLOWS = 40;

export class BuildContext implements CopySource {
  readonly view: ArchiveView;
  readonly #upper: string;
  readonly #entries: Map<string, Entry>;

  private constructor(view: ArchiveView, entries: Map<string, Entry>) {
    this.view = view;
    this.#upper = realpathSync(view.overlay.upper);
    this.#entries = entries;
  }

  /** Unpacks below `dir`, which is the caller's to remove. */
  static async receive(native: Native, dir: string, archive: AsyncIterable<Buffer>): Promise<BuildContext> {
    const context = await BuildContext.empty(dir);
    await context.add(native, archive);
    return context;
  }

  /** What is in a directory of other files, as receive(). */
  static async below(native: Native, dir: string, view: ArchiveView, path: string): Promise<BuildContext> {
    const place = await resolveIn(native, view, cleaned(path));
    if (place.kind !== 'directory')
      throw new CaissonError('InvalidParameter', `error setting context, not a directory: ${path}`);
    return BuildContext.receive(native, dir, archiveOf(native, view, `/${place.path}`, ''));
  }

  static async empty(dir: string): Promise<BuildContext> {
    const overlay = { lower: [join(dir, 'lower')], upper: join(dir, 'upper'), work: join(dir, 'work'), volatile: true };
    for (const path of [...overlay.lower, overlay.upper, overlay.work])
      await mkdir(path, { recursive: true, mode: 0o755 });
    return new BuildContext({ overlay }, new Map());
  }

  /** What is there already is replaced. */
  async add(native: Native, archive: AsyncIterable<Buffer>): Promise<void> {
    // mounted without syncs; the kernel would mount it so only once
    await rm(join(this.view.overlay.work, 'work', 'incompat'), { recursive: true, force: true });
    const [readFd, writeFd] = native.pipe();
    const options = { keepKinds: false, owner: '0:0' };
    const unpacked = native.writeArchive({ ...this.view, writable: true }, '/', options, readFd);
    const listing = new Listing({ withOwners: false });
    const stream = new Socket({ fd: writeFd, readable: false, writable: true });
    const sent = pipeline(Readable.from(listing.watch(archive)), stream).catch((error: unknown) => {
      // whoever unpacks and stops early says himself why
      if (!['EPIPE', 'ECONNRESET'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    });
    try {
      await Promise.all([unpacked, sent]);
    } catch (error) {
      if (!isKind(error, 'DataLoss')) throw error;
      throw new CaissonError('InvalidParameter', `Error processing tar file: ${error.message}`, { cause: error });
    }
    // a directory that is there has its own entry
    for (const [path, entry] of listing.entries)
      if (entry.hash !== IMPLIED || !this.#entries.has(path)) this.#entries.set(path, entry);
  }

  async remove(path: string): Promise<void> {
    this.#entries.delete(path);
    const place = join(this.#upper, path);
    const parent = dirname(place);
    // what a directory held is gone with it
    if (existsSync(parent) && realpathSync(parent) === parent) await rm(place, { recursive: true, force: true });
  }

  async find(path: string, selection = EVERYTHING): Promise<SourceItem[]> {
    if (selection.parents) {
      const { base, pattern } = pivotOf(path);
      const narrow = { ...selection, include: pattern };
      const items = (await this.find(base)).map((above) => this.#item(above.path, narrow));
      return items.filter(({ hash }) => hash !== NOTHING);
    }
    if (!isPattern(path)) return [this.#item(cleaned(path), selection)];
    const wanted = matcher(cleaned(path));
    const names = [...this.#entries.keys()].filter((name) => wanted.test(name)).sort();
    return names.map((name) => this.#item(name, selection));
  }

  /** Undefined when there is no such file. */
  text(path: string): string | undefined {
    const real = this.#resolve(cleaned(path));
    if (real === undefined || this.#entries.get(real)?.isDirectory !== false) return undefined;
    return readFileSync(this.pathOf(real), 'utf8');
  }

  /** Where a file lies whose name has been resolved here. An archive of which one reader makes a file and another a symlink
   * leads nowhere. */
  pathOf(path: string): string {
    const place = join(this.#upper, path);
    if (realpathSync(place) !== place)
      throw new CaissonError('InvalidParameter', `Error processing tar file: ${path} is not what it seems to be`);
    return place;
  }

  /** What `.dockerignore` excludes though the client had to send it. */
  async hide(dockerfile: string): Promise<void> {
    const isIgnored = ignoring(ignoreRules(this.text('.dockerignore') ?? ''));
    for (const name of ['.dockerignore', cleaned(dockerfile)]) {
      const real = this.#resolve(name);
      if (real === undefined || !isIgnored(name)) continue;
      this.#entries.delete(real);
      await rm(this.pathOf(real));
    }
  }

  #item(path: string, narrow: Narrow): SourceItem {
    const real = this.#resolve(path);
    const entry = real === '' ? { isDirectory: true } : real === undefined ? undefined : this.#entries.get(real);
    if (real === undefined || entry === undefined)
      throw new CaissonError(
        'NotFound',
        `file not found in build context or excluded by .dockerignore: stat ${path}: file does not exist`,
      );
    const { isDirectory } = entry;
    const item = { path: real, name: posix.basename(path), isDirectory };
    if (!isDirectory) return { ...item, hash: `file:${this.#entries.get(real)?.hash}` };
    return { ...item, ...narrowed(entriesBelow(this.#entries, real), narrow) };
  }

  /** Symlinks followed, none of them out of the context. */
  #resolve(path: string): string | undefined {
    const pending = path.split('/');
    const done: string[] = [];
    for (let follows = 0; pending.length > 0; ) {
      const name = pending.shift() ?? '';
      if (name === '' || name === '.') continue;
      if (name === '..') {
        done.pop();
        continue;
      }
      const entry = this.#entries.get([...done, name].join('/'));
      if (entry === undefined) return undefined;
      if (entry.target === undefined) {
        done.push(name);
        continue;
      }
      if (++follows > MAX_FOLLOWS) return undefined;
      if (entry.target.startsWith('/')) done.length = 0;
      pending.unshift(...entry.target.split('/'));
    }
    return done.join('/');
  }
}
