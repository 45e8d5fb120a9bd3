/**
 * The compressed blobs of layers, for a push, a save and a check. That of a pulled layer is not kept: it is fetched again,
 * by its digest, from a repository that had it. Where none gives it, the layer is compressed anew out of its directory and
 * its recipe: the same layer (diffID), and so the same image ID, but another blob and another manifest.
 */
import { asCaissonError, CaissonError, isKind } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { GarbageCollector } from '../../graph/gc.ts';
import type { Graph } from '../../graph/graph.ts';
import type { LayerRow } from '../../graph/layers.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import type { Descriptor } from '../../oci.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import type { RegistryClient } from '../../registry/client/client.ts';
import type { KeptBlob, Native } from '../native/index.ts';
import { LAYER_TYPES } from './unpack.ts';

export interface LayerBlobsParts {
  graph: Graph;
  content: ContentStore;
  snapshotter: Snapshotter;
  gc: GarbageCollector;
  remote: RegistryClient;
  native: Pick<Native, 'recreateLayer'>;
}

/** A login, for the registry that it is for. */
export interface Login {
  domain: string;
  credentials: Credentials | undefined;
}

export const isLayerAway = (error: unknown): error is CaissonError =>
  error instanceof CaissonError && error.code === 'LAYER_AWAY';

export class LayerBlobs {
  readonly #parts: LayerBlobsParts;
  /** Something came into the store that no row speaks for. */
  #isUntidy = false;

  constructor(parts: LayerBlobsParts) {
    this.#parts = parts;
  }

  /** It is here, or a repository is known that had it. */
  isKnown(digest: string): boolean {
    const { content, graph } = this.#parts;
    return content.has(digest) || graph.layers.sources(digest).length > 0;
  }

  /** The blob is in the store when this resolves, under the lease. Code LAYER_AWAY when no repository gives it. */
  async fetch(descriptor: Descriptor, lease: string, signal: AbortSignal, login?: Login): Promise<void> {
    const { graph, content, remote } = this.#parts;
    const { digest, size: sizeBytes, mediaType } = descriptor;
    graph.leases.add(lease, 'blob', digest);
    if (content.has(digest)) return;
    this.#isUntidy = true;
    const failures: string[] = [];
    for (const repository of graph.layers.sources(digest)) {
      const [domain = '', ...path] = repository.split('/');
      const credentials = domain === login?.domain ? login.credentials : undefined;
      const source = remote.repository({ domain, path: path.join('/') }, credentials);
      try {
        const bytes = source.fetchBlob(descriptor, { signal, verify: false });
        await content.ingest(bytes, { mediaType, digest, sizeBytes, signal });
        return;
      } catch (error) {
        // the next one may have it
        signal.throwIfAborted();
        failures.push(`${repository}: ${asCaissonError(error).message}`);
      }
    }
    throw new CaissonError(
      'Unavailable',
      `the layer blob ${digest} is not kept here and cannot be fetched again (${failures.join('; ')})`,
      { code: 'LAYER_AWAY' },
    );
  }

  /** The layer compressed anew, in the store and under the lease. Kind DataLoss when its directory is damaged. */
  async recreate(row: LayerRow, lease: string): Promise<Descriptor> {
    const { graph, content } = this.#parts;
    this.#isUntidy = true;
    const { path, blob } = await this.compress(row);
    const { digest, sizeBytes } = blob;
    const mediaType = LAYER_TYPES[blob.compression];
    graph.leases.add(lease, 'blob', digest);
    await content.commit(path, { digest, sizeBytes, mediaType });
    return { digest, size: sizeBytes, mediaType };
  }

  /** As `recreate`, in a file that is the caller's. */
  async compress({ diffId, cacheId }: LayerRow): Promise<{ path: string; blob: KeptBlob }> {
    const { content, snapshotter, native } = this.#parts;
    const path = content.newIngest();
    try {
      const blob = await native.recreateLayer({
        directory: snapshotter.layerDirectory(cacheId),
        recipe: snapshotter.recipe(cacheId),
        blobPath: path,
        expectedDiffId: diffId,
      });
      return { path, blob };
    } catch (error) {
      if (!isKind(error, 'NotFound')) throw error;
      throw new CaissonError('DataLoss', `layer ${diffId} has neither its blob nor what makes it again`, {
        code: 'LAYER_NOT_KEPT',
        hint: 'pull or load its image again',
        cause: error,
      });
    }
  }

  /** Behind the operations: what was fetched or made for one of them goes. */
  async tidy(): Promise<void> {
    if (!this.#isUntidy) return;
    this.#isUntidy = false;
    await this.#parts.gc.sweep(this.#parts.gc.collect());
  }
}
