/**
 * The HTTP side of a registry: node:http, a table of routes, authentication, the access log and the measures. A router
 * of a framework does not fit paths that are read from their end.
 */
import { readFileSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as SecureServer } from 'node:https';
import { closeServer } from '../../async.ts';
import { CaissonError } from '../../errdefs.ts';
import { http, https } from '../../late.ts';
import { createLogger, type Logger } from '../../log.ts';
import { Authenticator } from './auth/authenticate.ts';
import type { Action, Principal } from './auth/rights.ts';
import { giveToken } from './auth/tokenRoute.ts';
import * as blobs from './blobRoutes.ts';
import type { RegistryConfig } from './config.ts';
import { asRegistryError, errorBody, RegistryError } from './errors.ts';
import { ClientGone, dropSpareBuffers, type Exchange, send } from './exchange.ts';
import { listen } from './listen.ts';
import * as manifests from './manifestRoutes.ts';
import type { Metrics } from './metrics.ts';
import { getMirroredBlob, getMirroredManifest } from './mirrorRoutes.ts';
import { Registry } from './registry.ts';
import { Rest } from './rest.ts';
import { parseRoute, type Route } from './routes.ts';

export interface RunningRegistry {
  /** `address:port` of each listener, with the ports that were chosen. */
  addresses: string[];
  metricsAddress: string | undefined;
  registry: Registry;
  /** Reads certificate and key again. */
  reload(): void;
  close(graceMs?: number): Promise<void>;
}

/**
 * Serves a root until it is closed. Kind Conflict when another process serves it, or a port is taken. `onRest` is called
 * when nobody asks for anything any more.
 */
export async function startRegistry(
  config: RegistryConfig,
  log: Logger = createLogger(config.logLevel),
  onRest: () => void = () => undefined,
): Promise<RunningRegistry> {
  const registry = await Registry.open(config, log);
  try {
    const handler = new Handler(registry, await Authenticator.open(config), onRest);
    const servers = config.listen.map(() => createHttpServer(config, handler));
    const addresses = await Promise.all(servers.map((server, i) => listen(server, config.listen[i] as string)));
    const metricsAddress = config.metrics === '' ? undefined : await handler.serveMetrics(config.metrics);
    registry.collector.start();
    return {
      addresses,
      metricsAddress,
      registry,
      reload: () => {
        for (const server of servers)
          if ('setSecureContext' in server) (server as SecureServer).setSecureContext(tlsOf(config));
      },
      close: async (graceMs = 10_000) => {
        await Promise.all(servers.map((server) => closeServer(server, graceMs)));
        handler.close();
        await registry.close();
      },
    };
  } catch (error) {
    await registry.close();
    throw error;
  }
}

function createHttpServer(config: RegistryConfig, handler: Handler): Server | SecureServer {
  const server =
    config.tls === undefined
      ? http().createServer({ highWaterMark: 256 * 1024 })
      : https().createServer({ ...tlsOf(config), highWaterMark: 256 * 1024 });
  // A layer may take hours to come; headers still have to come within a minute.
  server.requestTimeout = 0;
  server.headersTimeout = 60_000;
  server.keepAliveTimeout = 120_000;
  server.on('request', (request: IncomingMessage, response: ServerResponse) => void handler.handle(request, response));
  return server;
}

function tlsOf({ tls }: RegistryConfig): { cert: Buffer; key: Buffer; minVersion: 'TLSv1.2' } {
  const read = (path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (error) {
      throw new CaissonError('InvalidParameter', `TLS: ${(error as Error).message}`);
    }
  };
  return { cert: read(tls?.certificate ?? ''), key: read(tls?.key ?? ''), minVersion: 'TLSv1.2' };
}

class Handler {
  readonly #registry: Registry;
  readonly #authenticator: Authenticator;
  readonly #rest: Rest;
  #metrics: Metrics | undefined;

  constructor(registry: Registry, authenticator: Authenticator, onRest: () => void) {
    this.#registry = registry;
    this.#authenticator = authenticator;
    this.#rest = new Rest(() => {
      dropSpareBuffers();
      registry.db.shrink();
      onRest();
    });
  }

  async serveMetrics(address: string): Promise<string> {
    // What nobody asks for is not loaded.
    const { Metrics } = await import('./metrics.ts');
    this.#metrics = new Metrics(this.#registry);
    return this.#metrics.serve(address);
  }

  close(): void {
    this.#rest.close();
    this.#metrics?.close();
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const began = performance.now();
    this.#rest.end();
    const seen: Seen = { route: undefined, principal: undefined, error: undefined };
    response.once('close', () => this.#finished(request, response, seen, performance.now() - began));
    response.setHeader('Docker-Distribution-Api-Version', 'registry/2.0');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    try {
      await this.#answer(request, response, seen);
    } catch (thrown) {
      if (thrown instanceof ClientGone) return;
      const error = asRegistryError(thrown);
      seen.error = error;
      if (response.headersSent) response.destroy();
      else sendError(request, response, error);
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse, seen: Seen): Promise<void> {
    const target = request.url ?? '';
    const mark = target.indexOf('?');
    const route = parseRoute(mark < 0 ? target : target.slice(0, mark));
    seen.route = route;
    const query = new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1));
    const method = request.method ?? 'GET';
    if (route === undefined)
      throw new RegistryError('UNSUPPORTED', 'this path is none of the registry API', { status: 404 });
    const exchange: Exchange = { request, response, method, query, principal: this.#authenticator.anonymous };
    if (route.kind === 'token') return giveToken(this.#authenticator, exchange);
    exchange.principal = await this.#authenticator.identify(request);
    seen.principal = exchange.principal;
    if ('name' in route && (await this.#mirrored(route, exchange))) return;
    await this.#dispatch(route, exchange);
  }

  /** True when the answer came from a repository of an upstream; else the route may now name one that is kept here. */
  async #mirrored(route: Extract<Route, { name: string }>, exchange: Exchange): Promise<boolean> {
    const { upstreams } = this.#registry;
    const target = upstreams?.match(route.name, exchange.query.get('ns'));
    if (upstreams === undefined || target === undefined) return false;
    const { method, request, principal } = exchange;
    const read = method === 'GET' || method === 'HEAD';
    if (!read && method !== 'DELETE')
      throw new RegistryError(
        'UNSUPPORTED',
        `${target.name} is pulled through from ${target.upstream.host}: push there`,
      );
    route.name = target.name;
    if (!read || (route.kind !== 'manifest' && route.kind !== 'blob')) return false;
    this.#authenticator.demand(request, principal, target.name, 'pull');
    if (route.kind === 'manifest')
      await getMirroredManifest(this.#registry, upstreams, exchange, target, route.reference);
    else await getMirroredBlob(this.#registry, upstreams, exchange, target, route.digest);
    return true;
  }

  async #dispatch(route: Route, exchange: Exchange): Promise<void> {
    const { request, principal, method } = exchange;
    const registry = this.#registry;
    const may = (name: string, action: Action): void => this.#authenticator.demand(request, principal, name, action);
    const read = method === 'GET' || method === 'HEAD';
    switch (route.kind) {
      case 'base':
        if (read) return this.#base(exchange);
        break;
      case 'catalog':
        if (read) return this.#catalog(exchange);
        break;
      case 'tags':
        if (!read) break;
        may(route.name, 'pull');
        return manifests.listTags(registry, exchange, route.name);
      case 'referrers':
        if (!read) break;
        may(route.name, 'pull');
        return manifests.listReferrers(registry, exchange, route.name, route.digest);
      case 'manifest':
        return this.#manifest(route.name, route.reference, exchange, may);
      case 'blob':
        if (read) {
          may(route.name, 'pull');
          return blobs.getBlob(registry, exchange, route.name, route.digest);
        }
        if (method !== 'DELETE') break;
        may(route.name, 'delete');
        this.#checkDelete();
        return blobs.deleteBlob(registry, exchange, route.name, route.digest);
      case 'uploads':
        if (method !== 'POST') break;
        may(route.name, 'push');
        return blobs.postUpload(registry, exchange, route.name);
      case 'upload':
        may(route.name, 'push');
        if (read) return blobs.getUpload(registry, exchange, route.name, route.id);
        if (method === 'PATCH') return blobs.patchUpload(registry, exchange, route.name, route.id);
        if (method === 'PUT') return blobs.putUpload(registry, exchange, route.name, route.id);
        if (method === 'DELETE') return blobs.deleteUpload(registry, exchange, route.name, route.id);
        break;
      case 'token':
        break;
    }
    throw new RegistryError('UNSUPPORTED', `${method} is not supported here`);
  }

  async #manifest(
    name: string,
    reference: string,
    exchange: Exchange,
    may: (name: string, action: Action) => void,
  ): Promise<void> {
    switch (exchange.method) {
      case 'GET':
      case 'HEAD':
        may(name, 'pull');
        return manifests.getManifest(this.#registry, exchange, name, reference);
      case 'PUT':
        may(name, 'push');
        return manifests.putManifest(this.#registry, exchange, name, reference);
      case 'DELETE':
        may(name, 'delete');
        this.#checkDelete();
        return manifests.deleteManifest(this.#registry, exchange, name, reference);
      default:
        throw new RegistryError('UNSUPPORTED', `${exchange.method} is not supported here`);
    }
  }

  /** Where clients find out how to log in, so who has not is asked to even where pulling is free. */
  #base(exchange: Exchange): void {
    if (exchange.principal.name === undefined && !this.#authenticator.open)
      throw this.#authenticator.unauthorized(exchange.request, undefined, 'authentication required');
    send(exchange, 200, { 'Content-Type': 'application/json; charset=utf-8' }, '{}');
  }

  #catalog(exchange: Exchange): void {
    const { principal, request } = exchange;
    if (!principal.mayList) {
      const message = `${principal.name ?? 'an anonymous client'} may not list the repositories`;
      if (principal.name !== undefined && this.#authenticator.tokens === undefined)
        throw new RegistryError('DENIED', message);
      const error = principal.name === undefined ? undefined : 'insufficient_scope';
      throw this.#authenticator.unauthorized(request, 'registry:catalog:*', message, error);
    }
    manifests.listRepositories(this.#registry, exchange);
  }

  #checkDelete(): void {
    if (!this.#registry.config.allowDelete)
      throw new RegistryError('UNSUPPORTED', 'deleting is switched off: start the registry with --delete');
  }

  #finished(request: IncomingMessage, response: ServerResponse, seen: Seen, ms: number): void {
    const { log, config } = this.#registry;
    const status = response.headersSent ? response.statusCode : 499;
    const { socket } = request;
    const received = Number(request.headers['content-length'] ?? 0);
    const sent = Number(response.getHeader('content-length') ?? 0);
    if (seen.error?.cause !== undefined) log.error({ err: seen.error.cause, url: request.url }, 'request failed');
    if (config.accessLog)
      log.info(
        {
          method: request.method,
          url: request.url,
          status,
          ms: Math.round(ms * 10) / 10,
          received,
          sent: request.method === 'HEAD' ? 0 : sent,
          remote: socket.remoteAddress,
          ...(seen.principal?.name === undefined ? {} : { user: seen.principal.name }),
          ...(seen.error === undefined ? {} : { code: seen.error.code }),
          ...(response.writableFinished ? {} : { cut: true }),
          agent: request.headers['user-agent'],
        },
        'request',
      );
    this.#metrics?.observe({
      method: request.method ?? '',
      route: seen.route?.kind ?? 'none',
      status,
      seconds: ms / 1000,
      sentBytes: request.method === 'HEAD' ? 0 : sent,
      receivedBytes: received,
    });
  }
}

interface Seen {
  route: Route | undefined;
  principal: Principal | undefined;
  error: RegistryError | undefined;
}

function sendError(request: IncomingMessage, response: ServerResponse, error: RegistryError): void {
  const body = errorBody(error);
  response.writeHead(error.status, {
    ...error.headers,
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}
