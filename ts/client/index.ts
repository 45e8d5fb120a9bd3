/**
 * The typed library: containers, images, networks and volumes of a caisson (or Docker) engine over its socket.
 *
 *   await using engine = await Caisson.connect();
 *   await engine.images.pull('alpine:3.22');
 *   const { Id } = await engine.containers.create({ Image: 'alpine:3.22', Cmd: ['echo', 'hello'] });
 *   await engine.containers.start(Id);
 */
import type { StoreCheckLine } from '../engine/api/schemas/storeCheck.ts';
import { CaissonError } from '../errdefs.ts';
import { defaultAddress } from './address.ts';
import { Containers } from './containers.ts';
import { jsonLines } from './frames.ts';
import { Images } from './images.ts';
import { Networks } from './networks.ts';
import { encodeFilters } from './query.ts';
import { defaultTls, type TlsOptions } from './tls.ts';
import { Transport } from './transport.ts';
import type { Credentials, DiskUsage, EventMessage, Filters, SystemInfo, VersionInfo } from './types.ts';
import { Volumes } from './volumes.ts';

export type * from '../engine/api/schemas/storeCheck.ts';
export { CaissonError, type ErrorKind } from '../errdefs.ts';
export type * from './containers.ts';
export type { Frame } from './frames.ts';
export type { BuildOptions, ImagesPruned, Progress, PullOptions, Transfer } from './images.ts';
export { BuildFailed } from './images.ts';
export type { Output, Session } from './session.ts';
export type { TlsOptions } from './tls.ts';
export type * from './types.ts';

export interface ConnectOptions {
  /** `unix:///path` or `tcp://host:port`; absent: `$CAISSON_HOST`, `$DOCKER_HOST`, or this machine's engine. */
  address?: string;
  /** Of a tcp address; absent: as `$DOCKER_TLS_VERIFY` and `$DOCKER_CERT_PATH` say. */
  tls?: TlsOptions | undefined;
  signal?: AbortSignal;
}

export interface PruneCacheOptions {
  all?: boolean;
  filters?: Filters;
  signal?: AbortSignal | undefined;
}

export class Caisson implements AsyncDisposable {
  readonly containers: Containers;
  readonly images: Images;
  readonly networks: Networks;
  readonly volumes: Volumes;
  readonly #transport: Transport;

  /** Does not connect yet: the first call does. */
  constructor({ address = defaultAddress(), tls = defaultTls() }: Pick<ConnectOptions, 'address' | 'tls'> = {}) {
    this.#transport = new Transport(address, tls);
    this.containers = new Containers(this.#transport);
    this.images = new Images(this.#transport);
    this.networks = new Networks(this.#transport);
    this.volumes = new Volumes(this.#transport);
  }

  /** Rejects with code DAEMON_UNREACHABLE when no engine answers. */
  static async connect({ signal, ...options }: ConnectOptions = {}): Promise<Caisson> {
    const engine = new Caisson(options);
    await engine.ping({ signal });
    return engine;
  }

  ping({ signal }: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    return this.#transport.send('GET', '/_ping', { signal });
  }

  version({ signal }: { signal?: AbortSignal } = {}): Promise<VersionInfo> {
    return this.#transport.json('GET', '/version', { ...(signal && { signal }) });
  }

  /** Rejects with kind Unauthorized unless the registry takes the login. A token that it gives stands for the password. */
  async login(
    credentials: Credentials,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<{ identityToken?: string }> {
    const options = { body: credentials, ...(signal && { signal }) };
    const { IdentityToken } = await this.#transport.json<{ IdentityToken?: string }>('POST', '/auth', options);
    return IdentityToken ? { identityToken: IdentityToken } : {};
  }

  info({ signal }: { signal?: AbortSignal } = {}): Promise<SystemInfo> {
    return this.#transport.json('GET', '/info', { ...(signal && { signal }) });
  }

  /** What images, containers, volumes and the cache of builds take. */
  diskUsage({ signal }: { signal?: AbortSignal } = {}): Promise<DiskUsage> {
    return this.#transport.json('GET', '/system/df', { ...(signal && { signal }) });
  }

  /**
   * Compares what the store holds with what it should: one line a problem, then the summary. With `repair` it mends what
   * can be mended. Leaving the loop ends it.
   */
  async *checkStore({
    repair,
    signal,
  }: {
    repair?: boolean;
    signal?: AbortSignal;
  } = {}): AsyncGenerator<StoreCheckLine> {
    const chunks = this.#transport.chunks('POST', '/system/check', { query: { repair }, signal });
    for await (const line of jsonLines<StoreCheckLine | { error: string }>(chunks)) {
      if ('error' in line) throw new CaissonError('System', line.error);
      yield line;
    }
  }

  /** Removes what builds left behind. */
  pruneBuildCache({ all, filters, signal }: PruneCacheOptions = {}): Promise<{
    CachesDeleted: string[] | null;
    SpaceReclaimed: number;
  }> {
    return this.#transport.json('POST', '/build/prune', { query: { all, filters: encodeFilters(filters) }, signal });
  }

  /** Until `until`, or without end; leaving the loop ends it. */
  events(
    options: { since?: string; until?: string; filters?: Filters; signal?: AbortSignal } = {},
  ): AsyncGenerator<EventMessage> {
    const { since, until, filters, signal } = options;
    const query = { since, until, filters: encodeFilters(filters) };
    return jsonLines(this.#transport.chunks('GET', '/events', { query, signal }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#transport.close();
  }
}
