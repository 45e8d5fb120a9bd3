/**
 * The push side of one repository. Blobs first, then the manifest that names them:
 *
 *   has ──► mount from another repository ──► upload, resumed where it broke off ──► manifest
 *
 * Credentials go to the registry itself only: an upload that it places on another host is sent without them.
 */
import { setInterval } from 'node:timers';
import { checkDigest } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { Descriptor } from '../../oci.ts';
import type { Reference } from '../../reference.ts';
import type { Credentials } from './auth.ts';
import { readSmall } from './body.ts';
import type { Endpoint } from './endpoints.ts';
import { answerError, corrupt, MAX_ERROR_BYTES, TransientError } from './errors.ts';
import type { RepositoryParts } from './repository.ts';
import { backOff, MAX_ATTEMPTS, retrying } from './retry.ts';
import { type Answer, discard, type Exchange, header } from './transport.ts';

/** Up to here a blob goes with the request that ends its upload. */
const SMALL_BYTES = 1 << 20;
/** An attempt that sent so much has not failed: the count starts anew. */
const PROGRESS_BYTES = 64 * 1024;

export interface Upload {
  descriptor: Descriptor;
  /** The blob is neither there nor to be mounted: its bytes will be asked for. What fails here ends the push. */
  prepare?(): Promise<void>;
  /** The blob's bytes from an offset on. */
  open(offset: number): AsyncIterable<Uint8Array>;
  /** Bytes sent so far; less than before when it starts anew. */
  onProgress(bytes: number): void;
  /** Repositories of the same registry that have the blob, perhaps. */
  mountFrom: readonly string[];
}

interface Request {
  method: NonNullable<Exchange['method']>;
  headers?: Record<string, string>;
  body?: () => AsyncIterable<Uint8Array>;
  accept: readonly number[];
  /** Beside the right to push: repositories to mount from. */
  from?: string;
}

export class PushTarget {
  readonly #reference: Reference;
  readonly #credentials: Credentials;
  readonly #parts: RepositoryParts;
  #endpoint: Promise<Endpoint> | undefined;

  constructor(reference: Reference, credentials: Credentials, parts: RepositoryParts) {
    this.#reference = reference;
    this.#credentials = credentials;
    this.#parts = parts;
  }

  /** How the blob came to be there: it was, it was mounted from the repository named, or it was sent. */
  async push(upload: Upload, signal: AbortSignal): Promise<'present' | 'sent' | { mountedFrom: string }> {
    const { digest } = upload.descriptor;
    if (await this.#has(digest, signal)) return 'present';
    let begun: URL | undefined;
    for (const from of upload.mountFrom) {
      const answer = await this.#mount(digest, from, signal);
      if (answer === 'mounted') return { mountedFrom: from };
      begun = answer;
    }
    await upload.prepare?.();
    await this.#send(upload, begun, signal);
    return 'sent';
  }

  /** By the tag, or by its own digest when there is none. */
  async putManifest(
    tag: string | undefined,
    { mediaType, digest }: Descriptor,
    bytes: Buffer,
    signal: AbortSignal,
  ): Promise<void> {
    const url = await this.#url(`manifests/${tag ?? checkDigest(digest)}`, signal);
    const headers = { 'content-type': mediaType, 'content-length': String(bytes.length) };
    const answer = await retrying(this.#parts.timing, signal, () =>
      this.#ask(url, { method: 'PUT', headers, body: () => only(bytes), accept: [200, 201, 202] }, signal),
    );
    discard(answer);
    const said = header(answer, 'docker-content-digest');
    if (said !== undefined && said !== digest)
      throw corrupt(`manifest ${digest}: the registry has it under the digest ${said.slice(0, 100)}`);
  }

  async #has(digest: string, signal: AbortSignal): Promise<boolean> {
    const url = await this.#url(`blobs/${checkDigest(digest)}`, signal);
    const answer = await retrying(this.#parts.timing, signal, () =>
      this.#ask(url, { method: 'HEAD', accept: [200, 404] }, signal),
    );
    discard(answer);
    return answer.status === 200;
  }

  /** A registry that does not mount begins an upload instead. */
  async #mount(digest: string, from: string, signal: AbortSignal): Promise<'mounted' | URL> {
    const url = await this.#url('blobs/uploads/', signal);
    url.searchParams.set('mount', checkDigest(digest));
    url.searchParams.set('from', from);
    const answer = await retrying(this.#parts.timing, signal, () =>
      this.#ask(url, { method: 'POST', accept: [201, 202], from }, signal),
    );
    discard(answer);
    return answer.status === 201 ? 'mounted' : this.#location(answer);
  }

  async #begin(signal: AbortSignal): Promise<URL> {
    const url = await this.#url('blobs/uploads/', signal);
    const answer = await this.#ask(url, { method: 'POST', accept: [202] }, signal);
    discard(answer);
    return this.#location(answer);
  }

  async #send(upload: Upload, begun: URL | undefined, signal: AbortSignal): Promise<void> {
    const { timing } = this.#parts;
    const { size } = upload.descriptor;
    let place = begun;
    let at = 0;
    for (let failed = 0; ; ) {
      try {
        place ??= await this.#begin(signal);
        if (size <= SMALL_BYTES || at === size) return await this.#finish(upload, place, at, signal);
        place = await this.#patch(upload, place, at, signal);
        return await this.#finish(upload, place, size, signal);
      } catch (error) {
        signal.throwIfAborted();
        const lost = isLost(error);
        if (!lost && !(error instanceof TransientError)) throw error;
        const status = place && !lost ? await this.#status(place, size, signal) : undefined;
        place = status?.place;
        // Counted is what the registry says that it has, not what was sent.
        failed = (status?.at ?? 0) - at >= PROGRESS_BYTES ? 1 : failed + 1;
        if (failed === MAX_ATTEMPTS) throw error;
        at = status?.at ?? 0;
        upload.onProgress(at);
        await backOff(failed, error instanceof TransientError ? error : new TransientError(''), timing, signal);
      }
    }
  }

  /** Sends the bytes from `at` on. What the registry took of a failed try is asked for afterwards. */
  async #patch({ descriptor, open, onProgress }: Upload, place: URL, at: number, signal: AbortSignal): Promise<URL> {
    const { size } = descriptor;
    const answer = await this.#watched(signal, (moved, watched) =>
      this.#ask(
        place,
        {
          method: 'PATCH',
          headers: {
            'content-type': 'application/octet-stream',
            'content-length': String(size - at),
            'content-range': `${at}-${size - 1}`,
          },
          body: () =>
            counted(open(at), at, (bytes) => {
              moved();
              onProgress(bytes);
            }),
          accept: [202],
        },
        watched,
      ),
    );
    discard(answer);
    return this.#location(answer, place);
  }

  /** The request that ends the upload, with a small blob's bytes. */
  async #finish({ descriptor, open, onProgress }: Upload, place: URL, at: number, signal: AbortSignal): Promise<void> {
    const { digest, size } = descriptor;
    const url = new URL(place);
    url.searchParams.set('digest', digest);
    const left = size - at;
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(left) };
    const answer = await this.#watched(signal, (moved, watched) =>
      this.#ask(
        url,
        { method: 'PUT', headers, ...(left > 0 && { body: () => counted(open(at), at, moved) }), accept: [201, 204] },
        watched,
      ),
    );
    discard(answer);
    onProgress(size);
  }

  /** How much of an upload the registry has; undefined when it knows nothing of it. */
  async #status(place: URL, size: number, signal: AbortSignal): Promise<{ place: URL; at: number } | undefined> {
    try {
      // a line that is cut now and then may be cut here too: what has been sent is not given up for that
      const answer = await retrying(this.#parts.timing, signal, () =>
        this.#ask(place, { method: 'GET', accept: [200, 204] }, signal),
      );
      discard(answer);
      const [, end = '0'] = /^(?:bytes=)?0-(\d+)$/.exec(header(answer, 'range') ?? '') ?? [];
      // 0-0 is said of nothing and of one byte: the second is as good as nothing.
      const at = end === '0' ? 0 : Number(end) + 1;
      return at <= size && at > 0 ? { place: this.#location(answer, place), at } : undefined;
    } catch {
      signal.throwIfAborted();
      return undefined;
    }
  }

  /** Ends a request whose body the registry has stopped taking. */
  async #watched(
    signal: AbortSignal,
    send: (moved: () => void, signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    const { stallMs } = this.#parts.timing;
    const stalled = new AbortController();
    let movedMs = performance.now();
    let ended = false;
    const moved = (): void => {
      movedMs = performance.now();
    };
    const watch = setInterval(() => {
      if (!ended && performance.now() - movedMs > stallMs)
        stalled.abort(new TransientError(`the registry took nothing for ${Math.round(stallMs / 1000)} s`));
    }, stallMs / 4);
    try {
      return await send(moved, AbortSignal.any([signal, stalled.signal]));
    } finally {
      ended = true;
      clearInterval(watch);
    }
  }

  async #url(path: string, signal: AbortSignal): Promise<URL> {
    const { url } = await this.#registry(signal);
    return new URL(`${url.pathname.replace(/\/+$/, '')}/v2/${this.#reference.path}/${path}`, url);
  }

  #registry(signal: AbortSignal): Promise<Endpoint> {
    const { endpoints } = this.#parts;
    this.#endpoint ??= endpoints.of(this.#reference.domain, signal).then((all) => {
      // Mirrors take no pushes; the registry itself is the last.
      const own = all.at(-1);
      if (own === undefined) throw new CaissonError('System', `no endpoint for ${this.#reference.domain}`);
      return own;
    });
    this.#endpoint.catch(() => {
      this.#endpoint = undefined;
    });
    return this.#endpoint;
  }

  /** Where an upload goes on. */
  #location(answer: Answer, before?: URL): URL {
    const text = header(answer, 'location');
    if (text === undefined && before !== undefined) return before;
    const place = text !== undefined && URL.canParse(text, answer.url) ? new URL(text, answer.url) : undefined;
    const downgraded = answer.url.protocol === 'https:' && place?.protocol !== 'https:';
    if (place === undefined || !/^https?:$/.test(place.protocol) || downgraded)
      throw new CaissonError(
        'System',
        `registry ${answer.url.host} places an upload at ${JSON.stringify(text?.slice(0, 200) ?? '')}`,
        { code: 'REGISTRY_REDIRECT' },
      );
    place.username = '';
    place.password = '';
    return place;
  }

  async #ask(url: URL, { method, headers = {}, body, accept, from }: Request, signal: AbortSignal): Promise<Answer> {
    const { transport, auth, timing, endpoints } = this.#parts;
    const endpoint = await this.#registry(signal);
    const own = url.origin === endpoint.url.origin;
    const { path } = this.#reference;
    const scope = `repository:${path}:pull,push${from === undefined ? '' : ` repository:${from}:pull`}`;
    const credentials = this.#credentials;
    const request = { registry: endpoint.url, credentials, scope, reference: this.#reference, signal };
    const exchange = (authorization: string | undefined): Promise<Answer> =>
      transport.exchange(url, { method, headers, authorization, ...(body && { body }), signal });
    let answer = await exchange(own ? auth.known(endpoint.url, credentials, scope) : undefined);
    if (answer.status === 401 && own) {
      auth.forget(endpoint.url, credentials, scope);
      const authorization = await auth.answer(answer, request);
      if (authorization !== undefined) {
        discard(answer);
        answer = await exchange(authorization);
      }
    }
    endpoints.speaks(endpoint);
    if (accept.includes(answer.status)) return answer;
    const limits = { maxBytes: MAX_ERROR_BYTES, timeoutMs: timing.responseMs, signal, cut: true };
    const text = await readSmall(answer, limits).catch(() => Buffer.alloc(0));
    signal.throwIfAborted();
    throw answerError(answer, text.toString(), this.#reference, timing.maxRetryAfterMs, 'push');
  }
}

/** The registry has forgotten the upload, or has another idea of what came. */
const isLost = (error: unknown): boolean =>
  error instanceof CaissonError && /^(?:BLOB_UPLOAD_UNKNOWN|BLOB_UPLOAD_INVALID|RANGE_INVALID)$/.test(error.code ?? '');

async function* counted(
  source: AsyncIterable<Uint8Array>,
  at: number,
  onSent: (at: number) => void,
): AsyncGenerator<Uint8Array> {
  let sent = at;
  for await (const chunk of source) {
    yield chunk;
    sent += chunk.byteLength;
    onSent(sent);
  }
}

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
