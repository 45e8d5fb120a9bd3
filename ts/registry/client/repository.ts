/** One repository of one registry: manifests, configs and blobs of it. */

import { checkDigest, isDigest } from '../../digest.ts';
import { CaissonError, isKind } from '../../errdefs.ts';
import { type Descriptor, type ImageManifest, MEDIA_TYPES, type Platform } from '../../oci.ts';
import { familiarString, type Reference, withDefaultTag } from '../../reference.ts';
import { MAX_MANIFEST_BYTES } from '../json.ts';
import type { Authenticator, Credentials } from './auth.ts';
import { type BlobOptions, readBlob } from './blob.ts';
import { readSmall } from './body.ts';
import { ACCEPT, type Decoded, type Document, decode, digestLike } from './documents.ts';
import type { Endpoint, Endpoints } from './endpoints.ts';
import { answerError, corrupt, MAX_ERROR_BYTES } from './errors.ts';
import { choosePlatform, platformString } from './platform.ts';
import { retrying } from './retry.ts';
import type { RegistrySettings, RegistryTiming } from './settings.ts';
import { type Answer, discard, header, type Transport } from './transport.ts';

const MAX_CONFIG_BYTES = 8 << 20;
/** Documents from a tag to its image. */
const MAX_NESTED = 8;
/** Pages of a list of tags; registries put a hundred or more on each. */
const MAX_PAGES = 1000;

export interface ResolvedImage {
  /** What the name stands for: the index, or the manifest when there is none. The digest of `name@digest`. */
  digest: string;
  /** The index, if there is one (and those in it), then the manifest: the exact bytes. */
  documents: Document[];
  manifest: ImageManifest;
  manifestDigest: string;
  /** As the index says; undefined without index (then the config says it). */
  platform: Platform | undefined;
}

export interface ResolveOptions {
  /** Of an index, the manifest of this platform is taken. */
  platform: Platform;
  signal: AbortSignal;
}

export interface RepositoryParts {
  transport: Transport;
  endpoints: Endpoints;
  auth: Authenticator;
  timing: RegistryTiming;
  settings: () => RegistrySettings;
}

type Fetched = Document & { decoded: Decoded };

export class Repository {
  readonly reference: Reference;
  readonly #credentials: Credentials;
  readonly #parts: RepositoryParts;
  /** The one that served the manifest serves the rest. */
  #endpoint: Endpoint | undefined;

  constructor(reference: Reference, credentials: Credentials, parts: RepositoryParts) {
    this.reference = withDefaultTag(reference);
    if (reference.digest !== undefined) checkDigest(reference.digest);
    this.#credentials = credentials;
    this.#parts = parts;
  }

  /**
   * The manifest that the reference names for a platform. Kind NotFound (`manifest for X not found: …`, `pull access
   * denied for X, …`, `no matching manifest for linux/arm64 …`), Unauthorized, DataLoss (digests differ), Unavailable.
   */
  async resolve({ platform, signal }: ResolveOptions): Promise<ResolvedImage> {
    const { digest, tag = 'latest' } = this.reference;
    const documents: Fetched[] = [];
    let chosen: Descriptor | undefined;
    while (documents.length < MAX_NESTED) {
      // Its digest is checked; the size in an index is not: dockerd takes indexes that have it wrong, and so there are some.
      const name = chosen?.digest ?? digest ?? tag;
      const fetched = await this.#eachEndpoint(signal, (endpoint) => this.#manifest(endpoint, name, signal));
      documents.push(fetched);
      const { decoded } = fetched;
      if (decoded.kind === 'manifest')
        return {
          digest: (documents[0] as Fetched).digest,
          documents,
          manifest: decoded.manifest,
          manifestDigest: fetched.digest,
          platform: chosen?.platform,
        };
      chosen = choosePlatform(decoded.index.manifests, platform);
      if (chosen === undefined)
        throw new CaissonError(
          'NotFound',
          `no matching manifest for ${platformString(platform)} in the manifest list entries: ${this.#offered(decoded)}`,
          { code: 'PLATFORM_NOT_FOUND', hint: 'choose one of the platforms by --platform' },
        );
    }
    throw corrupt(`${documents[0]?.digest}: more than ${MAX_NESTED} indexes in each other`);
  }

  /** The manifest or index itself, without choosing a platform of it. */
  async describe(
    signal: AbortSignal,
  ): Promise<{ mediaType: string; digest: string; bytes: Uint8Array; decoded: Decoded }> {
    const { digest, tag = 'latest' } = this.reference;
    return this.#eachEndpoint(signal, (endpoint) => this.#manifest(endpoint, digest ?? tag, signal));
  }

  /** The config of a managed plugin. Kind InvalidParameter when the reference names something else. */
  async pluginConfig(signal: AbortSignal): Promise<Uint8Array> {
    const { digest, tag = 'latest' } = this.reference;
    const { bytes, mediaType } = await this.#eachEndpoint(signal, (endpoint) =>
      this.#document(endpoint, digest ?? tag, signal),
    );
    const decoded = decode(bytes, mediaType, 'managed plugin');
    if (decoded.kind === 'index') throw corrupt('a managed plugin is a manifest, and this is an index');
    return this.fetchConfig(decoded, signal);
  }

  /** The tags of the repository, in the registry's order. */
  async tags(signal: AbortSignal): Promise<string[]> {
    return this.#eachEndpoint(signal, async (endpoint) => {
      const found: string[] = [];
      let path: string | undefined = `/v2/${this.reference.path}/tags/list`;
      for (let page = 0; path !== undefined; page++) {
        if (page === MAX_PAGES) throw corrupt(`the list of tags of ${this.reference.path} does not end`);
        const asked: string = path;
        const { names, next } = await retrying(this.#parts.timing, signal, () =>
          this.#tagPage(endpoint, asked, signal),
        );
        found.push(...names);
        path = next;
      }
      return found;
    });
  }

  async #tagPage(
    endpoint: Endpoint,
    path: string,
    signal: AbortSignal,
  ): Promise<{ names: string[]; next: string | undefined }> {
    const { timing } = this.#parts;
    const answer = await this.#get(endpoint, path, { headers: { accept: 'application/json' }, signal });
    const bytes = await readSmall(answer, { maxBytes: MAX_MANIFEST_BYTES, timeoutMs: timing.responseMs, signal });
    const names = tagNames(bytes);
    const [, link] = /^\s*<([^>]*)>\s*;\s*rel="?next"?/.exec(header(answer, 'link') ?? '') ?? [];
    const next = link !== undefined && URL.canParse(link, answer.url) ? new URL(link, answer.url) : undefined;
    // The next page is this registry's: its credentials go along.
    if (next === undefined || next.origin !== endpoint.url.origin) return { names, next: undefined };
    const base = endpoint.url.pathname.replace(/\/+$/, '');
    return { names, next: `${next.pathname.slice(base.length)}${next.search}` };
  }

  /** The image's config: its exact bytes, of the digest and size that the manifest gives. */
  fetchConfig({ manifest }: Pick<ResolvedImage, 'manifest'>, signal: AbortSignal): Promise<Uint8Array> {
    return this.fetchDocument(manifest.config, signal);
  }

  /** A small blob as a whole, checked. */
  async fetchDocument(descriptor: Descriptor, signal: AbortSignal): Promise<Uint8Array> {
    if (descriptor.size > MAX_CONFIG_BYTES)
      throw corrupt(
        `${descriptor.digest}: ${descriptor.size} bytes are more than a config may have (${MAX_CONFIG_BYTES})`,
      );
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.fetchBlob(descriptor, { signal })) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  /**
   * The bytes of a blob, from `offset` on. A cut or stalled connection is resumed where it stopped. Ends only when exactly
   * the descriptor's size has come and (with `verify`, the default, and from offset 0) its digest is right; else it rejects
   * with kind DataLoss, naming the digest. Returning early ends the request.
   */
  fetchBlob(descriptor: Descriptor, options: BlobOptions): AsyncGenerator<Uint8Array> {
    const path = `/v2/${this.reference.path}/blobs/${checkDigest(descriptor.digest)}`;
    const attempts = this.#parts.settings().downloadAttempts;
    return readBlob(descriptor, { attempts, ...options }, this.#parts.timing, (headers) =>
      this.#eachEndpoint(options.signal, (endpoint) =>
        this.#get(endpoint, path, { headers, digestChecked: true, signal: options.signal }),
      ),
    );
  }

  /** Rejects, once and as `fetchBlob` does, where the registry does not give the blob at the moment: its first byte is asked for. */
  async probeBlob({ digest, size }: Pick<Descriptor, 'digest' | 'size'>, signal: AbortSignal): Promise<void> {
    const path = `/v2/${this.reference.path}/blobs/${checkDigest(digest)}`;
    const headers = size === 0 ? {} : { range: 'bytes=0-0' };
    discard(
      await this.#eachEndpoint(signal, (endpoint) =>
        this.#get(endpoint, path, { headers, digestChecked: true, signal }),
      ),
    );
  }

  /** The exact bytes of whatever the tag or digest names; what they mean is for the caller to find out. */
  fetchManifest(name: string, signal: AbortSignal): Promise<Document> {
    return this.#eachEndpoint(signal, (endpoint) => this.#document(endpoint, name, signal));
  }

  /** The index of what refers to a manifest: the registry's, or that under the fallback tag; undefined where there is none. */
  async referrers(digest: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const path = `/v2/${this.reference.path}/referrers/${checkDigest(digest)}`;
    const { timing } = this.#parts;
    try {
      return await this.#eachEndpoint(signal, (endpoint) =>
        retrying(timing, signal, async () => {
          const answer = await this.#get(endpoint, path, { headers: { accept: MEDIA_TYPES.ociIndex }, signal });
          return readSmall(answer, { maxBytes: MAX_MANIFEST_BYTES, timeoutMs: timing.responseMs, signal });
        }),
      );
    } catch (error) {
      if (!isKind(error, 'NotFound')) throw error;
    }
    try {
      return (await this.fetchManifest(digest.replace(':', '-'), signal)).bytes;
    } catch (error) {
      if (!isKind(error, 'NotFound')) throw error;
      return undefined;
    }
  }

  /** The digest that a tag has at the moment; undefined when the registry does not tell it without the manifest. */
  async currentDigest(tag: string, signal: AbortSignal): Promise<string | undefined> {
    const path = `/v2/${this.reference.path}/manifests/${tag}`;
    const answer = await this.#eachEndpoint(signal, (endpoint) =>
      retrying(this.#parts.timing, signal, () =>
        this.#get(endpoint, path, { headers: { accept: ACCEPT }, method: 'HEAD', signal }),
      ),
    );
    discard(answer);
    const said = header(answer, 'docker-content-digest');
    return isDigest(said) ? said : undefined;
  }

  /** Mirrors may fail in any way: the next one is asked, and what the registry itself says counts. */
  async #eachEndpoint<T>(signal: AbortSignal, ask: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const { endpoints } = this.#parts;
    const all = await endpoints.of(this.reference.domain, signal);
    const at = all.findIndex(({ url }) => url.href === this.#endpoint?.url.href);
    for (const endpoint of all.slice(Math.max(at, 0))) {
      try {
        const result = await ask(endpoint);
        this.#endpoint = endpoint;
        if (!endpoint.mirror) endpoints.speaks(endpoint);
        return result;
      } catch (error) {
        signal.throwIfAborted();
        if (endpoint.mirror) continue;
        endpoints.forget(endpoint);
        throw error;
      }
    }
    throw new CaissonError('System', `no endpoint for ${this.reference.domain}`);
  }

  /** By tag or digest. */
  async #manifest(endpoint: Endpoint, name: string, signal: AbortSignal): Promise<Fetched> {
    const document = await this.#document(endpoint, name, signal);
    const { mediaType, ...decoded } = decode(document.bytes, document.mediaType);
    return { ...document, mediaType, decoded };
  }

  /** `mediaType` is what the registry says. */
  #document(endpoint: Endpoint, name: string, signal: AbortSignal): Promise<Document> {
    const { timing } = this.#parts;
    const path = `/v2/${this.reference.path}/manifests/${name}`;
    return retrying(timing, signal, async () => {
      const answer = await this.#get(endpoint, path, { headers: { accept: ACCEPT }, signal });
      const bytes = await readSmall(answer, { maxBytes: MAX_MANIFEST_BYTES, timeoutMs: timing.responseMs, signal });
      const said = header(answer, 'docker-content-digest');
      const like = isDigest(name) ? name : isDigest(said) ? said : 'sha256:';
      const actual = digestLike(like, bytes);
      if (like !== 'sha256:' && actual !== like)
        throw corrupt(`manifest verification failed for digest ${like}: what came has ${actual}`);
      return { mediaType: header(answer, 'content-type') ?? '', digest: actual, bytes };
    });
  }

  /** An answer that is a success, with whatever authorization that takes. */
  async #get(
    endpoint: Endpoint,
    path: string,
    {
      headers,
      signal,
      digestChecked = false,
      method = 'GET',
    }: { headers: Record<string, string>; signal: AbortSignal; digestChecked?: boolean; method?: 'GET' | 'HEAD' },
  ): Promise<Answer> {
    const { transport, auth, timing } = this.#parts;
    const credentials = endpoint.mirror ? {} : this.#credentials;
    const scope = `repository:${this.reference.path}:pull`;
    const request = { registry: endpoint.url, credentials, scope, reference: this.reference, signal };
    const url = new URL(joinPath(endpoint.url.pathname, path), endpoint.url);
    const known = auth.known(endpoint.url, credentials, scope);
    let answer = await transport.exchange(url, { method, headers, authorization: known, digestChecked, signal });
    if (answer.status === 401) {
      const refusal = answer;
      // A token may have been withdrawn before its time: it is asked for again, once.
      auth.forget(endpoint.url, credentials, scope);
      const authorization = await auth.answer(refusal, request);
      if (authorization !== undefined) {
        discard(refusal);
        answer = await transport.exchange(url, { method, headers, authorization, digestChecked, signal });
      }
    }
    if (answer.status === 200 || answer.status === 206) return answer;
    if (answer.status === 401) auth.forget(endpoint.url, credentials, scope);
    const limits = { maxBytes: MAX_ERROR_BYTES, timeoutMs: timing.responseMs, signal, cut: true };
    const text = await readSmall(answer, limits).catch(() => Buffer.alloc(0));
    signal.throwIfAborted();
    throw answerError(answer, text.toString(), this.reference, timing.maxRetryAfterMs);
  }

  #offered(decoded: Decoded): string {
    if (decoded.kind !== 'index') return 'no match for platform in manifest';
    const names = decoded.index.manifests.flatMap(({ platform }) =>
      platform === undefined || platform.os === 'unknown' ? [] : [platformString(platform)],
    );
    return `${familiarString(this.reference)} is made for ${[...new Set(names)].slice(0, 20).join(', ') || 'no platform'}`;
  }
}

const joinPath = (base: string, path: string): string => `${base.replace(/\/+$/, '')}${path}`;

function tagNames(bytes: Uint8Array): string[] {
  try {
    const { tags } = JSON.parse(new TextDecoder().decode(bytes)) as { tags?: unknown };
    if (tags == null) return [];
    if (Array.isArray(tags)) return tags.filter((tag): tag is string => typeof tag === 'string' && TAG.test(tag));
  } catch {
    // falls through to the one message
  }
  throw corrupt('the registry answers with no list of tags');
}

const TAG = /^[\w][\w.-]{0,127}$/;
