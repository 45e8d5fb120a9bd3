/**
 * What stands for the blobs of layers, for a push, a save and a check, since they are mostly not kept. That of a pulled
 * layer is fetched again, by its digest, from a repository that had it. Of another, and where no repository gives it, the
 * archive is made again out of directory and recipe, and compressed for a push: the same layer (diffID), and so the same
 * image ID, but another blob and another manifest than those that it came with.
 */
import { access } from 'node:fs/promises';
import { Socket } from 'node:net';
import { Semaphore } from '../../async.ts';
import { asCaissonError, CaissonError, isKind } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { GarbageCollector } from '../../graph/gc.ts';
import type { Graph } from '../../graph/graph.ts';
import type { LayerRow } from '../../graph/layers.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import { type Descriptor, MEDIA_TYPES } from '../../oci.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import type { RegistryClient } from '../../registry/client/client.ts';
import type { Repository } from '../../registry/client/repository.ts';
import type { LayerSource } from '../native/files.ts';
import type { Native } from '../native/index.ts';
import { LAYER_TYPES } from './unpack.ts';

export interface LayerBlobsParts {
  graph: Graph;
  content: ContentStore;
  snapshotter: Snapshotter;
  gc: GarbageCollector;
  remote: RegistryClient;
  native: Pick<Native, 'recreateLayer' | 'sendLayer' | 'layerArchiveSize' | 'pipe'>;
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
  /** Each uses all cores; the second is for when the first reads or syncs. */
  readonly #compressions = new Semaphore(2);
  #underWay = 0;
  /** What came into the store for operations that go on: no row speaks for it. */
  readonly #fresh = new Set<string>();

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
    const { graph, content } = this.#parts;
    const { digest, size: sizeBytes, mediaType } = descriptor;
    graph.leases.add(lease, 'blob', digest);
    if (content.has(digest)) return;
    await this.#fromElsewhere(descriptor, { signal, login }, (source) =>
      content.ingest(source.fetchBlob(descriptor, { signal, verify: false }), { mediaType, digest, sizeBytes, signal }),
    );
    this.#fresh.add(digest);
  }

  /** A repository that gives the blob at the moment. Code LAYER_AWAY at once where none does: the archive is there as well. */
  find(descriptor: Descriptor, signal: AbortSignal): Promise<Repository> {
    return this.#fromElsewhere(descriptor, { signal }, async (source) => {
      await source.probeBlob(descriptor, signal);
      return source;
    });
  }

  async #fromElsewhere<T>(
    descriptor: Descriptor,
    { signal, login }: { signal: AbortSignal; login?: Login | undefined },
    take: (source: Repository) => Promise<T>,
  ): Promise<T> {
    const { graph, remote } = this.#parts;
    const { digest } = descriptor;
    const failures: string[] = [];
    const away = new Set<string>();
    for (const repository of graph.layers.sources(digest)) {
      const [domain = '', ...path] = repository.split('/');
      if (away.has(domain)) continue;
      const credentials = domain === login?.domain ? login.credentials : undefined;
      const source = remote.repository({ domain, path: path.join('/') }, credentials);
      try {
        return await take(source);
      } catch (error) {
        // the next one may have it
        signal.throwIfAborted();
        const { code, message } = asCaissonError(error);
        if (code === 'REGISTRY_UNREACHABLE') away.add(domain);
        failures.push(`${repository}: ${message}`);
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
    const { graph, content, native } = this.#parts;
    const path = content.newIngest();
    const { digest, sizeBytes, compression } = await this.#compressions.run(() =>
      native.recreateLayer(this.#source(row), path).catch(notKept(row)),
    );
    const mediaType = LAYER_TYPES[compression];
    graph.leases.add(lease, 'blob', digest);
    await content.commit(path, { digest, sizeBytes, mediaType });
    this.#fresh.add(digest);
    return { mediaType, digest, size: sizeBytes };
  }

  /** Whether there is what `archive` needs. */
  hasRecipe({ cacheId }: LayerRow): Promise<boolean> {
    return access(this.#parts.snapshotter.recipe(cacheId)).then(
      () => true,
      () => false,
    );
  }

  /** What `archive` gives, as a manifest has it. */
  async describe(row: LayerRow): Promise<Descriptor> {
    const { native, snapshotter } = this.#parts;
    const size = await native.layerArchiveSize(snapshotter.recipe(row.cacheId)).catch(notKept(row));
    return { mediaType: MEDIA_TYPES.ociLayer, digest: row.diffId, size };
  }

  /** The uncompressed layer. Ends with kind DataLoss when its directory is damaged. */
  async *archive(row: LayerRow): AsyncGenerator<Buffer> {
    const { native } = this.#parts;
    const [readFd, writeFd] = native.pipe();
    const stream = new Socket({ fd: readFd, readable: true, writable: false });
    const sent = native.sendLayer(this.#source(row), writeFd).catch(notKept(row));
    sent.catch(() => undefined);
    try {
      for await (const chunk of stream) yield chunk as Buffer;
      await sent;
    } finally {
      stream.destroy();
    }
  }

  #source({ cacheId, diffId }: LayerRow): LayerSource {
    const { snapshotter } = this.#parts;
    return {
      directory: snapshotter.layerDirectory(cacheId),
      recipe: snapshotter.recipe(cacheId),
      expectedDiffId: diffId,
    };
  }

  /** An operation that blobs are fetched and made for: those go when it is over. */
  async during<T>(use: () => Promise<T>): Promise<T> {
    this.#underWay++;
    try {
      return await use();
    } finally {
      this.#underWay--;
      const isUntidy = this.#fresh.size > 0;
      if (this.#underWay === 0) this.#fresh.clear();
      if (isUntidy) await this.#parts.gc.sweep(this.#parts.gc.collect());
    }
  }

  /** It came into the store for an operation that goes on, and was hashed as it came. */
  isFresh(digest: string): boolean {
    return this.#fresh.has(digest);
  }
}

const notKept =
  ({ diffId }: LayerRow) =>
  (error: unknown): never => {
    if (!isKind(error, 'NotFound')) throw error;
    throw new CaissonError('DataLoss', `layer ${diffId} has neither its blob nor what makes it again`, {
      code: 'LAYER_NOT_KEPT',
      hint: 'pull or load its image again',
      cause: error,
    });
  };
