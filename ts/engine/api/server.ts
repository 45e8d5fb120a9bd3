/**
 * The HTTP side of the API: a node:http server for each listener, and one fastify behind them for the routes. Each
 * request passes the front first (headers, normalised path, version), whether it comes by `request` or by `upgrade`.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type Duplex, Readable } from 'node:stream';
import type { Server as TlsServer } from 'node:tls';
import fastify, { type FastifyInstance } from 'fastify';
import { closeServer } from '../../async.ts';
import { asCaissonError, CaissonError, httpStatus } from '../../errdefs.ts';
import type { Logger } from '../../log.ts';
import { API_VERSION, ENGINE_VERSION } from '../version.ts';
import { type Authorizer, isShown } from './authorization.ts';
import type { CallContext } from './call.ts';
import { errorBody, sendError } from './errors.ts';
import { type Front, setFront } from './front.ts';
import { HeldResponse } from './heldResponse.ts';
import { readBody } from './json.ts';
import { checkHeaders, checkHost, checkOrigin, normaliseUrl } from './normalise.ts';
import { pageNotFound, Router, sendJson } from './router.ts';
import { isSecured, peerOf, type TlsSettings, tlsServer } from './tls.ts';

export interface ApiServer {
  router: Router;
  /** A server for one more listener. */
  newServer(): Server;
  /** TLS in front of one, which does not listen itself then. */
  secure(server: Server, settings: TlsSettings): TlsServer;
  /** Builds the routes; after this no route can be added. */
  ready(): Promise<void>;
  /** Stops listening, ends idle connections, gives requests under way that time, then cuts them. */
  close(graceMs: number): Promise<void>;
}

const HEADERS: Record<string, string> = {
  'Api-Version': API_VERSION,
  Ostype: 'linux',
  Server: `Caisson/${ENGINE_VERSION} (linux)`,
};

/** HEAD and GET /_ping, which every command of the CLI asks first; answered before any routing. */
const PING: Record<string, string> = {
  Swarm: 'inactive',
  'Cache-Control': 'no-cache, no-store, must-revalidate',
  Pragma: 'no-cache',
  'Content-Type': 'text/plain; charset=utf-8',
};

export interface ApiOptions extends CallContext {
  /** Absent: nobody has to agree. */
  authorizer?: Authorizer;
  experimental?: boolean;
  /** Whether the docker CLI is told to build with BuildKit; both builders are there in any case. */
  buildkit?: boolean;
}

export function createApiServer(options: ApiOptions): ApiServer {
  const app = createApp(options.log);
  const servers: Server[] = [];
  const fronts: { front: TlsServer; server: Server }[] = [];
  return {
    router: new Router(app, options),
    newServer: () => {
      const server = createHttpServer(app, options);
      servers.push(server);
      return server;
    },
    secure: (server, settings) => {
      const front = tlsServer(server, settings, options.native);
      fronts.push({ front, server });
      return front;
    },
    ready: async () => {
      await app.ready();
    },
    close: async (graceMs) => {
      await Promise.all([
        ...servers.map((server) => closeServer(server, graceMs)),
        ...fronts.map(({ front, server }) => closeServer(server, graceMs, front)),
      ]);
      await app.close();
    },
  };
}

function createHttpServer(app: FastifyInstance, options: ApiOptions): Server {
  const server = createServer({
    insecureHTTPParser: false,
    ServerResponse: HeldResponse,
    // a client whose machine has gone says nothing
    keepAlive: true,
    keepAliveInitialDelay: 15_000,
  });
  // A `docker load` may take hours to send its body; headers still have to come within a minute.
  server.requestTimeout = 0;
  server.headersTimeout = 60_000;
  server.keepAliveTimeout = 120_000;
  server.on('request', (request: IncomingMessage, response: HeldResponse) => {
    void accept(app, request, response, undefined, options);
  });
  server.on('upgrade', (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    const response = new HeldResponse(request);
    // Nothing more is parsed on this connection: an answer that is not a hijack ends it.
    response.shouldKeepAlive = false;
    response.assignSocket(request.socket);
    response.once('finish', () => request.socket.end());
    request.socket.on('error', () => request.socket.destroy());
    void accept(app, request, response, { stream, head }, options);
  });
  return server;
}

async function accept(
  app: FastifyInstance,
  request: IncomingMessage,
  response: HeldResponse,
  upgrade: Front['upgrade'],
  { authorizer, experimental = false, buildkit = true }: ApiOptions,
): Promise<void> {
  for (const name in HEADERS) response.setHeader(name, HEADERS[name] as string);
  response.setHeader('Docker-Experimental', String(experimental));
  try {
    checkHeaders(request.rawHeaders);
    const { remoteAddress } = request.socket;
    if (remoteAddress !== undefined || isSecured(request.socket)) checkOrigin(request.headers.origin);
    if (remoteAddress !== undefined) checkHost(request.headers.host);
    const { url, version } = normaliseUrl(request.url ?? '');
    const legacyBody = upgrade && legacyUpgradeBody(request, upgrade);
    const shown = authorizer?.active ? await authorize(authorizer, request, response, legacyBody) : undefined;
    if (url === '/_ping' && (request.method === 'GET' || request.method === 'HEAD')) {
      const body = request.method === 'GET' ? 'OK' : '';
      const builder = { 'Builder-Version': buildkit ? '2' : '1' };
      response.writeHead(200, { ...PING, ...builder, 'Content-Length': body.length }).end(body);
      return;
    }
    if (request.method === 'OPTIONS') {
      response.writeHead(200, { 'Content-Length': 0 }).end();
      return;
    }
    request.url = url;
    const body = shown ?? legacyBody;
    setFront(request, { version, ...(upgrade && { upgrade }), ...(body && { body }) });
  } catch (error) {
    sendError(response, error);
    return;
  }
  app.routing(request, response);
}

/** Returns the body again, when it was read to be shown. */
async function authorize(
  authorizer: Authorizer,
  request: IncomingMessage,
  response: HeldResponse,
  body: Readable | undefined,
): Promise<Readable | undefined> {
  const uri = request.url ?? '';
  const shown = isShown(uri, request.headers['content-type']) ? await readBody(body ?? request) : undefined;
  response.hold(await authorizer.request(request, uri, peerOf(request.socket), shown));
  return shown && Readable.from([shown]);
}

/**
 * Before nodejs/node#60016 Node ends an upgrade request at its headers: the body stands at the front of `head` and of the
 * socket. Newer ones put it on the request.
 */
function legacyUpgradeBody(request: IncomingMessage, upgrade: NonNullable<Front['upgrade']>): Readable | undefined {
  if (Number.parseInt(process.versions.node, 10) >= 24) return undefined;
  if (request.headers['transfer-encoding'] !== undefined)
    throw new CaissonError('InvalidParameter', 'an upgrade request with a chunked body needs Node 24 or newer', {
      hint: 'send Content-Length, or run the daemon on a newer Node',
    });
  const length = Number(request.headers['content-length'] ?? 0);
  if (length === 0) return undefined;
  return Readable.from(takeBytes(upgrade, length));
}

async function* takeBytes(upgrade: NonNullable<Front['upgrade']>, length: number): AsyncGenerator<Buffer> {
  let missing = length;
  while (missing > 0) {
    if (upgrade.head.length === 0) {
      const chunk = (upgrade.stream.read() as Buffer | null) ?? (await nextChunk(upgrade.stream));
      if (chunk === null) throw new CaissonError('InvalidParameter', 'the request ended before its body was complete');
      upgrade.head = chunk;
    }
    const part = upgrade.head.subarray(0, missing);
    upgrade.head = upgrade.head.subarray(part.length);
    missing -= part.length;
    yield part;
  }
}

function nextChunk(stream: Duplex): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const settle = (): void => {
      stream.off('readable', settle).off('end', settle).off('close', settle);
      resolve(stream.read() as Buffer | null);
    };
    stream.on('readable', settle).on('end', settle).on('close', settle);
  });
}

function createApp(log: Logger): FastifyInstance {
  const app = fastify({
    // Never listens: the front calls app.routing.
    serverFactory: () => createServer(),
    logger: false,
    routerOptions: { maxParamLength: 1024 },
    exposeHeadRoutes: false,
  });
  // Bodies are read by the router, which knows what each route takes.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  app.setNotFoundHandler(() => {
    throw pageNotFound();
  });
  app.setErrorHandler((thrown, request, reply) => {
    const error = isClientError(thrown) ? new CaissonError('InvalidParameter', thrown.message) : asCaissonError(thrown);
    const status = httpStatus(error);
    if (reply.raw.socket?.destroyed)
      log.debug({ err: error, method: request.method, url: request.raw.url }, 'the client has gone');
    else if (status >= 500 && error.kind === 'System')
      log.error({ err: error, method: request.method, url: request.raw.url }, 'request failed');
    if (reply.sent) return;
    if (status === 304) return reply.code(304).send();
    return sendJson(reply.code(status), errorBody(error));
  });
  return app;
}

/** fastify's own refusals, for example of a path parameter that is too long. */
const isClientError = (thrown: unknown): thrown is Error =>
  thrown instanceof Error &&
  !(thrown instanceof CaissonError) &&
  'statusCode' in thrown &&
  typeof thrown.statusCode === 'number' &&
  thrown.statusCode < 500;
