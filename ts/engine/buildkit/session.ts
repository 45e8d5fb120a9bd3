/**
 * A client's session: over the connection that it opened, the daemon calls services of the client. Its files, secrets,
 * logins and its ssh agent come that way.
 */
import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { DescService } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { CaissonError } from '../../errdefs.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import { Auth } from './proto/filesync_pb.ts';
import { Secrets } from './proto/secrets_pb.ts';

const WINDOW_BYTES = 4 << 20;
/** Lists in a call's metadata are one header each; they go through fetch's headers, which would join them, in one. */
const LISTS = ['include-patterns', 'exclude-patterns', 'followpaths'];

/** For `headers` of a call. */
export const listHeader = (values: readonly string[]): string => JSON.stringify(values.map(encodeURIComponent));

type SessionManager = NonNullable<Parameters<typeof createGrpcTransport>[0]['sessionManager']>;

class Connection implements SessionManager {
  readonly authority = 'http://localhost';
  readonly #session: ClientHttp2Session;

  constructor(socket: Duplex) {
    this.#session = connect(this.authority, {
      createConnection: () => socket,
      settings: { initialWindowSize: WINDOW_BYTES },
    });
    this.#session.setLocalWindowSize(4 * WINDOW_BYTES);
    this.#session.on('error', () => undefined);
  }

  async request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: object,
  ): Promise<ClientHttp2Stream> {
    const sent: OutgoingHttpHeaders = { ...headers, ':method': method, ':path': path };
    for (const name of LISTS) {
      const list = headers[name];
      if (typeof list !== 'string') continue;
      sent[name] = JSON.parse(list);
      sent[`${name}-encoded`] = '1';
    }
    return this.#session.request(sent, options);
  }

  notifyResponseByteRead(): void {
    // the connection is watched by its socket
  }

  close(): void {
    this.#session.destroy();
  }
}

export class Session {
  readonly id: string;
  /** The same for sessions of one client with one directory. */
  readonly sharedKey: string;
  /** Aborted when the client has gone. */
  readonly ended: AbortSignal;
  readonly #transport: Transport;
  readonly #connection: Connection;
  /** In small letters: `/service/method`. */
  readonly #methods: Set<string>;

  constructor(socket: Duplex, id: string, sharedKey: string, methods: readonly string[]) {
    this.id = id;
    this.sharedKey = sharedKey;
    const ended = new AbortController();
    socket.once('close', () => ended.abort());
    this.ended = ended.signal;
    this.#methods = new Set(methods.map((method) => method.toLowerCase()));
    this.#connection = new Connection(socket);
    this.#transport = createGrpcTransport({ baseUrl: this.#connection.authority, sessionManager: this.#connection });
  }

  /** Whether the client has the method: `moby.filesync.v1.FileSync/DiffCopy`. */
  has(method: string): boolean {
    return this.#methods.has(`/${method}`.toLowerCase());
  }

  client<T extends DescService>(service: T): Client<T> {
    return createClient(service, this.#transport);
  }

  get transport(): Transport {
    return this.#transport;
  }

  async credentials(host: string): Promise<Credentials | undefined> {
    if (!this.has(`${Auth.typeName}/Credentials`)) return undefined;
    const { Username: username, Secret: secret } = await this.client(Auth).credentials({ Host: host });
    if (secret === '') return undefined;
    // a client that has an identity token alone names no user
    return username === '' ? { identityToken: secret } : { username, password: secret };
  }

  /** Undefined when the client has none of this name. */
  async secret(id: string): Promise<Uint8Array | undefined> {
    if (!this.has(`${Secrets.typeName}/GetSecret`)) return undefined;
    try {
      return (await this.client(Secrets).getSecret({ ID: id })).data;
    } catch (error) {
      if (isCode(error, Code.NotFound) || isCode(error, Code.Unimplemented)) return undefined;
      throw error;
    }
  }

  close(): void {
    this.#connection.close();
  }
}

export const isCode = (error: unknown, code: Code): boolean => error instanceof ConnectError && error.code === code;

const WAIT_MS = 5_000;

/** The sessions that are open. */
export class Sessions {
  readonly #open = new Map<string, Session>();
  readonly #opened = new EventEmitter().setMaxListeners(0);

  /** Until the connection ends. */
  add(socket: Duplex, headers: (name: string) => string[]): Session {
    const [id = randomUUID()] = headers('x-docker-expose-session-uuid');
    const [sharedKey = ''] = headers('x-docker-expose-session-sharedkey');
    const session = new Session(socket, id, sharedKey, headers('x-docker-expose-session-grpc-method'));
    this.#open.set(id, session);
    session.ended.addEventListener('abort', () => this.#open.delete(id));
    this.#opened.emit(`opened ${id}`);
    return session;
  }

  has(id: string): boolean {
    return this.#open.has(id);
  }

  /** Waits a little for one that is on its way. */
  async get(id: string): Promise<Session> {
    const there = this.#open.get(id);
    if (there !== undefined) return there;
    await once(this.#opened, `opened ${id}`, { signal: AbortSignal.timeout(WAIT_MS) }).catch(() => undefined);
    const session = this.#open.get(id);
    if (session === undefined) throw new CaissonError('NotFound', `no active session for ${id}: it is not open`);
    return session;
  }

  close(): void {
    for (const session of this.#open.values()) session.close();
  }
}
