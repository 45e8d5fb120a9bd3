/** `docker pull`: a reference becomes an image, its layers fetched and unpacked all at once. */
import { chainIds } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { Descriptor, Platform } from '../../oci.ts';
import { familiarRepository, familiarString, type Reference, repositoryOf } from '../../reference.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import type { RegistryClient } from '../../registry/client/client.ts';
import type { Repository, ResolvedImage } from '../../registry/client/repository.ts';
import { type CheckedConfig, checkConfig } from './config.ts';
import type { Installer } from './install.ts';
import { referenceRow } from './names.ts';
import { type Emit, received, shortId, TransferProgress } from './progress.ts';
import { SignatureGate } from './signatures/check.ts';
import type { Fetch, LayerUnpacker, WantedLayer } from './unpack.ts';

export interface PullRequest {
  /** Without tag and digest: every tag of the repository. */
  reference: Reference;
  /** As the user named it; absent: the host's. */
  platform: Platform | undefined;
  credentials: Credentials | undefined;
}

interface Remote {
  source: Repository;
  resolved: ResolvedImage;
  checked: CheckedConfig;
}

export class ImagePuller {
  readonly #graph: Graph;
  readonly #content: ContentStore;
  readonly #installer: Installer;
  readonly #unpacker: LayerUnpacker;
  readonly #registry: RegistryClient;
  readonly #hostPlatform: Platform;
  readonly #keepLayerBlobs: boolean;
  readonly #signaturePolicy: string;

  constructor(options: {
    graph: Graph;
    content: ContentStore;
    installer: Installer;
    unpacker: LayerUnpacker;
    registry: RegistryClient;
    hostPlatform: Platform;
    keepLayerBlobs: boolean;
    /** Path of the policy; '' for none. */
    signaturePolicy: string;
  }) {
    this.#graph = options.graph;
    this.#content = options.content;
    this.#installer = options.installer;
    this.#unpacker = options.unpacker;
    this.#registry = options.registry;
    this.#hostPlatform = options.hostPlatform;
    this.#keepLayerBlobs = options.keepLayerBlobs;
    this.#signaturePolicy = options.signaturePolicy;
  }

  async pull(request: PullRequest, emit: Emit, signal: AbortSignal): Promise<void> {
    const { reference, credentials } = request;
    if (reference.tag !== undefined || reference.digest !== undefined) return this.#pull(request, emit, signal);
    const tags = await this.#registry.repository(reference, credentials).tags(signal);
    if (tags.length === 0)
      throw new CaissonError('NotFound', `repository ${familiarRepository(repositoryOf(reference))} has no tags`);
    for (const tag of tags) await this.#pull({ ...request, reference: { ...reference, tag } }, emit, signal);
  }

  async #pull(request: PullRequest, emit: Emit, signal: AbortSignal): Promise<void> {
    const { reference } = request;
    const policy = this.#signaturePolicy;
    const gate = policy === '' ? undefined : await SignatureGate.open(policy, reference);
    const source = this.#registry.repository(reference, request.credentials);
    const resolved = await source.resolve({ platform: request.platform ?? this.#hostPlatform, signal });
    const shown = familiarString(reference);
    const id = reference.digest === undefined ? (reference.tag ?? '') : shown;
    emit({ status: `Pulling from ${reference.path}`, id });
    await gate?.check(source, resolved, signal);
    const checked = checkConfig(Buffer.from(await source.fetchConfig(resolved, signal)));
    checkLayers(checked, resolved);
    checkSystem(checked, this.#hostPlatform);
    const remote: Remote = { source, resolved, checked };
    let isNew = false;
    await this.#installer.run(
      {
        subject: shown,
        prepare: async (lease, aborted) => {
          isNew = this.#graph.images.reference(referenceRow(reference, checked.id).name)?.imageId !== checked.id;
          await this.#layers(remote, lease, emit, aborted);
          const blobs = await this.#keepDocuments(remote, lease, aborted);
          return () => this.#write(reference, remote, blobs);
        },
      },
      signal,
    );
    emit({ status: `Digest: ${resolved.digest}` });
    emit({ status: `Status: ${isNew ? 'Downloaded newer image' : 'Image is up to date'} for ${shown}` });
    if (request.platform !== undefined && !fits(checked, request.platform)) {
      const has = `${checked.config.os}/${checked.config.architecture}`;
      const wants = `${request.platform.os}/${request.platform.architecture}`;
      emit({
        status: `WARNING: image with reference ${shown} was found but its platform (${has}) does not match the specified platform (${wants})`,
      });
    }
  }

  /** All layers at once. The first failure stops the others, and is the one that is told. */
  async #layers(remote: Remote, lease: string, emit: Emit, signal: AbortSignal): Promise<void> {
    const diffIds = remote.checked.config.rootfs.diff_ids;
    const chain = chainIds(diffIds);
    for (const chainId of chain) this.#graph.leases.add(lease, 'layer', chainId);
    for (const { digest } of remote.resolved.manifest.layers) this.#graph.leases.add(lease, 'blob', digest);
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    let failure: unknown;
    let below: Promise<unknown> = Promise.resolve();
    const arrivals = chain.map((chainId, i) => {
      const descriptor = remote.resolved.manifest.layers[i] as Descriptor;
      const wanted: WantedLayer = {
        chainId,
        diffId: diffIds[i] as string,
        parent: chain[i - 1] ?? null,
        digest: descriptor.digest,
        sizeBytes: descriptor.size,
        mediaType: descriptor.mediaType,
      };
      const turn = { below, lease, signal: either };
      const arrival = this.#layer(remote.source, descriptor, wanted, emit, turn).catch((error: unknown) => {
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
    source: Repository,
    descriptor: Descriptor,
    wanted: WantedLayer,
    emit: Emit,
    { below, lease, signal }: { below: Promise<unknown>; lease: string; signal: AbortSignal },
  ): Promise<void> {
    const progress = new TransferProgress(emit, shortId(descriptor.digest), descriptor.size, 'Downloading');
    const fetch: Fetch = {
      open: (aborted, offset) => this.#bytes(source, descriptor, aborted, offset),
      onWaiting: () => progress.status('Pulling fs layer'),
      onChunk: (bytes) => progress.moved(bytes),
      onReceived: () => received(progress),
    };
    const arrival = await this.#unpacker.ensure(wanted, fetch, below, lease, signal);
    this.#graph.layers.cameFrom(wanted.chainId, descriptor.digest, repositoryOf(source.reference));
    // The same layer may have come compressed otherwise: the manifest names this blob, and a push will want it.
    if (this.#keepLayerBlobs && !this.#content.has(descriptor.digest))
      await this.#content.ingest(source.fetchBlob(descriptor, { signal, verify: false }), {
        mediaType: descriptor.mediaType,
        digest: descriptor.digest,
        sizeBytes: descriptor.size,
        signal,
      });
    progress.status(arrival === 'present' ? 'Already exists' : 'Pull complete');
  }

  /** The addon checks digest and size of what it unpacks. */
  async *#bytes(
    source: Repository,
    descriptor: Descriptor,
    signal: AbortSignal,
    offset: number,
  ): AsyncGenerator<Uint8Array> {
    const row = this.#graph.blobs.get(descriptor.digest);
    // One that is there already came for another place in another image; its file may have been damaged since.
    const damage = row && (await this.#content.examine(row));
    if (damage !== undefined) await this.#content.giveUp(descriptor.digest);
    if (row !== undefined && damage === undefined) yield* this.#content.stream(descriptor.digest, offset);
    else yield* source.fetchBlob(descriptor, { signal, offset, verify: false });
  }

  /** Manifest, index and config stay, so that a push sends the same bytes; the layers' blobs when they are to be kept. */
  async #keepDocuments({ resolved, checked }: Remote, lease: string, signal: AbortSignal): Promise<string[]> {
    const kept: string[] = [];
    const config = {
      digest: checked.id,
      mediaType: resolved.manifest.config.mediaType,
      bytes: Buffer.from(checked.text),
    };
    for (const { digest, mediaType, bytes } of [...resolved.documents, config]) {
      this.#graph.leases.add(lease, 'blob', digest);
      if (!this.#content.has(digest))
        await this.#content.ingest(bytes, { mediaType, digest, sizeBytes: bytes.length, signal });
      kept.push(digest);
    }
    if (this.#keepLayerBlobs) for (const { digest } of resolved.manifest.layers) kept.push(digest);
    return kept;
  }

  #write(reference: Reference, { resolved, checked }: Remote, blobs: string[]): void {
    const { images, layers, events } = this.#graph;
    const chain = chainIds(checked.config.rootfs.diff_ids);
    const now = Date.now();
    images.insert({
      image: {
        id: checked.id,
        config: checked.text,
        manifestDigest: resolved.manifestDigest,
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
    images.setReference(referenceRow({ domain, path, digest: resolved.digest }, checked.id), now);
    events.append({
      type: 'image',
      action: 'pull',
      actorId: familiarString(reference),
      attributes: { ...(checked.config.config?.Labels ?? {}), name: familiarRepository(repositoryOf(reference)) },
    });
  }
}

function checkLayers({ id, config }: CheckedConfig, { manifest }: ResolvedImage): void {
  const bad = (reason: string): CaissonError =>
    new CaissonError('InvalidParameter', `invalid image ${id}: ${reason}`, { code: 'IMAGE_INVALID' });
  if (manifest.config.digest !== id) throw bad(`the manifest says that its config is ${manifest.config.digest}`);
  if (manifest.layers.length !== config.rootfs.diff_ids.length)
    throw bad(`the manifest has ${manifest.layers.length} layers, the config ${config.rootfs.diff_ids.length}`);
}

/** The layers of other systems cannot be unpacked here. An index may leave the system out, and a tag may name an image. */
function checkSystem({ config: { os } }: CheckedConfig, host: Platform): void {
  if (os === host.os) return;
  throw new CaissonError(
    'InvalidParameter',
    `image operating system ${JSON.stringify(os)} cannot be used on this platform: operating system is not supported`,
    { code: 'SYSTEM_UNSUPPORTED' },
  );
}

const fits = ({ config }: CheckedConfig, platform: Platform): boolean =>
  config.os === platform.os && config.architecture === platform.architecture;

/** `X-Registry-Auth`: base64url of JSON. A header that cannot be read counts for none, as with dockerd: clients send such. */
export function parseCredentials(header: string): Credentials | undefined {
  if (header === '') return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  return credentialsOf(value as Record<string, unknown>);
}

/** Docker's AuthConfig: a plain login, or a token. */
export function credentialsOf(auth: Record<string, unknown>): Credentials | undefined {
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
  return given.length === 0 ? undefined : (Object.fromEntries(given) as Credentials);
}
