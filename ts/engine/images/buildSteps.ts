/** The images that the steps of a build make, each the child of the one before, and those of earlier builds that a step need not make again. */
import { isDeepStrictEqual } from 'node:util';
import { chainIdOf, chainIds } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow } from '../../graph/images.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import type { ImageConfig, ImageRunConfig, Platform } from '../../oci.ts';
import { EMPTY_DIFF_ID } from './commit.ts';
import { checkConfig, parseConfig } from './config.ts';
import { imageEvent } from './events.ts';
import type { Installer } from './install.ts';
import type { UsableImage } from './names.ts';
import { formatPlatform } from './platform.ts';
import type { LayerUnpacker } from './unpack.ts';

export interface BuildStep {
  /** Null: the first step on nothing. */
  parent: UsableImage | null;
  /** Of an image without a parent. */
  platform: Platform;
  config: ImageRunConfig;
  /** The command that made it; with the parent and the config it is what the cache goes by. */
  createdBy: string;
  author: string;
  /** Not among the images that users see, until it is shown or named; then without a parent. */
  hidden: boolean;
}

export interface BuildStepsParts {
  graph: Graph;
  content: ContentStore;
  snapshotter: Snapshotter;
}

export class BuildSteps {
  readonly #parts: BuildStepsParts;
  readonly #installer: Installer;
  readonly #unpacker: LayerUnpacker;

  constructor(parts: BuildStepsParts, installer: Installer, unpacker: LayerUnpacker) {
    this.#parts = parts;
    this.#installer = installer;
    this.#unpacker = unpacker;
  }

  /** `upper`: the directory of what the step changed; absent for one that changes no files. */
  async make(step: BuildStep, upper: string | undefined, signal: AbortSignal): Promise<UsableImage> {
    const { graph } = this.#parts;
    const { parent } = step;
    let made: UsableImage | undefined;
    const prepare = async (lease: string): Promise<() => void> => {
      const below = parent?.chainId == null ? [] : graph.layers.chain(parent.chainId).reverse();
      for (const { chainId } of below) graph.leases.add(lease, 'layer', chainId);
      if (parent !== null && below.length !== parent.config.rootfs.diff_ids.length)
        throw new CaissonError('Conflict', `image ${parent.id}, which the step is built on, was removed meanwhile`);
      const added = upper === undefined ? undefined : await this.#layer(upper, parent?.chainId ?? null, lease);
      const diffIds = [...below.map(({ diffId }) => diffId), ...(added ? [added.diffId] : [])];
      const text = JSON.stringify(configOf(step, diffIds, added === undefined));
      const { id, config } = checkConfig(Buffer.from(text));
      made = { id, config, chainId: added?.chainId ?? parent?.chainId ?? null };
      return () => this.#insert(id, text, parent?.id ?? null, chainIds(diffIds), step.hidden);
    };
    await this.#installer.run({ subject: `a build step on ${parent?.id ?? 'nothing'}`, prepare }, signal);
    if (made === undefined) throw new Error('the job of a build step has ended without an image');
    return made;
  }

  /** The newest image that this very step made of this parent. */
  cached({ parent, platform, config, createdBy }: BuildStep): UsableImage | undefined {
    const { images } = this.#parts.graph;
    const length = (parent?.config.history?.length ?? 0) + 1;
    return images
      .stepsOn(parent?.id ?? null)
      .flatMap((id) => images.get(id) ?? [])
      .sort((a, b) => b.createdMs - a.createdMs)
      .map((image) => this.#usable(image))
      .find(
        (image) =>
          (parent !== null || formatPlatform(image.config) === formatPlatform(platform)) &&
          image.config.history?.length === length &&
          image.config.history.at(-1)?.created_by === createdBy &&
          isDeepStrictEqual(plain(image.config.config), plain(config)),
      );
  }

  /**
   * What another image, pulled perhaps (`--cache-from`), went through after the same beginning and by the same command. It
   * becomes an image of its own when that one went on from there.
   */
  async restored(step: BuildStep, source: UsableImage, signal: AbortSignal): Promise<UsableImage | undefined> {
    const { graph } = this.#parts;
    const before = step.parent?.config.history ?? [];
    const history = source.config.history ?? [];
    const own = history[before.length];
    const layers = step.parent?.config.rootfs.diff_ids ?? [];
    const isSame = (a: readonly unknown[], b: readonly unknown[]): boolean => isDeepStrictEqual(a, b);
    if (own?.created_by !== step.createdBy || !isSame(history.slice(0, before.length), before)) return undefined;
    const diffIds = source.config.rootfs.diff_ids;
    if (!isSame(diffIds.slice(0, layers.length), layers)) return undefined;
    if (history.length === before.length + 1)
      return isDeepStrictEqual(plain(source.config.config), plain(step.config)) ? source : undefined;
    const taken = diffIds.slice(0, layers.length + (own.empty_layer ? 0 : 1));
    const chain = chainIds(taken);
    const made = configOf(step, taken, own.empty_layer === true);
    const text = JSON.stringify({ ...made, created: own.created, history: history.slice(0, before.length + 1) });
    const { id, config } = checkConfig(Buffer.from(text));
    await this.#installer.run(
      {
        subject: `a build step of ${source.id}`,
        prepare: async (lease) => {
          for (const chainId of chain) graph.leases.add(lease, 'layer', chainId);
          return () => this.#insert(id, text, step.parent?.id ?? null, chain, step.hidden);
        },
      },
      signal,
    );
    return { id, config, chainId: chain.at(-1) ?? null };
  }

  /** The same image, as if nothing of it had been made later (SOURCE_DATE_EPOCH). */
  async dated(image: UsableImage, date: Date, signal: AbortSignal): Promise<UsableImage> {
    const { graph } = this.#parts;
    const created = date.toISOString();
    const history = (image.config.history ?? []).map((one) =>
      Date.parse(one.created ?? '') > date.getTime() ? { ...one, created } : one,
    );
    const text = JSON.stringify({ ...image.config, created, history });
    const { id, config } = checkConfig(Buffer.from(text));
    const dated = { id, config, chainId: image.chainId };
    if (graph.images.get(id) !== undefined) return dated;
    const chain = chainIds(config.rootfs.diff_ids);
    const prepare = (lease: string): Promise<() => void> => {
      for (const chainId of chain) graph.leases.add(lease, 'layer', chainId);
      return Promise.resolve(() => this.#insert(id, text, image.id, chain, true));
    };
    await this.#installer.run({ subject: `another date for ${image.id}`, prepare }, signal);
    return dated;
  }

  /** The images that are the cache of builds, with what each takes by itself. */
  cache(): { id: string; bytes: number; createdMs: number; createdBy: string }[] {
    const { images, layers } = this.#parts.graph;
    const hidden = images.hidden();
    const all = images.all();
    const seen = new Set(all.filter(({ id }) => !hidden.has(id)).flatMap(({ id }) => images.layers(id)));
    // what several have counts for the oldest
    return all
      .filter(({ id }) => hidden.has(id))
      .reverse()
      .map((image) => {
        const own = images.layers(image.id).filter((chainId) => !seen.has(chainId));
        for (const chainId of own) seen.add(chainId);
        const bytes = own.reduce((sum, chainId) => sum + (layers.get(chainId)?.sizeBytes ?? 0), 0);
        const createdBy = parseConfig(image.config).history?.at(-1)?.created_by ?? '';
        return { id: image.id, bytes, createdMs: image.createdMs, createdBy };
      });
  }

  /** It is an image as any other from here on. */
  show(id: string): void {
    const { graph } = this.#parts;
    if (!graph.images.hidden().has(id)) return;
    graph.images.show(id);
    imageEvent(graph, 'create', id);
  }

  /** Undefined when nothing was changed. */
  async #layer(
    upper: string,
    parent: string | null,
    lease: string,
  ): Promise<{ diffId: string; chainId: string } | undefined> {
    const { graph, content, snapshotter } = this.#parts;
    const place = { cacheId: snapshotter.newCacheId(), blobPath: content.newIngest() };
    const packed = await this.#unpacker.pack(upper, place);
    const { diffId } = packed.applied;
    if (diffId === EMPTY_DIFF_ID) {
      await this.#unpacker.discard(place);
      return undefined;
    }
    const chainId = chainIdOf(parent, diffId);
    graph.leases.add(lease, 'layer', chainId);
    await this.#unpacker.commit(packed, { chainId, parent }, lease);
    return { diffId, chainId };
  }

  #insert(id: string, config: string, parent: string | null, layers: string[], hidden: boolean): void {
    const { graph } = this.#parts;
    const sizeBytes = layers.reduce((sum, chainId) => sum + (graph.layers.get(chainId)?.sizeBytes ?? 0), 0);
    const shown = { id, config, manifestDigest: null, sizeBytes, createdMs: Date.now(), taggedMs: null };
    graph.images.insert({ image: { ...shown, parent: hidden ? null : parent }, layers, blobs: [] });
    if (hidden) graph.images.hide(id, parent);
    else imageEvent(graph, 'create', id);
  }

  #usable(image: ImageRow): UsableImage {
    const chainId = this.#parts.graph.images.layers(image.id).at(-1) ?? null;
    return { id: image.id, config: parseConfig(image.config), chainId };
  }
}

function configOf(
  { parent, platform, config, createdBy, author }: BuildStep,
  diffIds: string[],
  isEmpty: boolean,
): ImageConfig {
  const created = new Date().toISOString();
  const { os, architecture, variant } = parent?.config ?? platform;
  return {
    created,
    ...(author !== '' && { author }),
    architecture,
    os,
    ...(variant !== undefined && { variant }),
    config: plain(config),
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: [
      ...(parent?.config.history ?? []),
      {
        created,
        created_by: createdBy,
        ...(author !== '' && { author }),
        ...(isEmpty && { empty_layer: true }),
      },
    ],
  };
}

/** Without what says nothing, so that configs can be compared. */
function plain(config: ImageRunConfig | undefined): ImageRunConfig {
  const says = (value: unknown): boolean =>
    value != null && value !== '' && !(typeof value === 'object' && Object.keys(value).length === 0);
  return Object.fromEntries(Object.entries(config ?? {}).filter(([, value]) => says(value)));
}
