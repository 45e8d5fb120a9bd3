/**
 * `docker save`: an archive that is an OCI layout and has Docker's manifest.json beside it, as Docker writes it since 25.
 *
 *   blobs/sha256/<hex>   manifests, configs and layers, each once; layers as they were pulled, or uncompressed where their
 *                        blobs are not to be had (then the manifest is another one: layerBlobs.ts)
 *   index.json           one descriptor a name, or one for an image asked for by its id
 *   manifest.json        for `docker load`
 *   oci-layout, repositories
 */
import { Header } from 'tar';
import { CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow, ReferenceRow } from '../../graph/images.ts';
import type { LayerRow } from '../../graph/layers.ts';
import { type Descriptor, MEDIA_TYPES, type Platform } from '../../oci.ts';
import { parseReference, repositoryOf } from '../../reference.ts';
import type { Repository } from '../../registry/client/repository.ts';
import { parseConfig } from './config.ts';
import { imageEvent } from './events.ts';
import type { Installer } from './install.ts';
import { isLayerAway, type LayerBlobs } from './layerBlobs.ts';
import { type ManifestParts, type StoredManifest, storedManifest } from './manifest.ts';
import { familiarRow, type ImageNames } from './names.ts';
import { requirePlatform } from './platform.ts';
import { createdSeconds } from './views.ts';

/** Takes the archive; resolves when there is room for more. */
export type Sink = (bytes: Uint8Array) => Promise<void> | void;

interface Chosen {
  image: ImageRow;
  tags: ReferenceRow[];
}

/** Of blobs that are not here, the repositories that give them. */
type Sources = Map<string, Repository>;

interface Entry {
  path: string;
  size: number;
  /** Absent: the epoch. */
  mtime?: Date;
  bytes(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

export class ImageSaver {
  readonly #graph: Graph;
  readonly #content: ContentStore;
  readonly #blobs: LayerBlobs;
  readonly #names: ImageNames;
  readonly #job: Installer;

  constructor({ graph, content, blobs }: ManifestParts, names: ImageNames, job: Installer) {
    this.#graph = graph;
    this.#content = content;
    this.#blobs = blobs;
    this.#names = names;
    this.#job = job;
  }

  /** Rejects before the first byte when a name is not known. */
  async save(names: readonly string[], platform: Platform | undefined, sink: Sink, signal: AbortSignal): Promise<void> {
    if (names.length === 0) throw new CaissonError('InvalidParameter', 'no image is named to be saved');
    await this.#job.run(
      {
        subject: names.join(' '),
        prepare: async (lease, aborted) => {
          const images = this.#choose(names, platform);
          const stored = new Map<string, StoredManifest>();
          const sources: Sources = new Map();
          for (const { image } of images) stored.set(image.id, await this.#stored(image, sources, lease, aborted));
          for (const entry of this.#entries(images, stored, (layer, row) =>
            this.#layer(layer, row, sources, aborted),
          )) {
            aborted.throwIfAborted();
            await writeEntry(entry, sink, aborted);
          }
          await sink(Buffer.alloc(1024));
          return () => {
            for (const { image } of images) imageEvent(this.#graph, 'save', image.id);
          };
        },
      },
      signal,
    );
  }

  /** With all that it names in the content store, there to be made, or given by a repository. */
  async #stored(image: ImageRow, sources: Sources, lease: string, signal: AbortSignal): Promise<StoredManifest> {
    const parts = { graph: this.#graph, content: this.#content, blobs: this.#blobs };
    const stored = await storedManifest(parts, image, lease, { others: 'archives' });
    try {
      await this.#find(stored, sources, signal);
      return stored;
    } catch (error) {
      if (!isLayerAway(error)) throw error;
      return storedManifest(parts, image, lease, { others: 'archives', anew: true });
    }
  }

  /** Before the first byte: behind it a registry that goes away breaks the archive off. */
  async #find({ layers, rows }: StoredManifest, sources: Sources, signal: AbortSignal): Promise<void> {
    for (const [i, layer] of layers.entries()) {
      if (sources.has(layer.digest) || this.#content.has(layer.digest)) continue;
      const row = rows[i] as LayerRow;
      if (layer.digest === row.diffId && (await this.#blobs.hasRecipe(row))) continue;
      sources.set(layer.digest, await this.#blobs.find(layer, signal));
    }
  }

  #layer(layer: Descriptor, row: LayerRow, sources: Sources, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const source = sources.get(layer.digest);
    if (source !== undefined) return source.fetchBlob(layer, { signal });
    // An archive is named by its diffID; without a recipe it is a blob as well.
    return this.#content.has(layer.digest) ? this.#content.verified(layer.digest) : this.#blobs.archive(row);
  }

  /** A name without a tag stands for all tags of the repository; an id for the image without its names. */
  #choose(names: readonly string[], platform: Platform | undefined): Chosen[] {
    const chosen = new Map<string, Chosen>();
    const add = (image: ImageRow, tags: readonly ReferenceRow[]): void => {
      const known = chosen.get(image.id) ?? { image, tags: [] };
      for (const tag of tags) if (!known.tags.some(({ name }) => name === tag.name)) known.tags.push(tag);
      chosen.set(image.id, known);
    };
    for (const name of names) {
      const tags = this.#tagsOf(name);
      const found = tags.length > 0 ? tags : [this.#names.resolve(name).reference];
      for (const reference of found) {
        const { image } = this.#names.resolve(reference?.imageId ?? name);
        if (platform !== undefined) requirePlatform(name, parseConfig(image.config), platform);
        add(image, reference?.tag == null ? [] : [reference]);
      }
    }
    return [...chosen.values()];
  }

  /** Of a bare repository name, all tags. */
  #tagsOf(name: string): ReferenceRow[] {
    if (/^(sha256:)?[0-9a-f]{64}$/.test(name)) return [];
    const { tag, digest, ...reference } = parseReference(name);
    if (tag !== undefined || digest !== undefined) return [];
    const repository = repositoryOf(reference);
    return this.#graph.images.references().filter((row) => row.repository === repository && row.tag !== null);
  }

  *#entries(
    images: readonly Chosen[],
    stored: ReadonlyMap<string, StoredManifest>,
    layerBytes: (layer: Descriptor, row: LayerRow) => AsyncIterable<Uint8Array>,
  ): Generator<Entry> {
    const written = new Set<string>();
    const blobs: Entry[] = [];
    for (const { descriptor, bytes, config, layers, rows } of stored.values()) {
      // As Docker has it: what belongs to an image is as old as the image.
      const mtime = new Date(1000 * Math.max(0, createdSeconds(parseConfig(config.bytes.toString()).created)));
      const add = ({ digest, size }: Descriptor, content: Entry['bytes']): void => {
        if (written.has(digest)) return;
        written.add(digest);
        blobs.push({ path: blobPath(digest), size, mtime, bytes: content });
      };
      for (const [i, layer] of layers.entries()) add(layer, () => layerBytes(layer, rows[i] as LayerRow));
      add(config.descriptor, () => [config.bytes]);
      add(descriptor, () => [bytes]);
    }
    yield* blobs;
    const all = images.map((chosen) => ({ ...chosen, manifest: stored.get(chosen.image.id) as StoredManifest }));
    yield json('index.json', {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociIndex,
      manifests: all.flatMap(({ tags, manifest: { descriptor } }) =>
        tags.length === 0 ? [descriptor] : tags.map((tag) => ({ ...descriptor, annotations: annotations(tag) })),
      ),
    });
    yield json(
      'manifest.json',
      all.map(({ image, tags, manifest }) => ({
        Config: blobPath(image.id),
        RepoTags: tags.length === 0 ? null : tags.map(familiarRow),
        Layers: manifest.layers.map(({ digest }) => blobPath(digest)),
        ...(image.parent !== null && stored.has(image.parent) && { Parent: image.parent }),
        LayerSources: Object.fromEntries(manifest.layers.map((layer, i) => [manifest.rows[i]?.diffId, layer])),
      })),
    );
    yield json('oci-layout', { imageLayoutVersion: '1.0.0' });
    yield json('repositories', repositories(all));
  }
}

const blobPath = (digest: string): string => `blobs/${digest.replace(':', '/')}`;

function annotations({ name, tag }: ReferenceRow): Record<string, string> {
  return { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': tag ?? '' };
}

/** What Docker before 1.10 read. */
function repositories(
  images: readonly { tags: ReferenceRow[]; manifest: StoredManifest }[],
): Record<string, Record<string, string>> {
  const found: Record<string, Record<string, string>> = {};
  for (const { tags, manifest } of images)
    for (const tag of tags) {
      const name = familiarRow({ ...tag, tag: '' }).slice(0, -1);
      found[name] = { ...found[name], [tag.tag ?? '']: manifest.layers.at(-1)?.digest.slice(7) ?? '' };
    }
  return found;
}

function json(path: string, value: unknown): Entry {
  const bytes = Buffer.from(JSON.stringify(value));
  return { path, size: bytes.length, bytes: () => [bytes] };
}

const BLOCK = 512;

async function writeEntry(
  { path, size, mtime = new Date(0), bytes }: Entry,
  sink: Sink,
  signal: AbortSignal,
): Promise<void> {
  // The same images always give the same archive.
  const header = new Header({ path, mode: 0o644, uid: 0, gid: 0, size, mtime, type: 'File' });
  const block = Buffer.alloc(BLOCK);
  if (header.encode(block)) throw new CaissonError('System', `the tar entry ${path} of ${size} bytes is too large`);
  await sink(block);
  let written = 0;
  for await (const chunk of bytes()) {
    signal.throwIfAborted();
    written += chunk.length;
    await sink(chunk);
  }
  if (written !== size) throw new CaissonError('DataLoss', `${path} has ${written} bytes in the store, not ${size}`);
  const rest = (BLOCK - (size % BLOCK)) % BLOCK;
  if (rest > 0) await sink(Buffer.alloc(rest));
}
