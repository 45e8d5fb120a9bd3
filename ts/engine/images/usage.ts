/**
 * What images take on the disk, as du(1) counts it: the directories of layers with their recipes, and the content store
 * with beginnings of downloads. Hard links count once, holes not at all, directories their own blocks.
 */
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import type { Native } from '../native/index.ts';

export class StoreUsage {
  readonly #parts: { graph: Graph; content: ContentStore; snapshotter: Snapshotter; native: Pick<Native, 'treeSize'> };
  /** By cacheId: a layer never changes. */
  #layers = new Map<string, Promise<number>>();

  constructor(parts: {
    graph: Graph;
    content: ContentStore;
    snapshotter: Snapshotter;
    native: Pick<Native, 'treeSize'>;
  }) {
    this.#parts = parts;
  }

  async bytes(): Promise<number> {
    const { graph, content, native } = this.#parts;
    const known = this.#layers;
    this.#layers = new Map(
      graph.layers.all().map(({ cacheId }) => [cacheId, known.get(cacheId) ?? this.#measure(cacheId)]),
    );
    const sizes = await Promise.all([native.treeSize(content.directory), ...this.#layers.values()]);
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  /** One that is being removed, or cannot be read, takes nothing. */
  #measure(cacheId: string): Promise<number> {
    const { native, snapshotter } = this.#parts;
    return native.treeSize(snapshotter.layer(cacheId)).catch(() => {
      this.#layers.delete(cacheId);
      return 0;
    });
  }
}
