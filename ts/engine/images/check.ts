/**
 * `caisson system check`: is what the store holds what its rows promise? Blobs are hashed again; a layer is unpacked again
 * from its blob and compared with its directory, so that a file that was changed or lost there is found. Where the blob is
 * not kept, the directory must give the layer's archive again, and that unpacked must be as the directory is.
 *
 * With `repair` a damaged blob is fetched by its digest from where its images came from, or given up, so that the next
 * pull brings it; a damaged layer is unpacked again from its blob, which may be fetched for that, unless a container runs
 * on it. An image is what its id says: the config has that digest and names the layers that the rows name.
 */
import { lstat } from 'node:fs/promises';
import { chainIds, sha256Of } from '../../digest.ts';
import { asCaissonError, CaissonError, isKind } from '../../errdefs.ts';
import type { BlobRow } from '../../graph/blobs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow } from '../../graph/images.ts';
import type { LayerRow } from '../../graph/layers.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import { MEDIA_TYPES } from '../../oci.ts';
import type { RegistryClient } from '../../registry/client/client.ts';
import type { Repository } from '../../registry/client/repository.ts';
import type { StoreCheckLine, StoreProblem } from '../api/schemas/storeCheck.ts';
import type { Native } from '../native/index.ts';
import { parseConfig } from './config.ts';
import type { Installer } from './install.ts';
import { isLayerAway, type LayerBlobs } from './layerBlobs.ts';
import { familiarRow } from './names.ts';
import type { LayerUnpacker, Unpacked } from './unpack.ts';

export interface CheckOptions {
  repair: boolean;
  emit(line: StoreCheckLine): void;
  signal: AbortSignal;
}

interface Parts {
  graph: Graph;
  content: ContentStore;
  snapshotter: Snapshotter;
  remote: RegistryClient;
  blobs: LayerBlobs;
  native: Pick<Native, 'compareTrees'>;
}

/** What was found; `outcome` when it was to be repaired. */
type Verdict = Pick<StoreProblem, 'problem' | 'repaired' | 'outcome'>;

const MANIFESTS: readonly string[] = [
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.dockerManifest,
  MEDIA_TYPES.dockerList,
];
const RUNNING: readonly string[] = ['running', 'paused', 'restarting'];

export class StoreChecker {
  readonly #parts: Parts;
  readonly #unpacker: LayerUnpacker;
  readonly #job: Installer;

  constructor(parts: Parts, unpacker: LayerUnpacker, job: Installer) {
    this.#parts = parts;
    this.#unpacker = unpacker;
    this.#job = job;
  }

  async check(options: CheckOptions): Promise<void> {
    await this.#job.run(
      {
        subject: 'the store',
        prepare: async (lease, signal) => {
          await this.#all(lease, { ...options, signal });
          return () => undefined;
        },
      },
      options.signal,
    );
  }

  async #all(lease: string, { repair, emit, signal }: CheckOptions): Promise<void> {
    const { graph } = this.#parts;
    const counts = { problems: 0, repaired: 0 };
    const tell = (found: Pick<StoreProblem, 'object' | 'id' | 'images'> & Verdict): void => {
      counts.problems++;
      if (found.repaired) counts.repaired++;
      emit(found);
    };
    for (const problem of graph.db.integrityErrors())
      tell({ object: 'database', id: graph.db.path, images: [], problem, ...(repair && NO_REPAIR) });
    for (const row of graph.images.all()) {
      const verdict = await this.#image(row, repair);
      if (verdict !== undefined) tell({ object: 'image', id: row.id, images: this.#imagesOf([row.id]), ...verdict });
    }
    const blobs = graph.blobs.all();
    for (const row of blobs) {
      signal.throwIfAborted();
      graph.leases.add(lease, 'blob', row.digest);
      if (graph.blobs.get(row.digest) === undefined) continue;
      const images = this.#imagesOf(graph.images.withBlob(row.digest));
      const verdict = await this.#blob(row, repair, signal);
      if (verdict !== undefined) tell({ object: 'blob', id: row.digest, images, ...verdict });
    }
    const layers = graph.layers.all();
    for (const row of layers) {
      signal.throwIfAborted();
      graph.leases.add(lease, 'layer', row.chainId);
      if (graph.layers.get(row.chainId)?.cacheId !== row.cacheId) continue;
      const images = this.#imagesOf(graph.images.withLayer(row.chainId));
      const verdict = await this.#layer(row, repair, lease, signal);
      if (verdict !== undefined) tell({ object: 'layer', id: row.chainId, images, ...verdict });
    }
    emit({ checked: { blobs: blobs.length, layers: layers.length }, ...counts });
  }

  #imagesOf(ids: readonly string[]): string[] {
    const { images } = this.#parts.graph;
    return ids.flatMap((id) => {
      const tags = images.referencesOf(id).filter(({ tag }) => tag !== null);
      return tags.length > 0 ? tags.map(familiarRow) : [id];
    });
  }

  async #image(row: ImageRow, repair: boolean): Promise<Verdict | undefined> {
    const { graph, content } = this.#parts;
    const digest = sha256Of(row.config);
    if (digest !== row.id) {
      const problem = `its config has the digest ${digest}`;
      if (!repair) return { problem };
      const config = await content.read(row.id).catch(() => undefined);
      if (config === undefined) return { problem, ...PULL_ANEW };
      graph.images.insert({ image: { ...row, config: config.toString() }, layers: [], blobs: [] });
      return { problem, repaired: true, outcome: 'read again from its blob' };
    }
    const { diff_ids: diffIds } = parseConfig(row.config).rootfs;
    const promised = chainIds(diffIds);
    const layers = graph.images.layers(row.id);
    const lost = promised.find((chainId) => graph.layers.get(chainId) === undefined);
    if (lost !== undefined) return { problem: `its layer ${lost} is not in the store`, ...(repair && PULL_ANEW) };
    const wrong = promised.find((chainId, i) => {
      const { parent, diffId } = graph.layers.get(chainId) as LayerRow;
      return parent !== (promised[i - 1] ?? null) || diffId !== diffIds[i];
    });
    if (wrong !== undefined) {
      const problem = `the row of its layer ${wrong} has another layer below it, or another digest`;
      if (!repair) return { problem };
      for (const [i, chainId] of promised.entries())
        graph.layers.place(chainId, { parent: promised[i - 1] ?? null, diffId: diffIds[i] as string });
      return { problem, repaired: true, outcome: 'written again' };
    }
    const { manifestDigest: manifest } = row;
    if (manifest !== null && !graph.images.blobs(row.id).includes(manifest))
      return { problem: `its manifest ${manifest} is not in the store`, ...(repair && PULL_ANEW) };
    const at = promised.findIndex((chainId, i) => layers[i] !== chainId);
    if (at < 0 && layers.length === promised.length) return undefined;
    const problem = `its rows name ${layers.length} layers, not the ${promised.length} of its config`;
    if (!repair) return { problem };
    graph.images.relink(row.id, promised);
    return { problem, repaired: true, outcome: 'its layers are here: linked again' };
  }

  async #blob(row: BlobRow, repair: boolean, signal: AbortSignal): Promise<Verdict | undefined> {
    const { content } = this.#parts;
    const problem = await content.examine(row);
    if (problem === undefined || !repair) return problem === undefined ? undefined : { problem };
    const source = await this.#fetch(row, signal);
    if (source !== undefined) return { problem, repaired: true, outcome: `fetched again from ${source}` };
    await content.giveUp(row.digest);
    return { problem, repaired: false, outcome: 'given up: pull or load its images again' };
  }

  /** From the image's row, or the first repository that has it; resolves with the name of that. */
  async #fetch(row: BlobRow, signal: AbortSignal): Promise<string | undefined> {
    const { graph, content } = this.#parts;
    const { digest, sizeBytes, mediaType } = row;
    const config = graph.images.get(digest)?.config;
    if (config !== undefined) {
      await content.ingest(Buffer.from(config), { digest, sizeBytes, mediaType, signal });
      return 'its image';
    }
    for (const repository of this.#sources(digest)) {
      try {
        const bytes = MANIFESTS.includes(mediaType)
          ? (await repository.fetchManifest(digest, signal)).bytes
          : repository.fetchBlob({ digest, size: sizeBytes, mediaType }, { signal, verify: false });
        await content.ingest(bytes, { digest, sizeBytes, mediaType, signal });
        return repository.reference.domain;
      } catch {
        // the next one may have it
        signal.throwIfAborted();
      }
    }
    return undefined;
  }

  /** Repositories whose digests the images of a blob are known by. */
  #sources(digest: string): Repository[] {
    const { graph, remote } = this.#parts;
    const rows = graph.images.withBlob(digest).flatMap((id) => graph.images.referencesOf(id));
    const known = rows.filter((row) => row.digest !== null).map((row) => row.repository);
    const repositories = new Set([...graph.layers.sources(digest), ...known]);
    return [...repositories].map((repository) => {
      const [domain = '', ...path] = repository.split('/');
      return remote.repository({ domain, path: path.join('/') });
    });
  }

  async #layer(row: LayerRow, repair: boolean, lease: string, signal: AbortSignal): Promise<Verdict | undefined> {
    const { graph, content, snapshotter } = this.#parts;
    const directory = snapshotter.layerDirectory(row.cacheId);
    const missing = await lstat(directory).then(
      () => undefined,
      (error: Error) => `its directory cannot be read: ${error.message}`,
    );
    const { blobDigest: digest } = row;
    const blob = digest === null ? undefined : graph.blobs.get(digest);
    if (blob === undefined || (await content.examine(blob)) !== undefined) {
      const problem = missing ?? (await this.#byRecipe(row, directory, signal));
      if (problem === undefined || !repair) return problem === undefined ? undefined : { problem };
      return { problem, ...(await this.#refetch(row, lease, signal)) };
    }
    const fresh = await this.#again(row, content.stream(blob.digest), signal);
    try {
      const problem = missing ?? (await this.#difference(directory, fresh));
      if (problem === undefined || !repair) return problem === undefined ? undefined : { problem };
      return { problem, ...(await this.#replace(row, fresh)) };
    } catch (error) {
      signal.throwIfAborted();
      throw new CaissonError('System', `checking layer ${row.chainId}: ${asCaissonError(error).message}`, {
        cause: error,
      });
    } finally {
      await this.#unpacker.discard(fresh);
    }
  }

  /** What is wrong with a layer whose blob is not kept. */
  async #byRecipe(row: LayerRow, directory: string, signal: AbortSignal): Promise<string | undefined> {
    const { blobs } = this.#parts;
    try {
      const fresh = await this.#again(row, blobs.archive(row), signal);
      try {
        return await this.#difference(directory, fresh);
      } finally {
        await this.#unpacker.discard(fresh);
      }
    } catch (error) {
      if (isKind(error, 'DataLoss')) return asCaissonError(error).message;
      throw error;
    }
  }

  async #difference(directory: string, { cacheId }: Unpacked): Promise<string | undefined> {
    const { native, snapshotter } = this.#parts;
    return (await native.compareTrees(directory, snapshotter.temporaryLayer(cacheId))) ?? undefined;
  }

  #again({ diffId }: LayerRow, bytes: AsyncIterable<Buffer>, signal: AbortSignal): Promise<Unpacked> {
    return this.#unpacker.unpack(bytes, { keep: 'never', diffId }, signal);
  }

  /** A damaged layer unpacked again from its blob, which is fetched for that. */
  async #refetch(row: LayerRow, lease: string, signal: AbortSignal): Promise<Omit<Verdict, 'problem'>> {
    const { blobs, content } = this.#parts;
    const { blobDigest: digest, blobSizeBytes: size, blobMediaType: mediaType } = row;
    if (digest === null || size === null || mediaType === null || !blobs.isKnown(digest)) return NO_BLOB;
    try {
      await blobs.fetch({ digest, size, mediaType }, lease, signal);
    } catch (error) {
      if (!isLayerAway(error)) throw error;
      return { repaired: false, outcome: error.message };
    }
    const fresh = await this.#again(row, content.stream(digest), signal);
    try {
      return await this.#replace(row, fresh);
    } finally {
      await this.#unpacker.discard(fresh);
    }
  }

  async #replace({ chainId, cacheId }: LayerRow, fresh: Unpacked): Promise<Omit<Verdict, 'problem'>> {
    const { graph, snapshotter } = this.#parts;
    await snapshotter.commitLayer(fresh.cacheId);
    const user = graph.db.transaction(() => {
      const found = this.#runningOn(chainId);
      if (found === undefined) graph.layers.move(chainId, fresh.cacheId);
      return found;
    });
    if (user !== undefined)
      return { repaired: false, outcome: `container ${user.slice(0, 12)} runs on it: stop it and check again` };
    await graph.db.durable();
    await snapshotter.removeLayers([cacheId]);
    return { repaired: true, outcome: 'unpacked again' };
  }

  /** A container that has the layer mounted, or may be about to. */
  #runningOn(chainId: string): string | undefined {
    const { containers, layers, jobs } = this.#parts.graph;
    const busy = new Set(jobs.claims().map(({ resource }) => resource));
    const user = containers
      .all()
      .filter(({ id, status }) => RUNNING.includes(status) || busy.has(`container:${id}`))
      .find(
        (container) =>
          container.chainId !== null && layers.chain(container.chainId).some((row) => row.chainId === chainId),
      );
    return user?.id;
  }
}

const NO_BLOB = { repaired: false, outcome: 'its blob is not there: pull or load again' };
const PULL_ANEW = { repaired: false, outcome: 'pull or load it again' };
const NO_REPAIR = { repaired: false, outcome: 'not repaired: restore the data root from a backup, or pull anew' };
