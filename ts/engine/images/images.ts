/** The images of an engine: what the routes, and the containers, ask for. */
import type { ContentStore } from '../../graph/content-store.ts';
import type { GarbageCollector } from '../../graph/gc.ts';
import type { Graph } from '../../graph/graph.ts';
import type { Partials } from '../../graph/partials.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import type { Platform } from '../../oci.ts';
import type { RegistryClient } from '../../registry/client/client.ts';
import type { Filters } from '../api/query.ts';
import type { KindRegistry } from '../jobs/kinds.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { HostInfo, Native } from '../native/index.ts';
import { type BudgetOptions, StorageBudget } from './budget.ts';
import { BuildSteps } from './buildSteps.ts';
import { type CheckOptions, StoreChecker } from './check.ts';
import { type CommitRequest, type CommitSource, Committer } from './commit.ts';
import { parseConfig } from './config.ts';
import { imageEvent } from './events.ts';
import { type ImportRequest, importImage, openSource } from './import.ts';
import { Installer } from './install.ts';
import { LayerBlobs, type LayerBlobsParts } from './layerBlobs.ts';
import { type ListOptions, listImages } from './list.ts';
import { ImageLoader } from './load.ts';
import { familiarRow, ImageNames, referenceRow, type UsableImage } from './names.ts';
import { hostPlatform, requirePlatform } from './platform.ts';
import type { Emit } from './progress.ts';
import { ImagePuller, type PullRequest } from './pull.ts';
import { ImagePusher, type PushRequest } from './push.ts';
import { ImageRemover, parseTag, type Removed } from './remove.ts';
import { ImageSaver, type Sink } from './save.ts';
import { LayerUnpacker } from './unpack.ts';
import { StoreUsage } from './usage.ts';
import { type HistoryItem, history, type ImageSummary, inspect } from './views.ts';

export interface ImagesOptions extends BudgetOptions {
  graph: Graph;
  snapshotter: Snapshotter;
  content: ContentStore;
  partials: Partials;
  gc: GarbageCollector;
  runner: JobRunner;
  registry: KindRegistry;
  bootId: string;
  native: LayerBlobsParts['native'] &
    Pick<Native, 'openLayer' | 'packLayer' | 'treeSize' | 'compareTrees' | 'cgroupFreeze'>;
  host: Pick<HostInfo, 'architecture'>;
  /** Asked each time: a reload may change them. */
  maxConcurrentDownloads: () => number;
  maxConcurrentUploads: () => number;
  keepLayerBlobs: boolean;
  /** Path of the policy for pulls; '' for none. */
  signaturePolicy: string;
  remote: RegistryClient;
}

/** As dockerd's metrics call them. */
export type ImageAction = 'pull' | 'push' | 'delete' | 'history';

export class Images {
  /** Hears of each action and of its time, as dockerd counts them: a transfer that has failed, but no other failure. */
  onAction: ((action: ImageAction, seconds: number) => void) | undefined;
  /** The images that builds make step by step; see buildSteps.ts. */
  readonly buildSteps: BuildSteps;
  readonly #options: ImagesOptions;
  readonly #names: ImageNames;
  readonly #installer: Installer;
  readonly #unpacker: LayerUnpacker;
  readonly #blobs: LayerBlobs;
  readonly #loader: ImageLoader;
  readonly #puller: ImagePuller;
  readonly #committer: Committer;
  readonly #remover: ImageRemover;
  readonly #saver: ImageSaver;
  readonly #pusher: ImagePusher;
  readonly #checker: StoreChecker;
  readonly #budget: StorageBudget;
  readonly #usage: StoreUsage;

  constructor(options: ImagesOptions) {
    this.#options = options;
    const { graph, content, native, gc, host, remote } = options;
    this.#names = new ImageNames(graph);
    const installer = new Installer(options, ['pull', 'layers'], { durable: true });
    const unpacker = new LayerUnpacker(options, native, options);
    const blobs = new LayerBlobs(options);
    this.#blobs = blobs;
    this.#installer = installer;
    this.#unpacker = unpacker;
    this.#loader = new ImageLoader({ ...options, blobs }, installer, unpacker);
    this.#puller =
      remote &&
      new ImagePuller({
        graph,
        content,
        installer,
        unpacker,
        registry: remote,
        hostPlatform: hostPlatform(host),
        keepLayerBlobs: options.keepLayerBlobs,
        signaturePolicy: options.signaturePolicy,
      });
    this.#committer = new Committer({ ...options, platform: hostPlatform(host) }, unpacker);
    this.#remover = new ImageRemover(graph, this.#names, gc, options.partials);
    this.#saver = new ImageSaver(
      { ...options, blobs },
      this.#names,
      new Installer(options, ['save', 'send'], { durable: false }),
    );
    const pushJob = new Installer(options, ['push', 'send'], { durable: true });
    this.#pusher = new ImagePusher({ ...options, blobs }, this.#names, pushJob, options.maxConcurrentUploads);
    const checkJob = new Installer(options, ['check', 'compare'], { durable: false });
    this.#checker = new StoreChecker({ ...options, blobs }, unpacker, checkJob);
    this.buildSteps = new BuildSteps(options, new Installer(options, ['build', 'step'], { durable: false }), unpacker);
    this.#usage = new StoreUsage(options);
    this.#budget = new StorageBudget(options, this.#remover, options);
  }

  /** By reference, id or the beginning of an id. Kind NotFound with `No such image: NAME:TAG`. */
  find(name: string): UsableImage {
    return this.#names.find(name);
  }

  list(options: ListOptions): ImageSummary[] {
    return listImages(this.#options.graph, this.#names, options);
  }

  /** Kind NotFound when the image is made for another platform. */
  requirePlatform(name: string, platform: Platform): void {
    requirePlatform(name, parseConfig(this.#names.resolve(name).image.config), platform);
  }

  inspect(name: string): object {
    const { graph, snapshotter } = this.#options;
    return inspect(graph, this.#names, snapshotter, this.#names.resolve(name).image);
  }

  history(name: string): HistoryItem[] {
    const begunMs = performance.now();
    const items = history(this.#options.graph, this.#names, this.#names.resolve(name).image);
    this.#tell('history', begunMs);
    return items;
  }

  async tag(name: string, repository: string, tag: string): Promise<void> {
    const { graph } = this.#options;
    const reference = parseTag(repository, tag);
    graph.db.transaction(() => {
      const { image } = this.#names.resolve(name);
      const row = referenceRow(reference, image.id);
      graph.images.setReference(row, Date.now());
      imageEvent(graph, 'tag', image.id, familiarRow(row));
    });
    await graph.db.durable();
  }

  async remove(name: string, options: Parameters<ImageRemover['remove']>[1]): Promise<Removed[]> {
    const begunMs = performance.now();
    const removed = await this.#remover.remove(name, options);
    if (removed.some((one) => 'Deleted' in one)) this.#tell('delete', begunMs);
    return removed;
  }

  /** See remove.ts. */
  pruneBuildSteps(ids: ReadonlySet<string>): Promise<{ ids: string[]; bytes: number }> {
    return this.#remover.pruneBuildSteps(ids);
  }

  async prune(filters: Filters): Promise<{ ImagesDeleted: Removed[] | null; SpaceReclaimed: number }> {
    const begunMs = performance.now();
    const pruned = await this.#remover.prune(filters);
    if (pruned.ImagesDeleted?.some((one) => 'Deleted' in one)) this.#tell('delete', begunMs);
    return pruned;
  }

  async load(
    stream: AsyncIterable<Buffer>,
    platform: Platform | undefined,
    emit: Emit,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#loader.load(stream, platform, emit, signal);
    for (const name of await this.keepBudget()) emit({ stream: `Removed for the storage budget: ${name}\n` });
  }

  /** Resolves with the id. */
  async commit(source: CommitSource, request: CommitRequest, signal: AbortSignal): Promise<string> {
    const id = await this.#committer.commit(source, request, signal);
    await this.keepBudget();
    return id;
  }

  async push(request: PushRequest, emit: Emit, signal: AbortSignal): Promise<void> {
    const begunMs = performance.now();
    try {
      await this.#blobs.during(() => this.#pusher.push(request, emit, signal));
    } finally {
      this.#tell('push', begunMs);
    }
  }

  /** An archive of the images; see save.ts. */
  save(names: readonly string[], platform: Platform | undefined, sink: Sink, signal: AbortSignal): Promise<void> {
    return this.#blobs.during(() => this.#saver.save(names, platform, sink, signal));
  }

  /** Compares the store with its rows; see check.ts. */
  check(options: CheckOptions): Promise<void> {
    return this.#blobs.during(() => this.#checker.check(options));
  }

  /** What images are made for when nothing else is said. */
  get hostPlatform(): Platform {
    return hostPlatform(this.#options.host);
  }

  async pull(request: PullRequest, emit: Emit, signal: AbortSignal): Promise<void> {
    const begunMs = performance.now();
    try {
      await this.#puller.pull(request, emit, signal);
    } finally {
      this.#tell('pull', begunMs);
    }
    for (const name of await this.keepBudget()) emit({ status: `Removed for the storage budget: ${name}` });
  }

  #tell(action: ImageAction, begunMs: number): void {
    this.onAction?.(action, (performance.now() - begunMs) / 1000);
  }

  /** Bytes that all images take on the disk; see usage.ts. */
  diskUsage(): Promise<number> {
    return this.#usage.bytes();
  }

  /** Removes what the storage budget has no room for; see budget.ts. */
  keepBudget(): Promise<string[]> {
    return this.#budget.enforce();
  }

  /** `body`: what is imported when the source is `-`. The last line is the id. */
  async import(
    request: Omit<ImportRequest, 'stream'>,
    body: AsyncIterable<Uint8Array>,
    emit: Emit,
    signal: AbortSignal,
  ): Promise<void> {
    const { graph, remote } = this.#options;
    const stream = request.source === '-' ? body : await openSource(request.source, remote, emit, signal);
    const parts = { graph, installer: this.#installer, unpacker: this.#unpacker };
    const id = await importImage(parts, { ...request, stream }, signal);
    await this.keepBudget();
    emit({ status: id });
  }
}
