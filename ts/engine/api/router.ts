/** Declares routes: how a module of ts/engine/api/routes says which request its handler takes. */
import type { OutgoingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { CaissonError } from '../../errdefs.ts';
import { Call, type CallContext } from './call.ts';
import { frontOf } from './front.ts';
import { parseJson, readBody } from './json.ts';
import { compareVersions } from './normalise.ts';
import { bodyCheck, type Static, type TSchema } from './schema.ts';

/**
 * What a handler returns becomes the answer: an object or array JSON with 200, undefined nothing with 204 (or with the
 * status set by `call.status`). A handler that hijacks or streams returns undefined.
 */
type Handler<Body> = (call: Call<Body>) => unknown;

interface RouteBase {
  method: HTTPMethods;
  /** Without version. `:name` is one segment; a last `*` is the rest, with slashes (`call.param('*')`). */
  path: string;
  /** Older clients get 404, as from a daemon that does not have it. */
  since?: string;
}

export interface JsonRoute<T extends TSchema> extends RouteBase {
  body: T;
  /** An absent body is `{}`. */
  optionalBody?: boolean;
  handle: Handler<Static<T>>;
}

export interface PlainRoute extends RouteBase {
  /** `stream`: the handler reads `call.stream`. Absent: the body is read to its end and must be empty or is ignored. */
  body?: 'stream';
  handle: Handler<undefined>;
}

/** Until a handler sets another status: an answer without a body. */
const EMPTY = 204;

export class Router {
  readonly #app: FastifyInstance;
  readonly #context: CallContext;

  constructor(app: FastifyInstance, context: CallContext) {
    this.#app = app;
    this.#context = context;
  }

  /** A route whose body is JSON. */
  json<T extends TSchema>(route: JsonRoute<T>): void {
    const check = bodyCheck(route.body);
    this.#add(route, async (request, reply) => {
      const body = check(await jsonBody(request, route.optionalBody === true));
      return route.handle(new Call(request, reply, body, this.#context));
    });
  }

  /** A route without a body, or with one that its handler streams. */
  plain(route: PlainRoute): void {
    this.#add(route, async (request, reply) => {
      if (route.body === undefined && hasBody(request)) await readBody(bodyOf(request));
      const call = new Call(request, reply, undefined, this.#context);
      try {
        return await route.handle(call);
      } finally {
        // What the handler has not read: the connection can only go on behind it.
        if (route.body === 'stream' && !call.hijacked) drain(call.stream);
      }
    });
  }

  /** Behind a head that is out, or on a connection given away, an error cannot be told: the answer breaks off. */
  #failed(reply: FastifyReply, error: unknown): void {
    if (!reply.sent) throw error;
    this.#context.log.warn({ err: error, url: reply.request.raw.url }, 'answer broken off');
    reply.raw.destroy();
  }

  #add(route: RouteBase, handle: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>): void {
    for (const url of urlsOf(route.path)) this.#addAt(url, route, handle);
  }

  #addAt(
    url: string,
    route: RouteBase,
    handle: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>,
  ): void {
    this.#app.route({
      method: route.method,
      url,
      exposeHeadRoute: false,
      handler: async (request, reply) => {
        if (route.since !== undefined && compareVersions(frontOf(request.raw).version, route.since) < 0)
          throw pageNotFound();
        reply.code(EMPTY);
        const result = await handle(request, reply).catch((error: unknown) => this.#failed(reply, error));
        if (reply.sent) return reply;
        if (result === undefined) return reply.send();
        if (reply.statusCode === EMPTY) reply.code(200);
        return sendJson(reply, result);
      },
    });
  }
}

/** A container is also named by a link, `owner/alias`, whose slash clients do not encode. */
const urlsOf = (path: string): string[] =>
  /^\/containers\/:id(?:\/|$)/.test(path) ? [path, path.replace(':id', ':owner/:alias')] : [path];

/** Reads what is left and drops it. A reader that stopped early may still listen, and `resume` does nothing beside it. */
function drain(stream: Readable): void {
  stream.removeAllListeners('readable');
  setImmediate(() => stream.resume());
}

/**
 * The docker CLI takes a body for JSON only when its type is `application/json` to the letter, and fastify adds a charset
 * to every string. Of a string Node writes head and body at once.
 */
export function sendJson(reply: FastifyReply, value: unknown): FastifyReply {
  const body = `${JSON.stringify(value)}\n`;
  const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
  reply.hijack();
  reply.raw.writeHead(reply.statusCode, { ...(reply.getHeaders() as OutgoingHttpHeaders), ...headers }).end(body);
  return reply;
}

export const pageNotFound = (): CaissonError =>
  new CaissonError('NotFound', 'page not found', { code: 'PAGE_NOT_FOUND' });

const bodyOf = (request: FastifyRequest): AsyncIterable<Buffer> => frontOf(request.raw).body ?? request.raw;

const hasBody = (request: FastifyRequest): boolean =>
  request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0;

async function jsonBody(request: FastifyRequest, optional: boolean): Promise<unknown> {
  if (!hasBody(request) && optional) return {};
  const type = request.headers['content-type'];
  // first: who is refused while he still writes does not see the answer
  const bytes = await readBody(bodyOf(request));
  if (hasBody(request) && type?.split(';')[0]?.trim().toLowerCase() !== 'application/json')
    throw new CaissonError(
      'InvalidParameter',
      `unsupported Content-Type header (${type ?? ''}): must be 'application/json'`,
    );
  if (optional && bytes.length === 0) return {};
  // Go reads null as an object without fields
  return parseJson(bytes) ?? {};
}
