/**
 * The garbage collector. Roots are images, containers (their lower layers, also when the image has gone) and leases; a
 * layer keeps the layers below it and, where its row says so, the blob that it came from; an image keeps its manifest, index and config.
 *
 * A pull that finds a layer or blob present and an image row that will refer to it are moments apart, and a collection may
 * fall in between. So an operation takes a lease, names there what it is going to use, and only then looks whether it is
 * present; it drops the lease in the transaction that writes the image. Rows go in one transaction, files after it: a
 * crash in between leaves files without rows, which are cleaned at start.
 */
import type { BlobRow } from './blobs.ts';
import type { ContentStore } from './content-store.ts';
import type { Statement } from './db.ts';
import type { Graph } from './graph.ts';
import type { LayerRow } from './layers.ts';
import type { Snapshotter } from './snapshotter.ts';

export interface Garbage {
  /** The top ones first, as `docker rmi` lists them. */
  layers: LayerRow[];
  blobs: BlobRow[];
  /** Unpacked size of the layers and size of the blobs. */
  reclaimedBytes: number;
  /** Files moved aside, to be unlinked. */
  detached: string[];
}

const REACHABLE_LAYERS = `
  WITH RECURSIVE live (id) AS (
    SELECT chain_id FROM image_layer
    UNION SELECT chain_id FROM container WHERE chain_id IS NOT NULL
    UNION SELECT chain_id FROM image_mount
    UNION SELECT key FROM lease_resource WHERE kind = 'layer'
    UNION SELECT layer.parent FROM live JOIN layer ON layer.chain_id = live.id WHERE layer.parent IS NOT NULL
  )`;

export class GarbageCollector {
  readonly #graph: Graph;
  readonly #content: ContentStore;
  readonly #snapshotter: Snapshotter;
  readonly #bootId: string;
  readonly #deadLayers: Statement<[], { chainId: string; parent: string | null }>;
  readonly #deadBlobs: Statement<[], BlobRow>;

  constructor(graph: Graph, content: ContentStore, snapshotter: Snapshotter, bootId: string) {
    this.#graph = graph;
    this.#content = content;
    this.#snapshotter = snapshotter;
    this.#bootId = bootId;
    this.#deadLayers = graph.db.prepare(
      `${REACHABLE_LAYERS}
       SELECT chain_id AS chainId, parent FROM layer WHERE chain_id NOT IN (SELECT id FROM live) ORDER BY chain_id`,
    );
    this.#deadBlobs = graph.db.prepare(`
      SELECT digest, size_bytes AS sizeBytes, media_type AS mediaType, created_ms AS createdMs FROM blob
      WHERE NOT EXISTS (SELECT 1 FROM image_blob WHERE image_blob.digest = blob.digest)
        AND NOT EXISTS (SELECT 1 FROM layer WHERE layer.blob_digest = blob.digest AND keeps_blob = 1)
        AND NOT EXISTS (SELECT 1 FROM lease_resource WHERE kind = 'blob' AND key = blob.digest)
      ORDER BY digest`);
  }

  /** Deletes the rows of all that nothing refers to; then `sweep` their files. */
  collect(): Garbage {
    const { db, leases, layers, blobs } = this.#graph;
    const garbage = db.transaction(() => {
      leases.deleteVoid(this.#bootId, Date.now());
      const deadLayers = topFirst(this.#deadLayers.all()).flatMap((chainId) => layers.get(chainId) ?? []);
      for (const layer of deadLayers) layers.delete(layer.chainId);
      const deadBlobs = this.#deadBlobs.all();
      for (const blob of deadBlobs) blobs.delete(blob.digest);
      return { layers: deadLayers, blobs: deadBlobs };
    });
    const detached: string[] = [];
    // The files follow when the rows are gone for certain: `collect` may be part of a larger transaction.
    db.afterCommit(() => detached.push(...this.#content.detach(garbage.blobs.map((blob) => blob.digest))));
    const sizes = [...garbage.layers, ...garbage.blobs].map((row) => row.sizeBytes);
    return { ...garbage, detached, reclaimedBytes: sizes.reduce((sum, size) => sum + size, 0) };
  }

  /** Removes the files of what was collected. What fails here is found again at the next start. */
  async sweep(garbage: Garbage): Promise<void> {
    if (garbage.layers.length === 0 && garbage.blobs.length === 0) return;
    // A row that comes back after a power cut must find its files.
    await this.#graph.db.durable();
    await this.#content.unlink(garbage.detached);
    await this.#snapshotter.removeLayers(garbage.layers.map((layer) => layer.cacheId));
  }
}

/** Layers before the ones that they stand on. */
function topFirst(dead: { chainId: string; parent: string | null }[]): string[] {
  const parents = new Map(dead.map((layer) => [layer.chainId, layer.parent]));
  const depths = new Map<string, number>();
  const depth = (chainId: string | null): number => {
    const path: string[] = [];
    let at = chainId;
    while (at !== null && parents.has(at) && !depths.has(at)) {
      path.push(at);
      at = parents.get(at) ?? null;
    }
    let below = at === null ? 0 : (depths.get(at) ?? 0);
    for (const id of path.reverse()) depths.set(id, ++below);
    return below;
  };
  return dead.map((layer) => layer.chainId).sort((a, b) => depth(b) - depth(a));
}
