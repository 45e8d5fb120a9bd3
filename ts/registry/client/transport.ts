/**
 * One HTTP exchange with a registry: agents, proxies, TLS, redirects. What goes to the origin that was asked for (its
 * Authorization, its client certificate) goes to no other: not to another host, port or scheme (CVE-2020-15157).
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import type { Method } from 'got';
import { CaissonError } from '../../errdefs.ts';
import { connectionError } from './errors.ts';
import { isInsecure, proxyFor, proxySettings, type RegistrySettings, type RegistryTiming } from './settings.ts';
import { hostTls } from './tls.ts';

const MAX_REDIRECTS = 10;
const USER_AGENT = 'caisson';

export interface Exchange {
  method?: Method;
  headers?: Record<string, string>;
  /** Value of Authorization, for the first origin only. */
  authorization?: string | undefined;
  form?: Record<string, string>;
  /** What is sent, made anew for each try; `content-length` is in the headers. */
  body?: () => AsyncIterable<Uint8Array>;
  /** The caller checks what comes by its digest: a redirect to plain HTTP cannot harm it. */
  digestChecked?: boolean;
  signal: AbortSignal;
}

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  /** Where it came from in the end. */
  url: URL;
  body: Readable;
}

export const header = ({ headers }: Pick<Answer, 'headers'>, name: string): string | undefined => {
  const value = headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
};

/** Not wanted: a short body is read to its end, which keeps the connection for the next request. */
export function discard(answer: Answer): void {
  if (Number(header(answer, 'content-length') ?? Number.NaN) <= 64_000) answer.body.resume();
  else answer.body.destroy();
}

export class Transport {
  readonly #settings: () => RegistrySettings;
  readonly #timing: RegistryTiming;
  readonly #agents = new Map<string, Promise<{ http: HttpAgent; https: HttpsAgent }>>();

  constructor(settings: () => RegistrySettings, timing: RegistryTiming) {
    this.#settings = settings;
    this.#timing = timing;
  }

  /** Follows redirects; rejects only when no answer came. The caller reads or destroys the body. */
  async exchange(url: URL, { method = 'GET', authorization, form, ...more }: Exchange): Promise<Answer> {
    let at = url;
    for (let redirects = 0; ; redirects++) {
      const own = at.origin === url.origin ? authorization : undefined;
      const answer = await this.#once(at, { method, authorization: own, ...(form && { form }), ...more });
      const location = header(answer, 'location');
      if (![301, 302, 303, 307, 308].includes(answer.status) || location === undefined) return answer;
      discard(answer);
      const next = URL.canParse(location, at) ? new URL(location, at) : undefined;
      if (next === undefined || !/^https?:$/.test(next.protocol))
        throw refused(`${url.host} redirects to ${JSON.stringify(location.slice(0, 200))}, which is no http URL`);
      if (redirects === MAX_REDIRECTS) throw refused(`${url.host} redirects more than ${MAX_REDIRECTS} times`);
      if (form !== undefined) throw refused(`${url.host} redirects a request with credentials`);
      if (method !== 'GET' && method !== 'HEAD' && answer.status !== 307 && answer.status !== 308)
        throw refused(`${url.host} answers ${method} with the redirect ${answer.status}`);
      if (at.protocol === 'https:' && next.protocol === 'http:' && more.digestChecked !== true)
        throw refused(`${url.host} redirects from https to http (${next.host})`);
      next.username = '';
      next.password = '';
      at = next;
    }
  }

  async #once(url: URL, { method, headers = {}, authorization, form, body, signal }: Exchange): Promise<Answer> {
    signal.throwIfAborted();
    const agent = await this.#agent(url);
    // a quarter of what the daemon loads, and of no use before the first pull
    const { default: got } = await import('got');
    const request = got.stream(url, {
      method: method ?? 'GET',
      headers: { 'user-agent': USER_AGENT, ...headers, ...(authorization && { authorization }) },
      ...(form && { form }),
      ...(method !== 'GET' && method !== 'HEAD' && !form && !body && { body: '' }),
      agent,
      followRedirect: false,
      throwHttpErrors: false,
      decompress: false,
      retry: { limit: 0 },
      timeout: {
        lookup: this.#timing.connectMs,
        connect: this.#timing.connectMs,
        secureConnect: this.#timing.connectMs,
        response: this.#timing.responseMs,
      },
      signal,
    });
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    request.once('response', (response: { statusCode: number; headers: Answer['headers'] }) =>
      resolve({ status: response.statusCode, headers: response.headers, url, body: request }),
    );
    // Stays for the life of the stream: after the answer whoever reads the body gets the error too.
    request.on('error', reject);
    const sending = body && Readable.from(body(), { objectMode: false, highWaterMark: 1 << 20 });
    sending?.on('error', (error) => request.destroy(error)).pipe(request);
    try {
      return await promise;
    } catch (error) {
      signal.throwIfAborted();
      throw connectionError(url, error);
    } finally {
      // An answer before the end of what is sent is the end of it.
      sending?.destroy();
    }
  }

  /** Connections are kept per host, so that a layer after the manifest does not shake hands again. */
  #agent(url: URL): Promise<{ http: HttpAgent; https: HttpsAgent }> {
    const settings = this.#settings();
    const proxy = proxyFor(url, proxySettings(settings.proxies));
    const insecure = isInsecure(url.host, settings.insecureRegistries);
    const key = `${url.host} ${insecure} ${proxy} ${settings.certsDir}`;
    const known = this.#agents.get(key);
    if (known !== undefined) return known;
    const made = this.#makeAgent(url, settings.certsDir, insecure, proxy);
    this.#agents.set(key, made);
    made.catch(() => this.#agents.delete(key));
    return made;
  }

  async #makeAgent(
    url: URL,
    certsDir: string,
    insecure: boolean,
    proxy: string,
  ): Promise<{ http: HttpAgent; https: HttpsAgent }> {
    const options = { keepAlive: true, timeout: 4 * this.#timing.stallMs, scheduling: 'lifo' as const };
    const http = new HttpAgent(options);
    const { context, verify } =
      url.protocol === 'https:' ? hostTls(url.host, certsDir, !insecure) : { context: undefined, verify: true };
    const secure = { ...options, rejectUnauthorized: verify, ...(context && { secureContext: context }) };
    if (proxy === '') return { http, https: new HttpsAgent(secure) };
    const { ProxyAgent } = await import('proxy-agent');
    const agent = new ProxyAgent({ ...secure, getProxyForUrl: () => proxy });
    return { http: agent, https: agent as HttpsAgent };
  }

  /** Ends idle connections. */
  async close(): Promise<void> {
    const agents = [...this.#agents.values()];
    this.#agents.clear();
    for (const made of agents) {
      const { http, https } = await made;
      http.destroy();
      https.destroy();
    }
  }
}

const refused = (message: string): CaissonError =>
  new CaissonError('System', `registry ${message}`, { code: 'REGISTRY_REDIRECT' });
