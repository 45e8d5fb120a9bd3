/**
 * `docker commit`: what a container changed becomes a layer over its image.
 *
 *   freeze ─► layer (archived, hashed, unpacked in one pass; image and name are written) ┊ commit ┊ ─► thaw
 *
 * A daemon that dies in between leaves a container that runs on, and a whole image or none.
 */
import { randomBytes } from 'node:crypto';
import { chainIdOf, sha256Of } from '../../digest.ts';
import { isKind } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import type { ImageConfig, ImageRunConfig, Platform } from '../../oci.ts';
import { familiarString, type Reference, withDefaultTag } from '../../reference.ts';
import { type JobKind, type KindRegistry, lock } from '../jobs/kinds.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { Native } from '../native/index.ts';
import { checkConfig, parseConfig } from './config.ts';
import { imageEvent } from './events.ts';
import { applyChanges, mergeRunConfig } from './instructions.ts';
import { familiarRow, referenceRow } from './names.ts';
import type { LayerUnpacker } from './unpack.ts';

/** The container, as commit needs it. */
export interface CommitSource {
  id: string;
  imageId: string;
  chainId: string | null;
  /** What the container runs with. */
  config: ImageRunConfig;
  upper: string;
  cgroup: string;
  /** It runs and is not paused. */
  running: boolean;
  /** Of its events. */
  attributes: Record<string, string>;
}

export interface CommitRequest {
  /** Absent: an image without a name. */
  reference: Reference | undefined;
  author: string;
  comment: string;
  changes: string[];
  /** Stop the container's processes while its files are read. */
  pause: boolean;
  /** Over what the container runs with. */
  config: ImageRunConfig;
}

interface CommitPlan {
  lease: string;
  cacheId: string;
  blobPath: string;
  freeze: boolean;
  source: CommitSource;
  request: CommitRequest;
}

interface CommitState {
  imageId: string;
}

/** Of an archive without entries: nothing was changed. */
export const EMPTY_DIFF_ID = sha256Of(Buffer.alloc(1024));

export interface CommitterOptions {
  graph: Graph;
  content: ContentStore;
  snapshotter: Snapshotter;
  runner: JobRunner;
  registry: KindRegistry;
  bootId: string;
  native: Pick<Native, 'cgroupFreeze'>;
  platform: Platform;
}

export class Committer {
  readonly #options: CommitterOptions;
  readonly #unpacker: LayerUnpacker;
  readonly #kind: JobKind<CommitPlan, CommitState>;

  constructor(options: CommitterOptions, unpacker: LayerUnpacker) {
    this.#options = options;
    this.#unpacker = unpacker;
    this.#kind = options.registry.register<CommitPlan, CommitState>({
      kind: 'commit',
      subject: ({ source }) => source.id,
      claims: ({ source }) => [lock(`container:${source.id}`)],
      begin: (plan) => this.#begin(plan),
      rollback: ({ lease }) => options.graph.leases.delete(lease),
      steps: [
        {
          name: 'freeze',
          medium: 'kernel',
          do: (plan) => this.#freeze(plan, true),
          undo: async (plan) => (await this.#freeze(plan, false)).rows,
        },
        {
          name: 'layer',
          medium: 'disk',
          do: (plan) => this.#layer(plan),
          undo: (plan) => this.#unpacker.discard(plan),
        },
        { name: 'thaw', medium: 'kernel', do: (plan) => this.#freeze(plan, false) },
      ],
      commitPoint: 2,
      durable: true,
    });
  }

  /** Resolves with the image's id. */
  async commit(source: CommitSource, request: CommitRequest, signal: AbortSignal): Promise<string> {
    const { content, snapshotter } = this.#options;
    // What a change says is known to be right before anything is done.
    applyChanges({}, request.changes);
    const plan: CommitPlan = {
      lease: randomBytes(8).toString('hex'),
      cacheId: snapshotter.newCacheId(),
      blobPath: content.newIngest(),
      freeze: request.pause && source.running,
      source,
      request,
    };
    const { imageId } = await this.#options.runner.run(this.#kind, plan, { signal });
    return imageId;
  }

  #begin({ lease, source }: CommitPlan): void {
    const { graph, bootId } = this.#options;
    graph.containers.resolve(source.id);
    const purpose = `commit ${source.id}`;
    graph.leases.insert({ id: lease, purpose, bootId, createdMs: Date.now(), expiresMs: null });
  }

  /** It may have ended, or been taken away, meanwhile. */
  async #freeze({ freeze, source }: CommitPlan, frozen: boolean): Promise<{ rows?: () => void }> {
    if (!freeze) return {};
    try {
      await this.#options.native.cgroupFreeze(source.cgroup, frozen);
    } catch (error) {
      if (!isKind(error, 'NotFound')) throw error;
      return {};
    }
    const { id, attributes } = source;
    const action = frozen ? 'pause' : 'unpause';
    return { rows: () => this.#options.graph.events.append({ type: 'container', action, actorId: id, attributes }) };
  }

  async #layer(plan: CommitPlan): Promise<{ state: CommitState; rows: () => void }> {
    const { graph } = this.#options;
    const { lease, source } = plan;
    const below = source.chainId === null ? [] : graph.layers.chain(source.chainId).reverse();
    for (const { chainId } of below) graph.leases.add(lease, 'layer', chainId);
    const packed = await this.#unpacker.pack(source.upper, plan);
    const { diffId } = packed.applied;
    const chain = below.map(({ chainId }) => chainId);
    const diffIds = below.map((layer) => layer.diffId);
    const isEmpty = diffId === EMPTY_DIFF_ID;
    if (isEmpty) await this.#unpacker.discard(plan);
    else {
      const chainId = chainIdOf(source.chainId, diffId);
      graph.leases.add(lease, 'layer', chainId);
      await this.#unpacker.commit(packed, { chainId, parent: source.chainId }, lease);
      chain.push(chainId);
      diffIds.push(diffId);
    }
    const text = JSON.stringify(this.#config(plan, diffIds, isEmpty));
    const { id } = checkConfig(Buffer.from(text));
    return {
      state: { imageId: id },
      rows: () => {
        this.#write(plan, id, text, chain);
        graph.leases.delete(lease);
      },
    };
  }

  #config({ source, request }: CommitPlan, diffIds: string[], isEmpty: boolean): ImageConfig {
    const { graph, platform } = this.#options;
    const row = graph.images.get(source.imageId);
    const parent = row && parseConfig(row.config);
    const created = new Date().toISOString();
    const { author, comment } = request;
    const variant = parent ? parent.variant : platform.variant;
    return {
      created,
      ...(author !== '' && { author }),
      architecture: parent?.architecture ?? platform.architecture,
      os: parent?.os ?? platform.os,
      ...(variant !== undefined && { variant }),
      config: applyChanges(mergeRunConfig(request.config, source.config), request.changes),
      rootfs: { type: 'layers', diff_ids: diffIds },
      history: [
        ...(parent?.history ?? []),
        {
          created,
          created_by: (source.config.Cmd ?? []).join(' '),
          ...(author !== '' && { author }),
          ...(comment !== '' && { comment }),
          ...(isEmpty && { empty_layer: true }),
        },
      ],
    };
  }

  #write({ source, request }: CommitPlan, id: string, config: string, chain: string[]): void {
    const { images, layers, events } = this.#options.graph;
    const now = Date.now();
    images.insert({
      image: {
        id,
        config,
        manifestDigest: null,
        sizeBytes: chain.reduce((sum, chainId) => sum + (layers.get(chainId)?.sizeBytes ?? 0), 0),
        parent: images.get(source.imageId) === undefined ? null : source.imageId,
        createdMs: now,
        taggedMs: null,
      },
      layers: chain,
      blobs: [],
    });
    imageEvent(this.#options.graph, 'create', id);
    const { reference, comment } = request;
    if (reference !== undefined) {
      const row = referenceRow(reference, id);
      images.setReference(row, now);
      imageEvent(this.#options.graph, 'tag', id, familiarRow(row));
    }
    const imageRef = reference === undefined ? '' : familiarString(withDefaultTag(reference));
    const attributes = { ...source.attributes, comment, imageID: id, imageRef };
    events.append({ type: 'container', action: 'commit', actorId: source.id, attributes });
  }
}
