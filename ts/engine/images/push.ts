/**
 * `docker push`: the layers all at once, then the config, then the manifest, so that a tag never names what is not there. An
 * index whose images are all here is given on as it came.
 * A layer blob that is not kept is fetched again when the registry lacks it; see layerBlobs.ts.
 */
import { Semaphore } from '../../async.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow, ReferenceRow } from '../../graph/images.ts';
import type { Descriptor, Platform } from '../../oci.ts';
import { familiarRepository, type Reference, repositoryOf } from '../../reference.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import type { RegistryClient } from '../../registry/client/client.ts';
import type { PushTarget } from '../../registry/client/upload.ts';
import { parseConfig } from './config.ts';
import { type HeldIndex, heldIndex } from './heldIndex.ts';
import type { Installer } from './install.ts';
import { isLayerAway, type LayerBlobs } from './layerBlobs.ts';
import { type ManifestParts, type StoredManifest, storedManifest } from './manifest.ts';
import { familiarRow, type ImageNames, referenceRow } from './names.ts';
import { requirePlatform } from './platform.ts';
import { type Emit, shortId, TransferProgress } from './progress.ts';

export interface PushRequest {
  /** Without a tag: all tags of the repository. */
  reference: Reference;
  /** Kind NotFound for an image of another one. */
  platform: Platform | undefined;
  credentials: Credentials | undefined;
}

/** What the name stands for from then on, and the manifests of it. */
interface Pushed {
  descriptor: Descriptor;
  stored: StoredManifest[];
}

interface Pushing {
  target: PushTarget;
  reference: Reference;
  credentials: Credentials | undefined;
  lease: string;
  emit: Emit;
  signal: AbortSignal;
  /** What can be fetched does not count. */
  anew?: boolean;
}

const DIGEST = /sha256:([0-9a-f]{12})[0-9a-f]{52}/g;

/** Other repositories to ask for one blob before it is sent. */
const MAX_MOUNTS = 3;

export class ImagePusher {
  readonly #graph: Graph;
  readonly #content: ContentStore;
  readonly #names: ImageNames;
  readonly #blobs: LayerBlobs;
  readonly #job: Installer;
  readonly #remote: RegistryClient;
  readonly #uploads: Semaphore;

  constructor(
    { graph, content, blobs, remote }: ManifestParts & { remote: RegistryClient },
    names: ImageNames,
    job: Installer,
    concurrency: () => number,
  ) {
    this.#graph = graph;
    this.#content = content;
    this.#blobs = blobs;
    this.#names = names;
    this.#job = job;
    this.#remote = remote;
    this.#uploads = new Semaphore(concurrency);
  }

  async push({ reference, platform, credentials }: PushRequest, emit: Emit, signal: AbortSignal): Promise<void> {
    const repository = repositoryOf(reference);
    const { domain, path } = reference;
    const rows = this.#chosen(reference);
    for (const row of rows) {
      const { image } = this.#names.resolve(row.imageId);
      if (platform !== undefined) requirePlatform(familiarRow(row), parseConfig(image.config), platform);
    }
    emit({ status: `The push refers to repository [${repository}]` });
    const target = this.#remote.target({ domain, path }, credentials);
    for (const row of rows) {
      let pushed: Descriptor | undefined;
      await this.#job.run(
        {
          subject: familiarRow(row),
          prepare: async (lease, aborted) => {
            const pushing = { target, reference, credentials, lease, emit, signal: aborted };
            const whole = await this.#pushRow(row, platform === undefined, pushing);
            pushed = whole.descriptor;
            return () => this.#write(row, whole);
          },
        },
        signal,
      );
      if (pushed === undefined) continue;
      const { digest, size } = pushed;
      emit({ status: `${row.tag}: digest: ${digest} size: ${size}` });
      emit({ progressDetail: {}, aux: { Tag: row.tag, Digest: digest, Size: size } });
    }
  }

  /** `whole`: the index that the image came with, where all its images are here. */
  async #pushRow(row: ReferenceRow, whole: boolean, pushing: Pushing): Promise<Pushed> {
    const { image } = this.#names.resolve(row.imageId);
    const tag = row.tag ?? undefined;
    const parts = { graph: this.#graph, content: this.#content };
    const index = whole ? await heldIndex(parts, image, pushing.lease) : undefined;
    const attempts = [
      async () => index && this.#pushIndex(index, tag, pushing),
      async () => this.#pushImage(image, tag, pushing),
    ];
    let away = '';
    for (const attempt of attempts)
      try {
        const pushed = await attempt();
        if (pushed !== undefined) return pushed;
      } catch (error) {
        if (!isLayerAway(error)) throw error;
        away = error.message;
      }
    // Clients take the first digest of the output for the image's.
    away = away.replaceAll(DIGEST, '$1');
    pushing.emit({ status: `${away}: layers are compressed anew, and the image's digest may be another` });
    return this.#pushImage(image, tag, { ...pushing, anew: true });
  }

  /** undefined where one of its manifests is not to be had. */
  async #pushIndex(
    { descriptor, bytes, images }: HeldIndex,
    tag: string | undefined,
    pushing: Pushing,
  ): Promise<Pushed | undefined> {
    const stored = await Promise.all(images.map((image) => this.#stored(image, pushing)));
    if (stored.some((one, i) => one.descriptor.digest !== images[i]?.manifestDigest)) return undefined;
    const { target, signal } = pushing;
    for (const one of stored) {
      await this.#pushContent(one, pushing);
      await target.putManifest(undefined, one.descriptor, one.bytes, signal);
    }
    await target.putManifest(tag, descriptor, bytes, signal);
    return { descriptor, stored };
  }

  async #pushImage(image: ImageRow, tag: string | undefined, pushing: Pushing): Promise<Pushed> {
    const stored = await this.#stored(image, pushing);
    const { descriptor, bytes } = stored;
    await this.#pushContent(stored, pushing);
    await pushing.target.putManifest(tag, descriptor, bytes, pushing.signal);
    return { descriptor, stored: [stored] };
  }

  #stored(image: ImageRow, { lease, anew = false }: Pushing): Promise<StoredManifest> {
    const parts = { graph: this.#graph, content: this.#content, blobs: this.#blobs };
    return storedManifest(parts, image, lease, { others: 'compressed', anew });
  }

  #chosen(reference: Reference): ReferenceRow[] {
    const { domain, path, tag, digest } = reference;
    if (digest !== undefined) throw new CaissonError('InvalidParameter', 'cannot push a digest reference');
    const repository = repositoryOf(reference);
    const name = familiarRepository(repository);
    if (tag !== undefined) {
      const row = this.#names.reference({ domain, path, tag });
      if (row === undefined)
        throw new CaissonError('NotFound', `An image does not exist locally with the tag: ${name}`, {
          code: 'IMAGE_NOT_FOUND',
        });
      return [row];
    }
    const rows = this.#graph.images.references().filter((row) => row.repository === repository && row.tag !== null);
    if (rows.length === 0)
      throw new CaissonError('NotFound', `An image does not exist locally with the tag: ${name}`, {
        code: 'IMAGE_NOT_FOUND',
      });
    return rows;
  }

  /** All that a manifest names: its layers at once, then its config. */
  async #pushContent({ layers, rows, config }: StoredManifest, pushing: Pushing): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([pushing.signal, stop.signal]);
    const seen = new Set<string>();
    let failure: unknown;
    const sent = layers.map((layer, i) => {
      const progress = new TransferProgress(
        pushing.emit,
        shortId(rows[i]?.diffId ?? layer.digest),
        layer.size,
        'Pushing',
      );
      progress.status('Preparing');
      // The same blob may stand at several places of an image.
      if (seen.has(layer.digest)) return Promise.resolve();
      seen.add(layer.digest);
      return this.#uploads
        .run(() => this.#pushLayer(layer, progress, { ...pushing, signal }))
        .catch((error: unknown) => {
          failure ??= error;
          stop.abort(error);
        });
    });
    await Promise.all(sent);
    if (failure !== undefined) throw pushing.signal.aborted ? pushing.signal.reason : failure;
    const { target } = pushing;
    const open = (offset: number): AsyncIterable<Uint8Array> => once(config.bytes.subarray(offset));
    const upload = { descriptor: config.descriptor, open, onProgress: () => undefined, mountFrom: [] };
    await target.push(upload, pushing.signal);
  }

  async #pushLayer(
    layer: Descriptor,
    progress: TransferProgress,
    { target, reference, credentials, lease, signal }: Pushing,
  ): Promise<void> {
    signal.throwIfAborted();
    const login = { domain: reference.domain, credentials };
    const arrival = await target.push(
      {
        descriptor: layer,
        prepare: () => this.#blobs.fetch(layer, lease, signal, login),
        // What goes on in the middle is checked by the registry alone.
        open: (offset) =>
          offset > 0 || this.#blobs.isFresh(layer.digest)
            ? this.#content.stream(layer.digest, offset)
            : this.#content.verified(layer.digest),
        onProgress: (bytes) => progress.reached(bytes),
        mountFrom: this.#elsewhere(layer.digest, reference),
      },
      signal,
    );
    if (arrival === 'present') progress.status('Layer already exists');
    else if (arrival === 'sent') progress.ended('Pushed');
    else progress.status(`Mounted from ${arrival.mountedFrom}`);
  }

  /** Repositories of the same registry that an image with this blob came from or went to. */
  #elsewhere(digest: string, { domain, path }: Reference): string[] {
    const found = new Set<string>();
    const { images } = this.#graph;
    const rows = images.withBlob(digest).flatMap((id) => images.referencesOf(id));
    // A digest is known from the registry; a tag may never have been there.
    const went = rows.filter((row) => row.digest !== null).map((row) => row.repository);
    for (const repository of [...this.#graph.layers.sources(digest), ...went]) {
      const other = repository.slice(domain.length + 1);
      if (repository === `${domain}/${other}` && other !== path) found.add(other);
      if (found.size === MAX_MOUNTS) break;
    }
    return [...found];
  }

  #write(row: ReferenceRow, { descriptor: { digest }, stored }: Pushed): void {
    const { images, layers, events } = this.#graph;
    if (images.get(row.imageId) === undefined) return;
    for (const { rows, layers: blobs } of stored)
      for (const [i, { chainId }] of rows.entries()) {
        const blob = blobs[i] as Descriptor;
        layers.cameFrom(chainId, blob.digest, row.repository);
        layers.wentAs(chainId, blob);
      }
    const [domain = '', ...path] = row.repository.split('/');
    images.setReference(referenceRow({ domain, path: path.join('/'), digest }, row.imageId), Date.now());
    const name = familiarRow(row);
    events.append({
      type: 'image',
      action: 'push',
      actorId: name,
      attributes: { name: familiarRepository(row.repository) },
    });
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
