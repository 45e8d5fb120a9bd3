/**
 * Makes layers of the graph out of archives: each on threads of the addon, all of an image at once. Operations that need
 * the same layer at the same time share one unpacking; when that fails, each who waited tries for itself.
 *
 * A layer is kept once, unpacked; layerBlobs.ts tells what stands for its blob. The blob is kept beside it where a loaded
 * layer came compressed, since no registry is known to have those bytes; where the archive cannot be made again out of its
 * directory; and with all that is pulled when the user wants that.
 */
import { rm } from 'node:fs/promises';
import { abortable, Semaphore } from '../../async.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { Beginning, Partials } from '../../graph/partials.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import { MEDIA_TYPES } from '../../oci.ts';
import { unwrap } from '../native/failure.ts';
import type { AppliedLayer, LayerOptions } from '../native/files.ts';
import type { Native } from '../native/index.ts';

/** Which blobs are kept; `never`: it is there already, or nobody will want it. */
export type KeepBlob = NonNullable<LayerOptions['keep']> | 'never';

/** What a layer's bytes must turn out to be; absent: whatever they are. */
export interface ExpectedLayer {
  keep: KeepBlob;
  digest?: string;
  sizeBytes?: number;
  diffId?: string;
}

/** Unpacked, but not yet a layer of the graph. */
export interface Unpacked {
  cacheId: string;
  /** Where its blob is until it is committed. */
  blobPath: string;
  applied: AppliedLayer;
}

/** A layer that an image needs. */
export interface WantedLayer {
  chainId: string;
  diffId: string;
  parent: string | null;
  digest: string;
  sizeBytes: number;
  mediaType: string;
}

/** How a wanted layer came to be there. */
export type Arrival = 'present' | 'unpacked' | 'shared';

export interface Fetch {
  /** Its bytes from an offset on. */
  open(signal: AbortSignal, offset: number): AsyncIterable<Uint8Array>;
  /** The layer is not there: its bytes are about to be fetched. */
  onWaiting(): void;
  onChunk(bytes: number): void;
  onReceived(): void;
}

/** What a blob of ours is called. */
export const LAYER_TYPES = {
  gzip: MEDIA_TYPES.ociLayerGzip,
  zstd: MEDIA_TYPES.ociLayerZstd,
  none: MEDIA_TYPES.ociLayer,
} as const;

/** The beginning of a smaller blob is not worth keeping. */
const MIN_PARTIAL_BYTES = 1 << 20;

export class LayerUnpacker {
  readonly #graph: Graph;
  readonly #snapshotter: Snapshotter;
  readonly #content: ContentStore;
  readonly #partials: Partials;
  readonly #native: Pick<Native, 'openLayer' | 'packLayer'>;
  readonly #underWay = new Map<string, Promise<void>>();
  readonly #downloads: Semaphore;
  readonly #keepBlobs: boolean;

  /** `maxConcurrentDownloads`: of all operations together. `keepLayerBlobs`: also those of pulled layers. */
  constructor(
    {
      graph,
      snapshotter,
      content,
      partials,
    }: { graph: Graph; snapshotter: Snapshotter; content: ContentStore; partials: Partials },
    native: Pick<Native, 'openLayer' | 'packLayer'>,
    { maxConcurrentDownloads, keepLayerBlobs }: { maxConcurrentDownloads: () => number; keepLayerBlobs: boolean },
  ) {
    this.#graph = graph;
    this.#snapshotter = snapshotter;
    this.#content = content;
    this.#partials = partials;
    this.#native = native;
    this.#downloads = new Semaphore(maxConcurrentDownloads);
    this.#keepBlobs = keepLayerBlobs;
  }

  /**
   * The layer's row is there when this resolves. `parentReady` resolves when the parent's is. `lease` holds the chainId and
   * the blob's digest.
   */
  async ensure(
    layer: WantedLayer,
    fetch: Fetch,
    parentReady: Promise<unknown>,
    lease: string,
    signal: AbortSignal,
  ): Promise<Arrival> {
    for (let shared = false; ; shared = true) {
      signal.throwIfAborted();
      if (this.#graph.layers.get(layer.chainId) !== undefined) return shared ? 'shared' : 'present';
      const other = this.#underWay.get(layer.chainId);
      if (other === undefined) break;
      if (!shared) fetch.onWaiting();
      await abortable(other, signal);
    }
    const own = this.#fetch(layer, fetch, parentReady, lease, signal);
    this.#underWay.set(
      layer.chainId,
      own.catch(() => undefined),
    );
    try {
      await own;
    } finally {
      this.#underWay.delete(layer.chainId);
    }
    return 'unpacked';
  }

  /** Unpacks a stream; nothing is left of it when this rejects. `onChunk` is also told where the blob is being written. */
  async unpack(
    source: AsyncIterable<Uint8Array>,
    expected: ExpectedLayer,
    signal: AbortSignal,
    onChunk: (bytes: number, blobPath: string) => Promise<void> | void = () => undefined,
  ): Promise<Unpacked> {
    const cacheId = this.#snapshotter.newCacheId();
    const targetDir = await this.#snapshotter.prepareLayer(cacheId);
    const blobPath = this.#content.newIngest();
    const { keep, digest, sizeBytes, diffId } = expected;
    const sink = this.#native.openLayer({
      targetDir,
      ...(keep === 'never' ? {} : { blobPath, keep }),
      recipePath: this.#snapshotter.temporaryRecipe(cacheId),
      ...(digest === undefined ? {} : { expectedDigest: digest }),
      ...(sizeBytes === undefined ? {} : { expectedSize: sizeBytes }),
      ...(diffId === undefined ? {} : { expectedDiffId: diffId }),
    });
    try {
      for await (const chunk of source) {
        signal.throwIfAborted();
        unwrap(await sink.write(chunk), targetDir);
        await onChunk(chunk.byteLength, blobPath);
      }
      return { cacheId, blobPath, applied: unwrap(await sink.end(), targetDir) };
    } catch (error) {
      await sink.abort();
      await this.#snapshotter.discardLayer(cacheId);
      throw error;
    }
  }

  /** A layer of a container's own directory; nothing is left of it when this rejects. */
  async pack(upper: string, { cacheId, blobPath }: { cacheId: string; blobPath: string }): Promise<Unpacked> {
    const targetDir = await this.#snapshotter.prepareLayer(cacheId);
    try {
      const recipePath = this.#snapshotter.temporaryRecipe(cacheId);
      const applied = await this.#native.packLayer({ upper, targetDir, blobPath, recipePath });
      return { cacheId, blobPath, applied };
    } catch (error) {
      await this.discard({ cacheId, blobPath });
      throw error;
    }
  }

  /** Keeps the blob alone, if there is one, of a layer that is there already. */
  async commitBlob({ blobPath, applied }: Unpacked, lease: string, mediaType?: string): Promise<void> {
    const { blob } = applied;
    if (blob === null) return;
    this.#graph.leases.add(lease, 'blob', blob.digest);
    // It came for another place in another image.
    if (this.#content.has(blob.digest)) return rm(blobPath, { force: true });
    const { digest, sizeBytes } = blob;
    await this.#content.commit(blobPath, { digest, sizeBytes, mediaType: mediaType ?? LAYER_TYPES[blob.compression] });
  }

  /**
   * Makes it a layer of the graph, or drops it when that layer has come to be there meanwhile. `fetched`: a repository has
   * the blob that it came as.
   */
  async commit(
    unpacked: Unpacked,
    layer: { chainId: string; parent: string | null; mediaType?: string; fetched?: boolean },
    lease: string,
  ): Promise<void> {
    const { cacheId, applied } = unpacked;
    const { blob } = applied;
    const isKnown = blob !== null || layer.fetched === true;
    await this.commitBlob(unpacked, lease, layer.mediaType);
    await this.#snapshotter.commitLayer(cacheId);
    const inserted = this.#graph.db.transaction(() =>
      this.#graph.layers.insert({
        chainId: layer.chainId,
        diffId: applied.diffId,
        parent: layer.parent,
        cacheId,
        sizeBytes: applied.unpackedBytes,
        blobDigest: isKnown ? applied.digest : null,
        blobSizeBytes: isKnown ? applied.sizeBytes : null,
        blobMediaType: layer.mediaType ?? (blob && LAYER_TYPES[blob.compression]),
        createdMs: Date.now(),
        keepsBlob: blob === null ? 0 : 1,
      }),
    );
    if (!inserted) await this.#snapshotter.discardLayer(cacheId);
  }

  async discard({ cacheId, blobPath }: Pick<Unpacked, 'cacheId' | 'blobPath'>): Promise<void> {
    await this.#snapshotter.discardLayer(cacheId);
    await rm(blobPath, { force: true });
  }

  async #fetch(
    layer: WantedLayer,
    fetch: Fetch,
    parentReady: Promise<unknown>,
    lease: string,
    signal: AbortSignal,
  ): Promise<void> {
    fetch.onWaiting();
    const unpacked = await this.#downloads.run(() => this.#receive(layer, fetch, signal));
    try {
      fetch.onReceived();
      await parentReady;
    } catch (error) {
      await this.discard(unpacked);
      throw error;
    }
    await this.commit(unpacked, { ...layer, fetched: true }, lease);
    await this.#partials.drop(layer.digest);
  }

  /** Goes on from what an earlier download left, and leaves what came when this one is cut off. */
  async #receive(layer: WantedLayer, fetch: Fetch, signal: AbortSignal): Promise<Unpacked> {
    signal.throwIfAborted();
    const { digest, sizeBytes, diffId } = layer;
    const keep = this.#keepBlobs ? 'always' : 'withoutRecipe';
    const isKept = sizeBytes >= MIN_PARTIAL_BYTES;
    const receive = async (beginning: Beginning | undefined): Promise<Unpacked> => {
      const at = beginning?.sizeBytes ?? 0;
      let isHeld = !isKept;
      const source = beginning ? joined(beginning, fetch.open(signal, at)) : fetch.open(signal, 0);
      return this.unpack(source, { keep, digest, sizeBytes, diffId }, signal, async (bytes, blobPath) => {
        fetch.onChunk(bytes);
        if (!isHeld) isHeld = await this.#partials.hold(digest, blobPath, at);
      });
    };
    const beginning = isKept ? await this.#partials.open(digest, sizeBytes) : undefined;
    try {
      return await receive(beginning).catch((error: unknown) => {
        const isWrong = error instanceof CaissonError && error.kind === 'DataLoss';
        if (beginning === undefined || !isWrong || signal.aborted) throw error;
        // Nobody had checked the beginning: without it.
        return receive(undefined);
      });
    } catch (error) {
      if (!isInterruption(error)) await this.#partials.drop(digest);
      throw error;
    } finally {
      await beginning?.file.close();
    }
  }
}

async function* joined({ file }: Beginning, rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* file.createReadStream({ start: 0, autoClose: false, highWaterMark: 1 << 18 }) as AsyncIterable<Buffer>;
  yield* rest;
}

/** The line, the client or the daemon ended it: another try goes on. What is wrong or has no room is not kept. */
const isInterruption = (error: unknown): boolean =>
  error instanceof CaissonError
    ? error.kind === 'Unavailable' || error.kind === 'Cancelled'
    : error instanceof Error && error.name === 'AbortError';
