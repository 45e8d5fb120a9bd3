/**
 * `storage-budget`: images go, the one whose last use is longest ago first, until what the store holds is no more than
 * that. One that a container has, that another was made from, that has a pinned name, or that was used last of all stays.
 */
import type { GarbageCollector } from '../../graph/gc.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow } from '../../graph/images.ts';
import type { Partials } from '../../graph/partials.ts';
import { familiarRepository } from '../../reference.ts';
import { matchesReference } from './list.ts';
import { familiarRow } from './names.ts';
import type { ImageRemover } from './remove.ts';

export interface BudgetOptions {
  /** Bytes of layers and blobs; 0: no limit. */
  storageBudgetBytes: number;
  /** Names and patterns as of the filter `reference`. */
  storagePins: readonly string[];
}

export class StorageBudget {
  readonly #graph: Graph;
  readonly #gc: GarbageCollector;
  readonly #partials: Partials;
  readonly #remover: ImageRemover;
  readonly #options: BudgetOptions;

  constructor(
    { graph, gc, partials }: { graph: Graph; gc: GarbageCollector; partials: Partials },
    remover: ImageRemover,
    options: BudgetOptions,
  ) {
    this.#graph = graph;
    this.#gc = gc;
    this.#partials = partials;
    this.#remover = remover;
    this.#options = options;
  }

  /** After whatever brings images. Resolves with the names, or ids, of the images that went. */
  async enforce(): Promise<string[]> {
    const { storageBudgetBytes: limit } = this.#options;
    if (limit === 0 || this.#used() <= limit) return [];
    this.#partials.prune();
    const gone: string[] = [];
    for (const { id } of this.#graph.images.byUse().slice(0, -1)) {
      if (this.#used() <= limit) break;
      const { db, images } = this.#graph;
      // Looked at again in the transaction that removes it.
      const garbage = db.transaction(() => {
        const image = images.get(id);
        if (image === undefined || this.#isKept(image)) return undefined;
        const tags = images.referencesOf(id).filter(({ tag }) => tag !== null);
        gone.push(...(tags.length > 0 ? tags.map(familiarRow) : [id]));
        this.#remover.take(image);
        return this.#gc.collect();
      });
      if (garbage !== undefined) await this.#gc.sweep(garbage);
    }
    return gone;
  }

  #used(): number {
    const { layers, blobs } = this.#graph;
    const rows = [...layers.all(), ...blobs.all()];
    return rows.reduce((sum, { sizeBytes }) => sum + sizeBytes, this.#partials.sizeBytes());
  }

  #isKept({ id }: ImageRow): boolean {
    const { containers, images } = this.#graph;
    const pins = this.#options.storagePins;
    return (
      containers.usingImage(id).length > 0 ||
      images.children(id).length > 0 ||
      images.referencesOf(id).some((row) => {
        const names = [familiarRow(row), familiarRepository(row.repository)] as const;
        return pins.length > 0 && matchesReference(...names, pins);
      })
    );
  }
}
