/**
 * The registry client. Life of a pull:
 *
 *   const registry = new RegistryClient({ settings: () => … });           one a daemon: it keeps connections and tokens
 *   const source = registry.repository(reference, credentials);           one a pull
 *   const image = await source.resolve({ platform, signal });             tag or digest → manifest, checked
 *   const config = await source.fetchConfig(image, signal);               exact bytes, checked
 *   for (const layer of image.manifest.layers)
 *     for await (const chunk of source.fetchBlob(layer, { signal })) …    resumes by itself; rejects unless it is whole
 *
 * All rejections are CaissonErrors with Docker's texts, or the signal's reason within a tick of its abort.
 */
import { CaissonError } from '../../errdefs.ts';
import type { Reference } from '../../reference.ts';
import { Authenticator, type Credentials } from './auth.ts';
import { readPaced, readSmall } from './body.ts';
import { Endpoints } from './endpoints.ts';
import { answerError, fileError, MAX_ERROR_BYTES } from './errors.ts';
import { Repository, type RepositoryParts } from './repository.ts';
import { retrying } from './retry.ts';
import { type SearchHit, search } from './search.ts';
import { DEFAULT_SETTINGS, DEFAULT_TIMING, type RegistrySettings, type RegistryTiming } from './settings.ts';
import { discard, header, Transport } from './transport.ts';
import { PushTarget } from './upload.ts';

export interface RegistryClientOptions {
  /** Asked anew for each operation: the daemon's settings may be reloaded. */
  settings?: () => Partial<RegistrySettings>;
  timing?: Partial<RegistryTiming>;
}

export class RegistryClient {
  readonly #parts: RepositoryParts;

  constructor({ settings = () => ({}), timing = {} }: RegistryClientOptions = {}) {
    const current = (): RegistrySettings => ({ ...DEFAULT_SETTINGS, ...settings() });
    const times = { ...DEFAULT_TIMING, ...timing };
    const transport = new Transport(current, times);
    this.#parts = {
      transport,
      endpoints: new Endpoints(transport, current),
      auth: new Authenticator(transport, times),
      timing: times,
      settings: current,
    };
  }

  /** What the reference names, in its registry. Nothing is asked yet. */
  repository(reference: Reference, credentials: Credentials = {}): Repository {
    return new Repository(reference, credentials, this.#parts);
  }

  /** Where the reference's repository is pushed to. Nothing is asked yet. */
  target(reference: Reference, credentials: Credentials = {}): PushTarget {
    return new PushTarget(reference, credentials, this.#parts);
  }

  /** What Docker Hub, or the registry that the term begins with, finds. */
  search(term: string, options: Parameters<typeof search>[2]): Promise<SearchHit[]> {
    return search(this.#parts, term, options);
  }

  /** `docker login`: resolves when the registry of the domain takes the credentials; kind Unauthorized when not. */
  async checkAuth(domain: string, credentials: Credentials, signal: AbortSignal): Promise<void> {
    const reference = { domain, path: 'login' };
    const endpoint = (await this.#parts.endpoints.of(domain, signal)).at(-1);
    if (endpoint === undefined) return;
    const url = new URL('/v2/', endpoint.url);
    const request = { registry: endpoint.url, credentials, scope: '', reference, signal };
    // What an earlier login has brought must not vouch for this one.
    this.#parts.auth.forget(endpoint.url, credentials, '');
    await retrying(this.#parts.timing, signal, async () => {
      let answer = await this.#parts.transport.exchange(url, { signal });
      if (answer.status === 401) {
        discard(answer);
        const authorization = await this.#parts.auth.answer(answer, request);
        if (authorization !== undefined) answer = await this.#parts.transport.exchange(url, { authorization, signal });
      }
      if (answer.status === 200) {
        discard(answer);
        return;
      }
      this.#parts.auth.forget(endpoint.url, credentials, '');
      const limits = { maxBytes: MAX_ERROR_BYTES, timeoutMs: this.#parts.timing.responseMs, signal, cut: true };
      const text = await readSmall(answer, limits).catch(() => Buffer.alloc(0));
      if (answer.status === 401)
        throw new CaissonError('Unauthorized', `login attempt to ${url.href} failed with status: 401 Unauthorized`, {
          code: 'UNAUTHORIZED',
          hint: 'check the user name and the password',
        });
      throw answerError(answer, text.toString(), reference, this.#parts.timing.maxRetryAfterMs);
    });
  }

  /**
   * A file of any server, by the proxies and certificates that registries are reached by. It comes once: a connection that
   * is cut is not resumed.
   */
  async openFile(url: URL, signal: AbortSignal): Promise<{ sizeBytes: number; bytes: AsyncIterable<Uint8Array> }> {
    const answer = await this.#parts.transport.exchange(url, { signal });
    if (answer.status >= 400) {
      const limits = { maxBytes: MAX_ERROR_BYTES, timeoutMs: this.#parts.timing.responseMs, signal, cut: true };
      const text = await readSmall(answer, limits).catch(() => Buffer.alloc(0));
      throw fileError(answer, text.toString());
    }
    return {
      sizeBytes: Number(header(answer, 'content-length') ?? 0),
      bytes: readPaced(answer, this.#parts.timing.stallMs, signal),
    };
  }

  /** Ends idle connections. */
  close(): Promise<void> {
    return this.#parts.transport.close();
  }
}
