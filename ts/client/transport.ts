/** HTTP to the engine over node's own client: JSON, streamed bodies, and connections that become byte streams. */
import {
  Agent,
  type ClientRequest,
  type IncomingMessage,
  type RequestOptions as NodeOptions,
  request,
} from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { CaissonError, type ErrorKind } from '../errdefs.ts';
import { type Address, parseAddress } from './address.ts';
import type { TlsOptions } from './tls.ts';

/** The version of Docker's API that this library speaks. */
export const API_VERSION = '1.51';

/** A list is given once for each value; false, '' and undefined are left out. */
export type Query = Record<string, string | number | boolean | readonly string[] | undefined>;

export interface RequestOptions {
  query?: Query;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it comes. */
  source?: AsyncIterable<Uint8Array>;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
}

/** A connection that has become a stream of bytes both ways. */
export interface Hijacked {
  socket: Duplex;
  contentType: string;
}

const KINDS: Record<number, ErrorKind> = {
  304: 'NotModified',
  400: 'InvalidParameter',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  499: 'Cancelled',
  501: 'NotImplemented',
  503: 'Unavailable',
};

export class Transport {
  readonly address: string;
  readonly #target: Address;
  readonly #tls: object | undefined;
  readonly #agent: Agent;

  constructor(address: string, tls?: TlsOptions) {
    this.address = address;
    this.#target = parseAddress(address, tls !== undefined);
    const isTcp = 'host' in this.#target;
    if (isTcp && (tls !== undefined || address.startsWith('https:'))) {
      const { verify = true, ...files } = tls ?? {};
      this.#tls = { ...files, rejectUnauthorized: verify };
    }
    this.#agent = this.#tls ? new TlsAgent({ keepAlive: true }) : new Agent({ keepAlive: true });
  }

  /** The answer's JSON; undefined when it has no body. */
  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.response(method, path, options);
    const text = (await wholeBody(response)).toString();
    if (text === '') return undefined as T;
    return /json/.test(response.headers['content-type'] ?? '') ? (JSON.parse(text) as T) : (text as T);
  }

  /** For calls that answer nothing. */
  async send(method: string, path: string, options: RequestOptions = {}): Promise<void> {
    const response = await this.response(method, path, options);
    for await (const _ of response);
  }

  /** An answer that is a success, its body unread; rejects with the engine's error. */
  async response(method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    const sent = this.#request(method, path, options);
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    sent.once('response', resolve);
    // Stays: an abort after the answer reaches the request as well.
    sent.on('error', (error) => reject(this.#unreachable(error, options.signal)));
    await this.#upload(sent, options);
    const response = await promise;
    if ((response.statusCode ?? 500) >= 300) throw await failure(response);
    return response;
  }

  /** Bodies of an answer, chunk by chunk; leaving the loop ends the request. */
  async *chunks(method: string, path: string, options: RequestOptions = {}): AsyncGenerator<Uint8Array> {
    const response = await this.response(method, path, options);
    yield* readBody(response, options.signal);
  }

  /** Turns the connection into a stream (`Upgrade: tcp`). */
  async hijack(path: string, options: RequestOptions = {}): Promise<Hijacked> {
    const headers = { connection: 'Upgrade', upgrade: 'tcp', ...options.headers };
    const sent = this.#request('POST', path, { ...options, headers }, true);
    const { promise, resolve, reject } = Promise.withResolvers<Hijacked>();
    sent.once('upgrade', (response, socket, head) => {
      if (head.length > 0) socket.unshift(head);
      resolve({ socket, contentType: response.headers['content-type'] ?? '' });
    });
    sent.once('response', (response) => failure(response).then(reject, reject));
    sent.on('error', (error) => reject(this.#unreachable(error, options.signal)));
    await this.#upload(sent, options);
    return promise;
  }

  /** Ends idle connections. */
  close(): void {
    this.#agent.destroy();
  }

  #request(method: string, path: string, options: RequestOptions, ownConnection = false): ClientRequest {
    options.signal?.throwIfAborted();
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(options.query ?? {}))
      if (typeof value === 'object') for (const one of value) query.append(key, one);
      else if (value !== undefined && value !== false && value !== '')
        query.set(key, value === true ? '1' : String(value));
    const search = query.size > 0 ? `?${query}` : '';
    const send = this.#tls ? tlsRequest : request;
    const target: NodeOptions = {
      ...this.#target,
      ...this.#tls,
      method,
      path: `/v${API_VERSION}${path}${search}`,
      agent: ownConnection ? false : this.#agent,
      headers: { host: 'host' in this.#target ? this.#target.host : 'caisson', ...options.headers },
      ...(options.signal && { signal: options.signal }),
    };
    return send(target);
  }

  async #upload(sent: ClientRequest, { body, source, signal }: RequestOptions): Promise<void> {
    if (source !== undefined) {
      for await (const chunk of source) {
        signal?.throwIfAborted();
        // A refusal comes while we still send: the rest would go nowhere.
        if (sent.destroyed || sent.writableEnded) return;
        if (!sent.write(chunk))
          await new Promise<void>((resolve) => {
            const done = (): void => {
              sent.off('drain', done).off('close', done);
              resolve();
            };
            sent.on('drain', done).on('close', done);
          });
      }
      sent.end();
    } else if (body === undefined) sent.end();
    else {
      const text = JSON.stringify(body);
      sent.setHeader('content-type', 'application/json');
      sent.setHeader('content-length', Buffer.byteLength(text));
      sent.end(text);
    }
  }

  #unreachable(error: Error, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason;
    const code = 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ECONNREFUSED')
      return new CaissonError(
        'Unavailable',
        `Cannot connect to the caisson daemon at ${this.address}. Is it running?`,
        {
          code: 'DAEMON_UNREACHABLE',
          hint: process.getuid?.() === 0 ? 'start it: caisson daemon' : 'start it as root: sudo caisson daemon',
          cause: error,
        },
      );
    if (typeof code === 'string' && (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code) || code.startsWith('ERR_TLS')))
      return new CaissonError('Unauthorized', `the certificate of ${this.address} is not trusted: ${error.message}`, {
        code: 'DAEMON_CERTIFICATE',
        hint: 'put the authority that signed it into ca.pem of DOCKER_CERT_PATH, or name it by --tlscacert',
        cause: error,
      });
    if (code === 'EACCES')
      return new CaissonError(
        'Forbidden',
        `permission denied while connecting to the caisson daemon at ${this.address}`,
        {
          code: 'DAEMON_FORBIDDEN',
          hint: 'run as root, or as a member of the group that owns the socket',
          cause: error,
        },
      );
    return new CaissonError('Unavailable', `the connection to the daemon at ${this.address} broke: ${error.message}`, {
      code: 'DAEMON_CONNECTION',
      cause: error,
    });
  }
}

export async function wholeBody(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The engine's error, from its answer. */
async function failure(response: IncomingMessage): Promise<CaissonError> {
  const status = response.statusCode ?? 500;
  const text = (await wholeBody(response)).toString();
  const kind = KINDS[status] ?? 'System';
  try {
    const { message, code, hint, path } = JSON.parse(text) as Record<string, unknown>;
    if (typeof message === 'string')
      return new CaissonError(kind, message, {
        ...(typeof code === 'string' && { code }),
        ...(typeof hint === 'string' && { hint }),
        ...(typeof path === 'string' && { path }),
      });
  } catch {
    // no JSON: the text itself is the message
  }
  return new CaissonError(kind, text.trim() || `the daemon answered ${status}`);
}

export async function* readBody(response: IncomingMessage, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    signal?.throwIfAborted();
    throw new CaissonError('Unavailable', `the daemon's answer broke off: ${(error as Error).message}`, {
      code: 'DAEMON_CONNECTION',
      cause: error,
    });
  } finally {
    response.destroy();
  }
}
