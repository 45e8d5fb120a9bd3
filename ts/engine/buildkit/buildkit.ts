/**
 * The API of BuildKit: the services of its gRPC server, over connections that clients upgrade at `/grpc`. What they build
 * is a Dockerfile, or a graph of operations that is as simple (graph.ts). Files come from the client's session (`/session`).
 *
 *   Control.Solve ─► (gateway: LLBBridge.Solve ─► frontend or graph ─► Return) ─► exporters      Control.Status: what is told meanwhile
 */
import { createServer, type Http2Server } from 'node:http2';
import type { Socket } from 'node:net';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ConnectRouter, HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { CaissonError } from '../../errdefs.ts';
import type { Source } from '../builder/builder.ts';
import type { BuildCache, Builds } from '../builder/builds.ts';
import { anyOf } from '../builder/cacheFilter.ts';
import { BuildContext } from '../builder/context.ts';
import { imageOfFiles } from '../builder/steps.ts';
import type { Engine } from '../engine.ts';
import type { UsableImage } from '../images/names.ts';
import { ClientFiles, type ClientFilesParts } from './clientFiles.ts';
import { contentOf } from './content.ts';
import { FrontendError, told } from './errors.ts';
import { exportImage } from './exporters.ts';
import { Frontend, isOwnSyntax } from './frontend.ts';
import { type Asked, gatewayOf } from './gateway.ts';
import { History } from './history.ts';
import { duplexOf, Outbox } from './outbox.ts';
import { Content } from './proto/content_pb.ts';
import {
  type BytesMessage,
  Control,
  type Exporter,
  type PruneRequest,
  type SolveRequest,
  type StatusResponse,
  StatusResponseSchema,
  type UsageRecordSchema,
  WorkerRecordSchema,
} from './proto/control_pb.ts';
import { LLBBridge } from './proto/gateway_pb.ts';
import { type Material, materialsOf } from './provenance.ts';
import { type Session, Sessions } from './session.ts';
import { Solve, Solves } from './solves.ts';
import { Sources } from './sources.ts';
import { workerOf } from './worker.ts';

/** Of `Buildkit.build`. */
export interface BuildAsked {
  /** A name made up for it. */
  ref: string;
  /** '' for none. */
  session: string;
  attrs: Readonly<Record<string, string>>;
  exporters: readonly { Type: string; Attrs: Record<string, string> }[];
  entitlements: readonly string[];
  /** The context, when it does not come by the session. */
  archive?: AsyncIterable<Buffer>;
}

export class Buildkit {
  readonly #engine: Engine;
  readonly #builds: Builds;
  readonly #sessions = new Sessions();
  readonly #solves = new Solves();
  readonly #history: History;
  /** Of builds without gRPC, by their names. */
  readonly #cancels = new Map<string, AbortController>();
  readonly #server: Http2Server;

  constructor(engine: Engine, builds: Builds) {
    this.#engine = engine;
    this.#builds = builds;
    this.#history = new History(engine.graph.buildRecords, engine.log, () => engine.config.builder.history);
    const routes = (router: ConnectRouter): void => {
      router.service(Control, this.#control());
      router.service(LLBBridge, this.#gateway());
      router.service(Content, contentOf(this.#history));
    };
    this.#server = createServer(connectNodeAdapter({ routes, connect: false, grpcWeb: false }));
  }

  /** A connection of a client that asks. */
  serve(socket: Socket): void {
    this.#server.emit('connection', socket);
  }

  /** A connection of a client that answers. `headers`: of the request that was upgraded. */
  addSession(socket: Socket, headers: (name: string) => string[]): void {
    this.#sessions.add(socket, headers);
  }

  hasSession(id: string): boolean {
    return this.#sessions.has(id);
  }

  #control(): Partial<ServiceImpl<typeof Control>> {
    return {
      info: () => ({ buildkitVersion: workerOf(this.#engine).BuildkitVersion }),
      listWorkers: () => ({ record: [create(WorkerRecordSchema, workerOf(this.#engine))] }),
      solve: (request, { signal }) => told(async () => ({ ExporterResponse: await this.#solve(request, signal) })),
      status: ({ Ref: ref }) => this.#status(ref),
      session: (messages, context) => this.#tunnelled(messages, context),
      diskUsage: ({ filter }) =>
        told(async () => ({ record: (await this.#builds.caches()).filter(anyOf(filter)).map(usageOf) })),
      prune: (request) => this.#prune(request),
      listenBuildHistory: (request, { signal, responseHeader }) => {
        responseHeader.set('buildkit-current-timestamp', new Date().toISOString());
        return this.#history.listen(request, signal);
      },
      updateBuildHistory: (request) =>
        told(async () => {
          this.#history.update(request);
          return {};
        }),
    };
  }

  async *#status(ref: string): AsyncGenerator<StatusResponse> {
    if (this.#history.has(ref)) yield* this.#history.log(ref);
    else yield* (await told(() => this.#solves.get(ref))).status.follow();
  }

  /** A session over a call of this API, of clients that may not open a connection for it. */
  async *#tunnelled(
    messages: AsyncIterable<BytesMessage>,
    { requestHeader }: HandlerContext,
  ): AsyncGenerator<BytesMessage> {
    const outbox = new Outbox<BytesMessage>();
    const read = async function* (): AsyncGenerator<Uint8Array> {
      for await (const { data } of messages) yield data;
    };
    const socket = duplexOf(read(), outbox);
    const session = this.#sessions.add(socket, (name) => requestHeader.get(name)?.split(/,\s*/) ?? []);
    try {
      yield* outbox;
    } finally {
      session.close();
    }
  }

  #gateway(): Partial<ServiceImpl<typeof LLBBridge>> {
    return gatewayOf({
      engine: this.#engine,
      builds: this.#builds,
      solves: this.#solves,
      run: (solve, asked, signal) => this.#run(solve, asked, signal),
      answer: (solve, asked, question, signal) => this.#frontend(solve, asked, signal, (one) => one.answer(question)),
    });
  }

  async *#prune(request: PruneRequest): AsyncGenerator<MessageInitShape<typeof UsageRecordSchema>> {
    const { filter: filters, keepDuration, reservedSpace, maxUsedSpace, minFreeSpace } = request;
    const asked = {
      filters,
      unusedForMs: Number(keepDuration / 1_000_000n),
      reservedSpace: Number(reservedSpace),
      maxUsedSpace: Number(maxUsedSpace),
      minFreeSpace: Number(minFreeSpace),
    };
    yield* (await told(() => this.#builds.prune(asked))).caches.map(usageOf);
  }

  /** A build without gRPC. `status`: messages of Control.Status, encoded; `result`: what the exporters say. */
  build(
    asked: BuildAsked,
    gone: AbortSignal,
  ): { status: AsyncIterable<string>; result: Promise<Record<string, string>> } {
    const { ref, attrs, exporters, archive } = asked;
    const cancelled = new AbortController();
    const signal = AbortSignal.any([gone, cancelled.signal]);
    const { session: sessionId, entitlements } = asked;
    const solve = new Solve({ ref, sessionId, entitlements, exporters, isInternal: false }, signal);
    this.#cancels.set(ref, cancelled);
    const result = this.#carryOut(solve, () =>
      this.#run(solve, { frontend: 'dockerfile.v0', attrs, inputs: {}, ...(archive && { archive }) }, signal),
    )
      .catch((error: unknown) => {
        throw error instanceof FrontendError ? error.cause : error;
      })
      .finally(() => this.#cancels.delete(ref));
    return { status: encoded(solve), result };
  }

  /** Ends a `build`; one that is not under way has ended. */
  cancel(ref: string): void {
    this.#cancels.get(ref)?.abort(new CaissonError('Cancelled', 'the build was cancelled'));
  }

  async #solve(request: SolveRequest, signal: AbortSignal): Promise<Record<string, string>> {
    const { Ref: ref, Session: sessionId, Entitlements: entitlements, Internal: isInternal } = request;
    if (request.SourcePolicy.length > 0)
      throw new CaissonError('NotImplemented', 'source policies are not supported by caisson');
    // an image has in its history what another build needs to go on from it
    for (const { Type: type } of request.Cache?.Exports ?? [])
      if (type !== 'inline')
        throw new CaissonError('NotImplemented', `cache export of type ${type} is not supported by caisson`);
    if (entitlements.includes('network.host') && !this.#engine.config.builder.networkHost)
      throw new CaissonError(
        'Forbidden',
        'granting entitlement network.host is not allowed by build daemon configuration',
      );
    const solve = new Solve({ ref, sessionId, entitlements, exporters: exportersOf(request), isInternal }, signal);
    const { Frontend: frontend, FrontendAttrs: attrs, FrontendInputs: inputs, Definition: definition } = request;
    return this.#carryOut(solve, () => {
      if (definition !== undefined && definition.def.length > 0)
        return solve.sources.then((sources) => sources.evaluate(definition));
      return frontend === '' ? this.#returned(solve) : this.#run(solve, { frontend, attrs, inputs }, signal);
    });
  }

  /** Resolves with what the exporters say. `make`: undefined for nothing to export. */
  #carryOut(solve: Solve, make: () => Promise<Source | undefined>): Promise<Record<string, string>> {
    const { signal, request } = solve;
    const carriedOut = async (dir: string): Promise<Record<string, string>> => {
      const parts = this.#partsOf(solve, signal, dir);
      const files = new ClientFiles(parts, {});
      solve.begin(new Sources(parts, files, {}));
      try {
        const made = await make();
        if (made === undefined) return {};
        const { engine } = parts;
        const isFiles = made instanceof BuildContext;
        const image = isFiles ? await imageOfFiles(engine, dir, made, engine.images.hostPlatform, signal) : made;
        return await exportImage(parts, request.exporters, image);
      } finally {
        await files.release();
      }
    };
    const build = (): Promise<Record<string, string>> => this.#builds.within(carriedOut);
    const materials = (): Material[] => materialsOf(this.#engine, solve.images);
    return this.#solves.run(solve, () =>
      request.isInternal ? build() : this.#history.during(solve, materials, build),
    );
  }

  async #returned(solve: Solve): Promise<Source | undefined> {
    const { ref, error } = await solve.returned();
    if (error !== undefined) throw error;
    return ref === undefined ? undefined : solve.result(ref);
  }

  #session(id: string): Promise<Session> {
    if (id === '') throw new CaissonError('InvalidParameter', 'the build has no session with its client');
    return this.#sessions.get(id);
  }

  #run(solve: Solve, asked: Asked, signal: AbortSignal): Promise<UsableImage | null> {
    const request = asked.attrs['requestid'] ?? '';
    if (request !== '')
      throw new CaissonError('InvalidParameter', `${request} is answered to clients of the gateway alone`);
    return this.#frontend(solve, asked, signal, (one) => one.run());
  }

  #frontend<T>(
    solve: Solve,
    { frontend, attrs, inputs, archive }: Asked,
    signal: AbortSignal,
    use: (frontend: Frontend) => Promise<T>,
  ): Promise<T> {
    const isOwn = frontend === 'dockerfile.v0' || (frontend === 'gateway.v0' && isOwnSyntax(attrs['source'] ?? ''));
    if (!isOwn)
      throw new CaissonError(
        'NotImplemented',
        `frontend ${frontend} ${attrs['source'] ?? ''}: only Docker's own Dockerfile syntax is supported by caisson`,
      );
    solve.asked ??= { frontend, attrs };
    const { entitlements, exporters } = solve.request;
    const more = { isExported: exporters.length > 0, entitlements, ...(archive && { archive }) };
    return this.#builds.within((dir) =>
      use(new Frontend({ ...this.#partsOf(solve, signal, dir), ...more }, { attrs, inputs })),
    );
  }

  #partsOf(solve: Solve, signal: AbortSignal, dir: string): ClientFilesParts {
    return {
      engine: this.#engine,
      builds: this.#builds,
      dir,
      session: async (id = solve.request.sessionId) => this.#session(id),
      status: solve.status,
      images: solve.images,
      signal: AbortSignal.any([signal, solve.signal]),
    };
  }
}

const usageOf = ({
  id,
  type,
  description,
  bytes,
  created,
  used,
  inUse,
}: BuildCache): MessageInitShape<typeof UsageRecordSchema> => ({
  ID: id,
  Mutable: type === 'exec.cachemount',
  InUse: inUse,
  Size: BigInt(bytes),
  CreatedAt: timestampFromDate(created),
  LastUsedAt: timestampFromDate(used),
  Description: description,
  RecordType: type,
});

async function* encoded(solve: Solve): AsyncGenerator<string> {
  for await (const status of solve.status.follow())
    yield Buffer.from(toBinary(StatusResponseSchema, status)).toString('base64');
}

function exportersOf(request: SolveRequest): Pick<Exporter, 'Type' | 'Attrs'>[] {
  if (request.Exporters.length > 0 || request.ExporterDeprecated === '') return request.Exporters;
  return [{ Type: request.ExporterDeprecated, Attrs: request.ExporterAttrsDeprecated }];
}
