/** One API request as its handler sees it: version, parameters, body, and the ways to answer beside returning a value. */
import type { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { asCaissonError } from '../../errdefs.ts';
import type { Logger } from '../../log.ts';
import type { Native } from '../native/index.ts';
import { errorBody } from './errors.ts';
import { frontOf } from './front.ts';
import type { HeldResponse } from './heldResponse.ts';
import { type HijackedConnection, takeConnection } from './hijack.ts';
import { compareVersions } from './normalise.ts';
import { Query } from './query.ts';

/** What a call needs of the daemon. */
export interface CallContext {
  native: Pick<Native, 'dupFd' | 'socketPair'>;
  log: Logger;
  /** Aborted when the daemon is about to end. */
  ending: AbortSignal;
}

export class Call<Body = unknown> {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly query: Query;
  /** The checked body; for `body: 'stream'` undefined, see `stream`. */
  readonly body: Body;
  readonly #context: CallContext;
  #signal: AbortSignal | undefined;
  #taken = false;

  constructor(request: FastifyRequest, reply: FastifyReply, body: Body, context: CallContext) {
    this.request = request;
    this.reply = reply;
    this.query = new Query(request.raw.url ?? '');
    this.body = body;
    this.#context = context;
  }

  /** The version asked for is this one or newer. */
  atLeast(version: string): boolean {
    return compareVersions(frontOf(this.request.raw).version, version) >= 0;
  }

  /** A path parameter, decoded. An `id` in two segments is the name of a link. */
  param(name: string): string {
    const { [name]: value, owner, alias } = this.request.params as Record<string, string | undefined>;
    return value ?? (name === 'id' && alias !== undefined ? `${owner}/${alias}` : '');
  }

  /** The first value of a header; '' when absent. */
  header(name: string): string {
    const value = this.request.headers[name.toLowerCase()];
    return (Array.isArray(value) ? value[0] : value) ?? '';
  }

  /** All values of a header that may come several times. */
  headers(name: string): string[] {
    return this.request.raw.headersDistinct[name.toLowerCase()] ?? [];
  }

  /** Status of the answer when it is not 200 (or 204 for an empty one). */
  status(code: number): this {
    this.reply.code(code);
    return this;
  }

  /** The unread body of a route with `body: 'stream'`. */
  get stream(): Readable {
    const { raw } = this.request;
    return frontOf(raw).body ?? raw;
  }

  /** The same in pieces. A reader that stops early does not end the connection: the client still has to get its answer. */
  get chunks(): AsyncIterable<Buffer> {
    return this.stream.iterator({ destroyOnReturn: false });
  }

  /** The client asked for an upgrade. */
  get wantsUpgrade(): boolean {
    return frontOf(this.request.raw).upgrade !== undefined;
  }

  /** Aborted when the client has gone before its answer was complete (not by a hijack), or when the daemon is ending. */
  get signal(): AbortSignal {
    if (this.#signal === undefined) {
      const gone = new AbortController();
      this.reply.raw.once('close', () => {
        if (!this.reply.raw.writableFinished && !this.#taken) gone.abort();
      });
      this.#signal = AbortSignal.any([gone.signal, this.#context.ending]);
    }
    return this.#signal;
  }

  /** Takes the connection for good; afterwards the handler's returned value and errors go nowhere. */
  hijack(): HijackedConnection {
    this.#taken = true;
    const connection = takeConnection(this.request.raw, this.#context.native);
    this.reply.hijack();
    (this.reply.raw as HeldResponse).givenAway();
    return connection;
  }

  get hijacked(): boolean {
    return this.#taken;
  }

  /** A body of bytes; its head is sent with the first ones, so an error before that keeps its status. */
  bytes(contentType: string): ByteBody {
    return new ByteBody(this.reply, contentType);
  }

  /** A stream of JSON lines; its head is sent with the first line, so an error before that keeps its status. */
  lines(): JsonLines {
    return new JsonLines(this.reply, this.#context.log);
  }
}

/** Bytes as they come; an error behind the head breaks the answer off. */
export class ByteBody {
  readonly #reply: FastifyReply;
  readonly #contentType: string;

  constructor(reply: FastifyReply, contentType: string) {
    this.#reply = reply;
    this.#contentType = contentType;
  }

  /** Resolves when there is room for more, or when the client has gone. */
  async write(bytes: Uint8Array): Promise<void> {
    const { raw } = this.#reply;
    if (!this.#reply.sent) {
      this.#reply.hijack();
      raw.writeHead(200, { 'Content-Type': this.#contentType });
    }
    if (!raw.write(bytes)) await drained(raw);
  }

  end(): void {
    this.#reply.raw.end();
  }
}

/** Also resolves when the connection has gone. */
function drained(raw: FastifyReply['raw']): Promise<void> {
  if (!raw.writableNeedDrain || raw.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      raw.off('drain', done).off('close', done);
      resolve();
    };
    raw.on('drain', done).on('close', done);
  });
}

/** Newline-ended JSON objects, each sent at once. */
export class JsonLines {
  readonly #reply: FastifyReply;
  readonly #log: Logger;

  constructor(reply: FastifyReply, log: Logger) {
    this.#reply = reply;
    this.#log = log;
  }

  get started(): boolean {
    return this.#reply.sent;
  }

  /** Sends the head now, for a stream that may have nothing to say for long. */
  start(): void {
    if (this.started) return;
    this.#reply.hijack();
    this.#reply.raw.writeHead(200, { 'Content-Type': 'application/json' });
    this.#reply.raw.flushHeaders();
  }

  /** False: the client reads slower than we write; wait for `drained`. */
  write(value: object): boolean {
    return this.writeText(JSON.stringify(value));
  }

  writeText(json: string): boolean {
    this.start();
    return this.#reply.raw.write(`${json}\r\n`);
  }

  drained(): Promise<void> {
    return drained(this.#reply.raw);
  }

  /** An error behind a head that is already out: Docker's `errorDetail` line, whose own `code` would have to be a number. */
  fail(thrown: unknown): void {
    const error = asCaissonError(thrown);
    const { method, url } = this.#reply.request.raw;
    if (error.kind === 'System') this.#log.error({ err: error, method, url }, 'request failed');
    const { message, code, hint } = errorBody(error);
    this.write({ errorDetail: { message }, error: message, code, ...(hint === undefined ? {} : { hint }) });
    this.end();
  }

  end(): void {
    this.start();
    this.#reply.raw.end();
  }
}
