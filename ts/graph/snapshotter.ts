/**
 * Directories of the overlay:
 *
 *   <data>/overlay/
 *     <cacheId>/diff                 a committed layer: its own files only, never changed
 *     <cacheId>/recipe               what makes its archive again out of them; not of every layer
 *     tmp-<cacheId>/diff             a layer being unpacked; renamed when it is complete
 *     <containerId>/upper, work      a container's own layer
 *
 * cacheIds are random: two pulls that unpack the same layer do not meet, and a directory on its way out is never in the
 * way of a new one. A directory without a row (and without a job that planned it) is an orphan: `orphans` finds them at
 * start. Removal goes through `removeTree`, which copes with whatever a container put there.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync } from 'node:fs';
import { chmod, chown, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../errdefs.ts';
import type { LayerStore } from './layers.ts';

export interface SnapshotterOptions {
  dataRoot: string;
  layers: LayerStore;
  /** Removes a directory with all below it; no error when it is not there. */
  removeTree: (path: string) => Promise<void>;
}

/** overlayfs takes this many lower directories; one more is EINVAL. */
export const MAX_LAYERS = 500;

const TEMPORARY = 'tmp-';

export class Snapshotter {
  readonly #root: string;
  readonly #layers: LayerStore;
  readonly #removeTree: (path: string) => Promise<void>;

  constructor({ dataRoot, layers, removeTree }: SnapshotterOptions) {
    this.#root = join(dataRoot, 'overlay');
    this.#layers = layers;
    this.#removeTree = removeTree;
    mkdirSync(this.#root, { recursive: true, mode: 0o710 });
  }

  newCacheId(): string {
    return randomBytes(16).toString('hex');
  }

  /** Makes room for a layer; the files go into the directory returned, which does not exist yet. */
  async prepareLayer(cacheId: string): Promise<string> {
    await mkdir(this.#temporary(cacheId), { mode: 0o710 });
    return this.temporaryLayer(cacheId);
  }

  /** Where a layer is before commitLayer. */
  temporaryLayer(cacheId: string): string {
    return join(this.#temporary(cacheId), 'diff');
  }

  /** The unpacked layer gets its place; then its row may be written. */
  async commitLayer(cacheId: string): Promise<void> {
    await rename(this.#temporary(cacheId), this.#directory(cacheId));
    const root = await open(this.#root, 'r');
    await root.sync().finally(() => root.close());
  }

  /**
   * Undoes prepareLayer and commitLayer, whatever of them was done. What has become a layer of the graph stays: others may
   * use it already, and the garbage collector takes it with its row.
   */
  async discardLayer(cacheId: string): Promise<void> {
    if (this.#layers.hasCache(cacheId)) return;
    await this.#removeTree(this.#temporary(cacheId));
    await this.#removeTree(this.#directory(cacheId));
  }

  /** The layers' directories, the top one first. Kind DataLoss when one of them has no row. */
  lower(chainId: string | null): string[] {
    if (chainId === null) return [];
    const chain = this.#layers.chain(chainId);
    if (chain.length === 0) throw new CaissonError('DataLoss', `layer ${chainId} is not in the store`);
    return chain.map((layer) => this.layerDirectory(layer.cacheId));
  }

  /** A committed layer with what stands beside its files. */
  layer(cacheId: string): string {
    return this.#directory(cacheId);
  }

  layerDirectory(cacheId: string): string {
    return join(this.#directory(cacheId), 'diff');
  }

  /** Beside a committed layer, if it has one. */
  recipe(cacheId: string): string {
    return join(this.#directory(cacheId), 'recipe');
  }

  /** Where it is before commitLayer. */
  temporaryRecipe(cacheId: string): string {
    return join(this.#temporary(cacheId), 'recipe');
  }

  /** Paths of a container's own layer, there or not. */
  container(id: string): { directory: string; upper: string; work: string } {
    const directory = this.#directory(id);
    return { directory, upper: join(directory, 'upper'), work: join(directory, 'work') };
  }

  /** Makes a container's own layer. The root directory has owner and mode of the image's. */
  async prepareContainer(id: string, chainId: string | null): Promise<void> {
    const { directory, upper, work } = this.container(id);
    await mkdir(directory, { mode: 0o710 });
    await Promise.all([mkdir(upper, { mode: 0o755 }), mkdir(work, { mode: 0o700 })]);
    const [top] = this.lower(chainId);
    if (top === undefined) return;
    // overlayfs shows the upper directory's own attributes as those of `/`.
    const { uid, gid, mode } = await stat(top);
    await chown(upper, uid, gid);
    await chmod(upper, mode & 0o7777);
  }

  /** Idempotent. */
  async removeContainer(id: string): Promise<void> {
    await this.#removeTree(this.#directory(id));
  }

  /** Removes layers whose rows have been deleted. */
  async removeLayers(cacheIds: readonly string[]): Promise<void> {
    await Promise.all(cacheIds.map((cacheId) => this.#removeTree(this.#directory(cacheId))));
  }

  /**
   * At start, after the jobs have been recovered: removes what was being unpacked and every directory that no layer, no
   * container and no unfinished job (`planned`: cacheIds and container ids) knows. Returns what it removed.
   */
  async clean(containerIds: Iterable<string>, planned: Iterable<string> = []): Promise<string[]> {
    const spokenFor = new Set(planned);
    const known = new Set([...containerIds, ...this.#layers.all().map((layer) => layer.cacheId), ...spokenFor]);
    const orphans = readdirSync(this.#root).filter((name) =>
      name.startsWith(TEMPORARY) ? !spokenFor.has(name.slice(TEMPORARY.length)) : !known.has(name),
    );
    for (const name of orphans) await this.#removeTree(join(this.#root, name));
    return orphans;
  }

  #directory(name: string): string {
    // Names come from our own rows; the check keeps a damaged row from leading removeTree elsewhere.
    if (!/^[0-9a-f]{32,64}$/.test(name))
      throw new CaissonError('DataLoss', `${JSON.stringify(name)} names no snapshot`);
    return join(this.#root, name);
  }

  #temporary(cacheId: string): string {
    this.#directory(cacheId);
    return join(this.#root, TEMPORARY + cacheId);
  }
}

/** `removeTree` for trees of our own making (tests, unpacked layers of plain files). */
export const removePlainTree = (path: string): Promise<void> => rm(path, { recursive: true, force: true });
