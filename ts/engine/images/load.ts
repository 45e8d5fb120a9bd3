/** `docker load`. */
import { chainIds, sha256Of } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import { familiarString, parseReference, withDefaultTag } from '../../reference.ts';
import type { HostInfo } from '../native/index.ts';
import { type ArchiveReader, readArchive } from './archive.ts';
import { type Bundle, readBundles } from './bundles.ts';
import { type CheckedConfig, checkConfig } from './config.ts';
import type { Installer } from './install.ts';
import { referenceRow } from './names.ts';
import { hostPlatform } from './platform.ts';
import { type Emit, shortId } from './progress.ts';
import type { LayerUnpacker, Unpacked } from './unpack.ts';

/** The tar without entries that builders write for instructions without files; it may stand several times in one image. */
const EMPTY_TAR = Buffer.alloc(1024);
const EMPTY_DIFF_ID = sha256Of(EMPTY_TAR);

interface LoadedImage {
  bundle: Bundle;
  checked: CheckedConfig;
  chain: string[];
}

export class ImageLoader {
  readonly #graph: Graph;
  readonly #installer: Installer;
  readonly #unpacker: LayerUnpacker;
  readonly #host: Pick<HostInfo, 'architecture'>;

  constructor(graph: Graph, installer: Installer, unpacker: LayerUnpacker, host: Pick<HostInfo, 'architecture'>) {
    this.#graph = graph;
    this.#installer = installer;
    this.#unpacker = unpacker;
    this.#host = host;
  }

  async load(stream: AsyncIterable<Buffer>, emit: Emit, signal: AbortSignal): Promise<void> {
    const loaded: LoadedImage[] = [];
    await this.#installer.run(
      {
        subject: 'an image archive',
        prepare: async (lease, aborted) => {
          loaded.push(...(await this.#prepare(stream, lease, emit, aborted)));
          return () => {
            for (const image of loaded) this.#write(image);
          };
        },
      },
      signal,
    );
    for (const { bundle, checked } of loaded) {
      for (const name of bundle.names)
        emit({ stream: `Loaded image: ${familiarString(withDefaultTag(parseReference(name)))}\n` });
      if (bundle.names.length === 0) emit({ stream: `Loaded image ID: ${checked.id}\n` });
    }
  }

  async #prepare(
    stream: AsyncIterable<Buffer>,
    lease: string,
    emit: Emit,
    signal: AbortSignal,
  ): Promise<LoadedImage[]> {
    const unpacked: Unpacked[] = [];
    try {
      const archive = await readArchive(stream, signal, async (_path, bytes) => {
        const layer = await this.#unpacker.unpack(bytes, {}, signal);
        unpacked.push(layer);
        return layer;
      });
      const images: LoadedImage[] = [];
      for (const bundle of readBundles(archive.documents, hostPlatform(this.#host))) {
        for (const name of bundle.names) parseReference(name);
        const checked = checkConfig(bundle.config);
        const chain = await this.#layers(bundle, checked, archive, unpacked, lease, emit);
        images.push({ bundle, checked, chain });
      }
      return images;
    } finally {
      // What no image of the archive uses, or what was there already.
      for (const layer of unpacked) await this.#unpacker.discard(layer);
    }
  }

  /** Commits the layers that are new and takes them out of `unpacked`. */
  async #layers(
    bundle: Bundle,
    { config }: CheckedConfig,
    archive: ArchiveReader<Unpacked>,
    unpacked: Unpacked[],
    lease: string,
    emit: Emit,
  ): Promise<string[]> {
    const diffIds = config.rootfs.diff_ids;
    if (diffIds.length !== bundle.layerPaths.length)
      throw new CaissonError(
        'InvalidParameter',
        `invalid image archive: ${bundle.layerPaths.length} layers, but the config names ${diffIds.length}`,
      );
    const chain = chainIds(diffIds);
    for (const [i, chainId] of chain.entries()) {
      this.#graph.leases.add(lease, 'layer', chainId);
      if (this.#graph.layers.get(chainId) !== undefined) continue;
      const diffId = diffIds[i] as string;
      const layer = await this.#take(bundle.layerPaths[i] as string, diffId, archive, unpacked);
      const { digest, sizeBytes } = layer.applied;
      const described = bundle.layers[i];
      const blob = described && { digest, sizeBytes, mediaType: described.mediaType };
      await this.#unpacker.commit(layer, { chainId, parent: chain[i - 1] ?? null, blob: blob ?? null });
      emit({ status: 'Loading layer', progressDetail: { current: sizeBytes, total: sizeBytes }, id: shortId(diffId) });
    }
    return chain;
  }

  async #take(path: string, diffId: string, archive: ArchiveReader<Unpacked>, unpacked: Unpacked[]): Promise<Unpacked> {
    const layer = archive.layers.get(followLinks(path, archive.links));
    if (layer === undefined)
      throw new CaissonError('InvalidParameter', `invalid image archive: the layer ${path} is missing`);
    if (layer.applied.diffId !== diffId)
      throw new CaissonError(
        'DataLoss',
        `invalid image archive: the layer ${path} is ${layer.applied.diffId}, but the config names ${diffId}`,
      );
    const at = unpacked.indexOf(layer);
    if (at >= 0) {
      unpacked.splice(at, 1);
      return layer;
    }
    if (diffId !== EMPTY_DIFF_ID)
      throw new CaissonError(
        'NotImplemented',
        `the layer ${diffId} stands on different layers in this archive, which load does not support`,
        { hint: 'push the image to a registry and pull it from there' },
      );
    return this.#unpacker.unpack(onlyChunk(EMPTY_TAR), { diffId }, new AbortController().signal);
  }

  #write({ bundle, checked, chain }: LoadedImage): void {
    const { images, layers, events } = this.#graph;
    const now = Date.now();
    images.insert({
      image: {
        id: checked.id,
        config: checked.text,
        manifestDigest: bundle.manifestDigest,
        sizeBytes: chain.reduce((sum, chainId) => sum + (layers.get(chainId)?.sizeBytes ?? 0), 0),
        parent: null,
        createdMs: now,
        taggedMs: null,
      },
      layers: chain,
      blobs: [],
    });
    for (const name of bundle.names) images.setReference(referenceRow(parseReference(name), checked.id), now);
    events.append({ type: 'image', action: 'load', actorId: checked.id, attributes: { name: checked.id } });
  }
}

function followLinks(path: string, links: ReadonlyMap<string, string>): string {
  let at = path;
  for (let i = 0; i < 8; i++) at = links.get(at) ?? at;
  return at;
}

async function* onlyChunk(chunk: Uint8Array): AsyncGenerator<Uint8Array> {
  yield chunk;
}
