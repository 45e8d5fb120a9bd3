/** `docker load`. */
import { isDeepStrictEqual } from 'node:util';
import { chainIds } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import { type ImageConfig, MEDIA_TYPES, type Platform } from '../../oci.ts';
import { familiarString, parseReference, withDefaultTag } from '../../reference.ts';
import type { HostInfo } from '../native/index.ts';
import { type ArchiveReader, readArchive } from './archive.ts';
import { type Bundle, readBundles } from './bundles.ts';
import { type CheckedConfig, checkConfig } from './config.ts';
import { imageEvent } from './events.ts';
import type { Installer } from './install.ts';
import type { LayerBlobs } from './layerBlobs.ts';
import { legacyBundles } from './legacyArchive.ts';
import { referenceRow } from './names.ts';
import { hostPlatform, requirePlatform } from './platform.ts';
import { type Emit, progressLine, shortId } from './progress.ts';
import type { LayerUnpacker, Unpacked } from './unpack.ts';

interface Loading {
  /** Layers of the archive that are no layer of the graph yet. */
  unpacked: Unpacked[];
  /** What has become of the others: a chainId. */
  placed: Map<Unpacked, string>;
  lease: string;
  emit: Emit;
  signal: AbortSignal;
}

interface LoadedImage {
  bundle: Bundle;
  checked: CheckedConfig;
  chain: string[];
  /** Blobs that stay with the image; none when its manifest names bytes that are not kept. */
  blobs: string[];
}

export class ImageLoader {
  readonly #graph: Graph;
  readonly #installer: Installer;
  readonly #unpacker: LayerUnpacker;
  readonly #content: ContentStore;
  readonly #blobs: LayerBlobs;
  readonly #host: Pick<HostInfo, 'architecture'>;

  constructor(
    {
      graph,
      content,
      blobs,
      host,
    }: { graph: Graph; content: ContentStore; blobs: LayerBlobs; host: Pick<HostInfo, 'architecture'> },
    installer: Installer,
    unpacker: LayerUnpacker,
  ) {
    this.#graph = graph;
    this.#content = content;
    this.#blobs = blobs;
    this.#installer = installer;
    this.#unpacker = unpacker;
    this.#host = host;
  }

  /** `platform`: of an index the image that runs on it, instead of the host's; another image is refused. */
  async load(
    stream: AsyncIterable<Buffer>,
    platform: Platform | undefined,
    emit: Emit,
    signal: AbortSignal,
  ): Promise<void> {
    const loaded: LoadedImage[] = [];
    /** Of names that were there, the image that has lost it. */
    const renamed = new Map<string, string>();
    await this.#installer.run(
      {
        subject: 'an image archive',
        prepare: async (lease, aborted) => {
          loaded.push(...(await this.#prepare(stream, platform, lease, emit, aborted)));
          return () => {
            for (const image of loaded) this.#write(image, renamed);
            this.#setParents(loaded);
          };
        },
      },
      signal,
    );
    for (const { bundle, checked } of loaded) {
      for (const name of bundle.names) {
        const shown = familiarString(withDefaultTag(parseReference(name)));
        const loser = renamed.get(name);
        if (loser !== undefined)
          emit({
            stream: `The image ${shown} already exists, renaming the old one with ID ${loser} to empty string\n`,
          });
        emit({ stream: `Loaded image: ${shown}\n` });
      }
      if (bundle.names.length === 0) emit({ stream: `Loaded image ID: ${checked.id}\n` });
    }
  }

  async #prepare(
    stream: AsyncIterable<Buffer>,
    platform: Platform | undefined,
    lease: string,
    emit: Emit,
    signal: AbortSignal,
  ): Promise<LoadedImage[]> {
    const unpacked: Unpacked[] = [];
    const placed = new Map<Unpacked, string>();
    try {
      const archive = await readArchive(stream, signal, async (_path, bytes) => {
        const layer = await this.#unpacker.unpack(bytes, { keep: 'compressed' }, signal);
        unpacked.push(layer);
        return layer;
      });
      const images: LoadedImage[] = [];
      for (const bundle of this.#bundles(archive, platform)) {
        for (const name of bundle.names) parseReference(name);
        const checked = checkConfig(bundle.config);
        if (platform) requirePlatform(bundle.names[0] ?? checked.id, checked.config, platform);
        const chain = await this.#layers(bundle, checked, archive, { unpacked, placed, lease, emit, signal });
        images.push({ bundle, checked, chain, blobs: await this.#keepDocuments(bundle, checked, lease, signal) });
      }
      return images;
    } finally {
      // What no image of the archive uses, or what was there already.
      for (const layer of unpacked) await this.#unpacker.discard(layer);
    }
  }

  #bundles({ documents, layers, links }: ArchiveReader<Unpacked>, platform: Platform | undefined): Bundle[] {
    const isLegacy = documents.has('repositories') && !documents.has('manifest.json') && !documents.has('index.json');
    if (!isLegacy) return readBundles(documents, platform ?? hostPlatform(this.#host));
    return legacyBundles(documents, (path) => layers.get(followLinks(path, links))?.applied.diffId);
  }

  /** Commits the layers that are new and takes them out of `unpacked`. */
  async #layers(
    bundle: Bundle,
    { config }: CheckedConfig,
    archive: ArchiveReader<Unpacked>,
    { unpacked, placed, lease, emit, signal }: Loading,
  ): Promise<string[]> {
    const diffIds = config.rootfs.diff_ids;
    if (diffIds.length !== bundle.layerPaths.length)
      throw new CaissonError(
        'InvalidParameter',
        `invalid image archive: ${bundle.layerPaths.length} layers, but the config names ${diffIds.length}`,
      );
    const chain = chainIds(diffIds);
    const named = (i: number, { applied }: Unpacked): { mediaType?: string } => {
      const described = bundle.manifest?.layers[i];
      // What the manifest calls the blob counts only when it is this blob.
      return described !== undefined && described.digest === applied.blob?.digest
        ? { mediaType: described.mediaType }
        : {};
    };
    for (const [i, chainId] of chain.entries()) {
      this.#graph.leases.add(lease, 'layer', chainId);
      const diffId = diffIds[i] as string;
      const found = this.#find(bundle.layerPaths[i] as string, diffId, archive);
      if (this.#graph.layers.get(chainId) !== undefined) {
        if (found !== undefined) await this.#unpacker.commitBlob(found, lease, named(i, found).mediaType);
        continue;
      }
      if (found === undefined)
        throw new CaissonError(
          'InvalidParameter',
          `invalid image archive: the layer ${bundle.layerPaths[i]} is missing`,
        );
      const layer = await this.#take(found, { unpacked, placed, signal });
      await this.#unpacker.commit(layer, { chainId, parent: chain[i - 1] ?? null, ...named(i, layer) }, lease);
      placed.set(found, chainId);
      const { sizeBytes } = layer.applied;
      emit(progressLine('Loading layer', shortId(diffId), { current: sizeBytes, total: sizeBytes }));
    }
    return chain;
  }

  #find(path: string, diffId: string, archive: ArchiveReader<Unpacked>): Unpacked | undefined {
    const layer = archive.layers.get(followLinks(path, archive.links));
    if (layer !== undefined && layer.applied.diffId !== diffId)
      throw new CaissonError(
        'DataLoss',
        `invalid image archive: the layer ${path} is ${layer.applied.diffId}, but the config names ${diffId}`,
      );
    return layer;
  }

  async #take(
    layer: Unpacked,
    { unpacked, placed, signal }: Pick<Loading, 'unpacked' | 'placed' | 'signal'>,
  ): Promise<Unpacked> {
    const at = unpacked.indexOf(layer);
    if (at >= 0) {
      unpacked.splice(at, 1);
      return layer;
    }
    // It stands in a second place, on other layers: builders write the layer without files again and again.
    const first = this.#graph.layers.get(placed.get(layer) ?? '');
    if (first === undefined) throw new Error(`layer ${layer.applied.diffId} was taken before it had a place`);
    const { blob, diffId } = layer.applied;
    const bytes = blob === null ? this.#blobs.archive(first) : this.#content.stream(blob.digest);
    return this.#unpacker.unpack(bytes, { keep: 'never', diffId }, signal);
  }

  /** Manifest and config, so that a push or save gives what came; only if all blobs are those that the manifest names. */
  async #keepDocuments(
    { manifest }: Bundle,
    checked: CheckedConfig,
    lease: string,
    signal: AbortSignal,
  ): Promise<string[]> {
    if (manifest === undefined || !manifest.layers.every(({ digest }) => this.#content.has(digest))) return [];
    const config = { digest: checked.id, mediaType: MEDIA_TYPES.ociConfig, bytes: Buffer.from(checked.text) };
    for (const { digest, mediaType, bytes } of [manifest, config]) {
      this.#graph.leases.add(lease, 'blob', digest);
      await this.#content.ingest(bytes, { mediaType, digest, sizeBytes: bytes.length, signal });
    }
    return [manifest.digest, checked.id, ...manifest.layers.map(({ digest }) => digest)];
  }

  #write({ bundle, checked, chain, blobs }: LoadedImage, renamed: Map<string, string>): void {
    const { images, layers } = this.#graph;
    images.insert({
      image: {
        id: checked.id,
        config: checked.text,
        manifestDigest: blobs.length > 0 ? (bundle.manifest?.digest ?? null) : null,
        sizeBytes: chain.reduce((sum, chainId) => sum + (layers.get(chainId)?.sizeBytes ?? 0), 0),
        parent: null,
        createdMs: Date.now(),
        taggedMs: null,
      },
      layers: chain,
      blobs,
    });
    for (const name of bundle.names) {
      const row = referenceRow(parseReference(name), checked.id);
      const before = images.reference(row.name);
      if (before !== undefined && before.imageId !== checked.id) renamed.set(name, before.imageId);
      images.setReference(row);
    }
    imageEvent(this.#graph, 'load', checked.id);
  }

  /** Only images of the archive count: another of that id was never said to be the parent of one of these here. */
  #setParents(loaded: readonly LoadedImage[]): void {
    for (const { bundle, checked } of loaded) {
      const parent = loaded.find((other) => other.checked.id === bundle.parent && other.checked.id !== checked.id);
      if (parent === undefined) continue;
      if (!isParentOf(parent.checked.config, checked.config))
        throw new CaissonError(
          'InvalidParameter',
          `image ${parent.checked.id} is not a valid parent for ${checked.id}`,
          { code: 'ARCHIVE_INVALID' },
        );
      this.#graph.images.setParent(checked.id, parent.checked.id);
    }
  }
}

/** What was built on an image has its history, and one step more. */
function isParentOf(parent: ImageConfig, child: ImageConfig): boolean {
  const [above = [], below = []] = [parent.history, child.history];
  if (above.length === 0 && below.length === 0) return true;
  return isDeepStrictEqual(above, below.slice(0, -1));
}

function followLinks(path: string, links: ReadonlyMap<string, string>): string {
  let at = path;
  for (let i = 0; i < 8; i++) at = links.get(at) ?? at;
  return at;
}
