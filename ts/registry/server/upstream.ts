/**
 * Repositories of other registries, served from here: `docker.io/library/alpine` by its path, or `library/alpine` with
 * `?ns=docker.io` as containerd asks. Manifests and blobs are kept as if they had been pushed here; a tag is looked up
 * upstream again, and when that cannot be reached the answer is what is known, with a warning.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Shared } from '../../async.ts';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { Credentials } from '../client/auth.ts';
import { RegistryClient } from '../client/client.ts';
import type { Repository } from '../client/repository.ts';
import type { RegistryConfig, Upstream } from './config.ts';
import { parseManifest } from './document.ts';
import { Download } from './download.ts';
import { asUpstreamError } from './errors.ts';
import type { Blobs } from './metadata/blobs.ts';
import type { Manifests } from './metadata/manifests.ts';
import type { Repositories } from './metadata/repositories.ts';
import type { Pins } from './pins.ts';
import type { BlobStorage } from './storage.ts';

export interface Mirrored {
  /** The repository here. */
  name: string;
  upstream: Upstream;
  /** The repository there. */
  path: string;
}

export interface UpstreamsOptions {
  config: RegistryConfig;
  storage: BlobStorage;
  repositories: Repositories;
  blobs: Blobs;
  manifests: Manifests;
  pins: Pins;
}

/** An upstream that did not answer is not waited for again so soon when there is something to serve. */
const DOWN_MS = 20_000;
const TIMING = { connectMs: 5000, backoffMs: 200, maxRetryAfterMs: 2000 };

export class Upstreams {
  readonly #parts: UpstreamsOptions;
  readonly #client: RegistryClient;
  readonly #credentials: Map<string, Credentials>;
  readonly #asking = new Shared<boolean>();
  readonly #downloads = new Map<string, Download>();
  readonly #checkedMs = new Map<string, number>();
  readonly #downUntilMs = new Map<string, number>();
  readonly #ending = new AbortController();

  constructor(parts: UpstreamsOptions) {
    this.#parts = parts;
    const { insecureUpstreams, upstreams, upstreamAuth } = parts.config;
    const plain = upstreams.flatMap(({ url }) => (url?.startsWith('http:') ? [new URL(url).host] : []));
    this.#client = new RegistryClient({
      settings: () => ({ insecureRegistries: [...insecureUpstreams, ...plain] }),
      timing: TIMING,
    });
    this.#credentials = upstreamAuth === '' ? new Map() : readCredentials(upstreamAuth);
  }

  /** Undefined for a repository of our own. */
  match(name: string, namespace: string | null): Mirrored | undefined {
    const { mirrorOf } = this.#parts.config;
    const slash = name.indexOf('/');
    if (namespace !== null && namespace !== '') {
      const upstream = this.#find(namespace);
      if (upstream !== undefined) return mirrored(upstream, name);
    }
    if (slash > 0) {
      const upstream = this.#find(name.slice(0, slash));
      if (upstream !== undefined) return mirrored(upstream, name.slice(slash + 1));
    }
    if (mirrorOf === '' || this.#parts.repositories.id(name) !== undefined) return undefined;
    const upstream = this.#find(mirrorOf);
    return upstream && mirrored(upstream, name);
  }

  /** Sees to it that the manifest is here. False when it may be older than what upstream has, which does not answer. */
  async manifest(target: Mirrored, reference: string): Promise<boolean> {
    const { manifests, config } = this.#parts;
    const known = manifests.head(target.name, reference)?.digest;
    if (known !== undefined) {
      manifests.touch(target.name, known, Date.now());
      if (reference.includes(':')) return true;
      const key = `${target.name} ${reference}`;
      if ((this.#checkedMs.get(key) ?? 0) + config.upstreamFreshMs > Date.now()) return true;
      if (this.#isDown(target)) return false;
    }
    return this.#asking.run(`${target.name} ${reference}`, () => this.#lookUp(target, reference, known));
  }

  /** The blob on its way here; undefined when no manifest of the repository names it. */
  blob(target: Mirrored, digest: string): Download | undefined {
    const { storage, blobs, pins } = this.#parts;
    const key = `${target.name} ${digest}`;
    const running = this.#downloads.get(key);
    if (running !== undefined) return running;
    const sizeBytes = blobs.expectedSize(target.name, digest);
    if (sizeBytes === undefined) return undefined;
    const id = randomUUID();
    const descriptor = { mediaType: '', digest, size: sizeBytes };
    const download = new Download({
      storage,
      id,
      digest,
      sizeBytes,
      source: this.#remote(target).fetchBlob(descriptor, { signal: this.#ending.signal }),
      commit: () =>
        pins.hold(digest, async () => {
          await storage.commit(id, digest);
          blobs.add(target.name, digest, sizeBytes, Date.now());
        }),
    });
    this.#downloads.set(key, download);
    download.done.catch(() => undefined).finally(() => this.#downloads.delete(key));
    return download;
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    this.#ending.abort(new CaissonError('Unavailable', 'the registry is shutting down'));
    await Promise.allSettled([...this.#downloads.values()].map(({ done }) => done));
    await this.#client.close();
  }

  async #lookUp(target: Mirrored, reference: string, known: string | undefined): Promise<boolean> {
    const { manifests } = this.#parts;
    const remote = this.#remote(target);
    const { signal } = this.#ending;
    try {
      // A HEAD costs nothing of what docker.io allows a client.
      const current = known === undefined ? undefined : await remote.currentDigest(reference, signal);
      if (current === undefined || current !== known) {
        const { bytes, mediaType } = await remote.fetchManifest(current ?? reference, signal);
        const expected = reference.includes(':') ? reference : current;
        const document = parseManifest(Buffer.from(bytes), mediaType, expected);
        const tags = reference.includes(':') ? [] : [reference];
        manifests.put(target.name, document, { tags, nowMs: Date.now(), blobsMayBeMissing: true });
      }
    } catch (error) {
      if (isKind(error, 'Unavailable')) this.#downUntilMs.set(target.upstream.host, Date.now() + DOWN_MS);
      if (isKind(error, 'Unavailable') && known !== undefined) return false;
      if (isKind(error, 'NotFound') && known !== undefined) manifests.deleteTag(target.name, reference);
      throw asUpstreamError(error, target, reference);
    }
    this.#downUntilMs.delete(target.upstream.host);
    if (!reference.includes(':')) this.#checkedMs.set(`${target.name} ${reference}`, Date.now());
    return true;
  }

  #isDown({ upstream }: Mirrored): boolean {
    return (this.#downUntilMs.get(upstream.host) ?? 0) > Date.now();
  }

  #find(host: string): Upstream | undefined {
    const { upstreams } = this.#parts.config;
    const named = upstreams.find((upstream) => upstream.host === host);
    if (named !== undefined) return named;
    const any =
      upstreams.some((upstream) => upstream.host === '*') && /[.:]/.test(host) && /^[\w.-]+(?::\d+)?$/.test(host);
    return any ? { host, url: undefined } : undefined;
  }

  #remote({ upstream, path }: Mirrored): Repository {
    const domain = upstream.url === undefined ? upstream.host : new URL(upstream.url).host;
    return this.#client.repository({ domain, path }, this.#credentials.get(upstream.host) ?? {});
  }
}

function mirrored(upstream: Upstream, path: string): Mirrored {
  // docker.io's own images have a short name
  const whole = upstream.host === 'docker.io' && !path.includes('/') ? `library/${path}` : path;
  return { name: `${upstream.host}/${whole}`, upstream, path: whole };
}

/** A docker config file: `auths` with `auth`. */
function readCredentials(path: string): Map<string, Credentials> {
  let auths: Record<string, { auth?: string }>;
  try {
    auths = (JSON.parse(readFileSync(path, 'utf8')) as { auths?: typeof auths }).auths ?? {};
  } catch (error) {
    throw new CaissonError('InvalidParameter', `upstream-auth ${path}: ${(error as Error).message}`);
  }
  return new Map(
    Object.entries(auths).flatMap(([key, { auth }]): [string, Credentials][] => {
      const [, username = '', password = ''] =
        /^([^:]*):(.*)$/s.exec(Buffer.from(auth ?? '', 'base64').toString()) ?? [];
      const host =
        key === 'https://index.docker.io/v1/' ? 'docker.io' : key.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
      return username === '' ? [] : [[host, { username, password }]];
    }),
  );
}
