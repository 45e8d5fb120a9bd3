/** `docker pull`: a reference becomes an image, its layers fetched and unpacked all at once. */
import { chainIds, checkDigest } from '../../digest.ts';
import { asCaissonError, CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { Descriptor, Platform } from '../../oci.ts';
import { familiarRepository, familiarString, type Reference, repositoryOf, withDefaultTag } from '../../reference.ts';
import { type CheckedConfig, checkConfig } from './config.ts';
import type { Installer } from './install.ts';
import { referenceRow } from './names.ts';
import { type Emit, LayerProgress, shortId } from './progress.ts';
import type { Fetch, LayerUnpacker, WantedLayer } from './unpack.ts';

/** A document of a registry, verified against its digest. */
export interface RemoteDocument {
  digest: string;
  mediaType: string;
  bytes: Buffer;
}

/** What a reference stands for in a registry, for one platform. */
export interface RemoteImage {
  /** What the reference itself names: an index or a manifest. */
  digest: string;
  /** The index, if there is one, and the platform's manifest: what is kept to push the same bytes again. */
  documents: RemoteDocument[];
  manifestDigest: string;
  config: RemoteDocument;
  /** Compressed layers, the base layer first. */
  layers: Descriptor[];
  openLayer(layer: Descriptor, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
}

export interface RegistryCredentials {
  username?: string;
  password?: string;
  identityToken?: string;
  registryToken?: string;
}

/** The registry client, as pull uses it. */
export interface ImageRegistry {
  resolve(
    reference: Reference,
    options: {
      platform: Platform;
      exactPlatform: boolean;
      credentials: RegistryCredentials | undefined;
      signal: AbortSignal;
    },
  ): Promise<RemoteImage>;
}

export interface PullRequest {
  reference: Reference;
  /** As the user named it; absent: the host's. */
  platform: Platform | undefined;
  credentials: RegistryCredentials | undefined;
}

export class ImagePuller {
  readonly #graph: Graph;
  readonly #content: ContentStore;
  readonly #installer: Installer;
  readonly #unpacker: LayerUnpacker;
  readonly #registry: ImageRegistry;
  readonly #hostPlatform: Platform;

  constructor(options: {
    graph: Graph;
    content: ContentStore;
    installer: Installer;
    unpacker: LayerUnpacker;
    registry: ImageRegistry;
    hostPlatform: Platform;
  }) {
    this.#graph = options.graph;
    this.#content = options.content;
    this.#installer = options.installer;
    this.#unpacker = options.unpacker;
    this.#registry = options.registry;
    this.#hostPlatform = options.hostPlatform;
  }

  async pull(request: PullRequest, emit: Emit, signal: AbortSignal): Promise<void> {
    const reference = withDefaultTag(request.reference);
    const remote = await this.#registry.resolve(reference, {
      platform: request.platform ?? this.#hostPlatform,
      exactPlatform: request.platform !== undefined,
      credentials: request.credentials,
      signal,
    });
    const shown = familiarString(reference);
    emit({
      status: `Pulling from ${reference.path}`,
      id: reference.digest === undefined ? (reference.tag ?? '') : shown,
    });
    const checked = checkConfig(remote.config.bytes);
    checkLayers(checked, remote);
    let isNew = false;
    await this.#installer.run(
      {
        subject: shown,
        prepare: async (lease, aborted) => {
          isNew = this.#graph.images.get(checked.id) === undefined;
          await this.#layers(remote, checked, lease, emit, aborted);
          const blobs = await this.#keepDocuments(remote, lease, aborted);
          return () => this.#write(reference, remote, checked, blobs);
        },
      },
      signal,
    );
    emit({ status: `Digest: ${remote.digest}` });
    emit({ status: `Status: ${isNew ? 'Downloaded newer image' : 'Image is up to date'} for ${shown}` });
  }

  /** All layers at once. The first failure stops the others, and is the one that is told. */
  async #layers(
    remote: RemoteImage,
    { config }: CheckedConfig,
    lease: string,
    emit: Emit,
    signal: AbortSignal,
  ): Promise<void> {
    const diffIds = config.rootfs.diff_ids;
    const chain = chainIds(diffIds);
    for (const chainId of chain) this.#graph.leases.add(lease, 'layer', chainId);
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    let failure: unknown;
    let below: Promise<unknown> = Promise.resolve();
    const arrivals = chain.map((chainId, i) => {
      const descriptor = remote.layers[i] as Descriptor;
      const wanted: WantedLayer = {
        chainId,
        diffId: diffIds[i] as string,
        parent: chain[i - 1] ?? null,
        digest: descriptor.digest,
        sizeBytes: descriptor.size,
        mediaType: descriptor.mediaType,
      };
      const arrival = this.#layer(remote, descriptor, wanted, emit, below, either).catch((error: unknown) => {
        failure ??= error;
        stop.abort(error);
        throw error;
      });
      below = arrival;
      return arrival;
    });
    await Promise.allSettled(arrivals);
    if (failure !== undefined) throw signal.aborted ? signal.reason : failure;
  }

  async #layer(
    remote: RemoteImage,
    descriptor: Descriptor,
    wanted: WantedLayer,
    emit: Emit,
    below: Promise<unknown>,
    signal: AbortSignal,
  ): Promise<void> {
    const progress = new LayerProgress(emit, shortId(descriptor.digest), descriptor.size);
    const fetch: Fetch = {
      open: (aborted) => remote.openLayer(descriptor, aborted),
      onWaiting: () => progress.status('Pulling fs layer'),
      onChunk: (bytes) => progress.downloaded(bytes),
      onReceived: () => progress.received(),
    };
    const arrival = await this.#unpacker.ensure(wanted, fetch, below, signal);
    progress.status(arrival === 'present' ? 'Already exists' : 'Pull complete');
  }

  /** Manifest, index and config stay, so that a push sends the same bytes. */
  async #keepDocuments(remote: RemoteImage, lease: string, signal: AbortSignal): Promise<string[]> {
    const kept: string[] = [];
    for (const { digest, mediaType, bytes } of [...remote.documents, remote.config]) {
      this.#graph.leases.add(lease, 'blob', digest);
      if (!this.#content.has(digest))
        await this.#content.ingest(bytes, { mediaType, digest, sizeBytes: bytes.length, signal });
      kept.push(digest);
    }
    return kept;
  }

  #write(reference: Reference, remote: RemoteImage, checked: CheckedConfig, blobs: string[]): void {
    const { images, layers, events } = this.#graph;
    const chain = chainIds(checked.config.rootfs.diff_ids);
    const now = Date.now();
    images.insert({
      image: {
        id: checked.id,
        config: checked.text,
        manifestDigest: remote.manifestDigest,
        sizeBytes: chain.reduce((sum, chainId) => sum + (layers.get(chainId)?.sizeBytes ?? 0), 0),
        parent: null,
        createdMs: now,
        taggedMs: null,
      },
      layers: chain,
      blobs,
    });
    const { domain, path, tag } = reference;
    if (reference.digest === undefined && tag !== undefined)
      images.setReference(referenceRow({ domain, path, tag }, checked.id), now);
    images.setReference(referenceRow({ domain, path, digest: remote.digest }, checked.id), now);
    events.append({
      type: 'image',
      action: 'pull',
      actorId: familiarString(reference),
      attributes: { ...(checked.config.config?.Labels ?? {}), name: familiarRepository(repositoryOf(reference)) },
    });
  }
}

function checkLayers({ id, config }: CheckedConfig, remote: RemoteImage): void {
  const bad = (reason: string): CaissonError =>
    new CaissonError('InvalidParameter', `invalid image ${id}: ${reason}`, { code: 'IMAGE_INVALID' });
  if (checkDigest(remote.config.digest) !== id) throw bad(`its config has the digest ${remote.config.digest}`);
  if (remote.layers.length !== config.rootfs.diff_ids.length)
    throw bad(`the manifest has ${remote.layers.length} layers, the config ${config.rootfs.diff_ids.length}`);
  for (const { digest } of remote.layers) checkDigest(digest);
}

/** `X-Registry-Auth`: base64url of JSON. A header that cannot be read is an error, not an anonymous pull. */
export function parseCredentials(header: string): RegistryCredentials | undefined {
  if (header === '') return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
  } catch (error) {
    throw new CaissonError('InvalidParameter', `invalid X-Registry-Auth header: ${asCaissonError(error).message}`);
  }
  if (typeof value !== 'object' || value === null)
    throw new CaissonError('InvalidParameter', 'invalid X-Registry-Auth header: must be a JSON object');
  return credentialsOf(value as Record<string, unknown>);
}

/** Docker's AuthConfig: a plain login, or a token. */
export function credentialsOf(auth: Record<string, unknown>): RegistryCredentials | undefined {
  const text = (key: string): string | undefined => {
    const found = auth[key];
    return typeof found === 'string' && found !== '' ? found : undefined;
  };
  const [user, ...password] = Buffer.from(text('auth') ?? '', 'base64')
    .toString('utf8')
    .split(':');
  const found = {
    username: text('username') ?? (user || undefined),
    password: text('password') ?? (password.join(':') || undefined),
    identityToken: text('identitytoken'),
    registryToken: text('registrytoken'),
  };
  const given = Object.entries(found).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : (Object.fromEntries(given) as RegistryCredentials);
}
