/**
 * The API of BuildKit: the services of its gRPC server, over connections that clients upgrade at `/grpc`. What they build
 * is a Dockerfile; other graphs of operations are refused by name. Files come from the client's session (`/session`).
 *
 *   Control.Solve ─► (gateway: LLBBridge.Solve ─► frontend ─► Return) ─► exporters      Control.Status: what is told meanwhile
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Http2Server } from 'node:http2';
import type { Socket } from 'node:net';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, type ConnectRouter, type HandlerContext, type ServiceImpl } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { CaissonError } from '../../errdefs.ts';
import type { BuildCache, Builds } from '../builder/builds.ts';
import { anyOf } from '../builder/cacheFilter.ts';
import type { Engine } from '../engine.ts';
import type { UsableImage } from '../images/names.ts';
import { asConnectError, asReturned } from './errors.ts';
import { exportImage } from './exporters.ts';
import { Frontend, FrontendError, isOwnSyntax } from './frontend.ts';
import { definitionOf } from './inputs.ts';
import { duplexOf, Outbox } from './outbox.ts';
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
import { type Session, Sessions } from './session.ts';
import { Solve, Solves } from './solves.ts';
import { workerOf } from './worker.ts';

/** What a gateway client may use of the protocol. */
const CAPABILITIES = [
  'solve.base',
  'return',
  'proto.refarray',
  'reference.output',
  'frontend.inputs',
  'frontend.caps',
  'gateway.solve.evaluate',
  'gateway.evaluate',
];
const LLB_CAPABILITIES = ['file.base', 'exporter.multiple', 'exec.mount.secret', 'exec.mount.ssh', 'source.local'];

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

interface Asked {
  frontend: string;
  attrs: Readonly<Record<string, string>>;
  inputs: SolveRequest['FrontendInputs'];
  archive?: AsyncIterable<Buffer>;
}

export class Buildkit {
  readonly #engine: Engine;
  readonly #builds: Builds;
  readonly #sessions = new Sessions();
  readonly #solves = new Solves();
  /** Of builds without gRPC, by their names. */
  readonly #cancels = new Map<string, AbortController>();
  readonly #server: Http2Server;

  constructor(engine: Engine, builds: Builds) {
    this.#engine = engine;
    this.#builds = builds;
    const routes = (router: ConnectRouter): void => {
      router.service(Control, this.#control());
      router.service(LLBBridge, this.#gateway());
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
    };
  }

  async *#status(ref: string): AsyncGenerator<StatusResponse> {
    const solve = await told(() => this.#solves.get(ref));
    yield* solve.status.follow();
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

  #gateway(): Partial<ServiceImpl<typeof LLBBridge>> {
    return {
      ping: () => ({
        FrontendAPICaps: CAPABILITIES.map((ID) => ({ ID, Enabled: true })),
        LLBCaps: LLB_CAPABILITIES.map((ID) => ({ ID, Enabled: true })),
        Workers: [workerOf(this.#engine)],
      }),
      solve: (request, context) =>
        told(async () => {
          const solve = await this.#solves.get(buildOf(context));
          if ((request.Definition?.def.length ?? 0) > 0) throw noDefinitions();
          const { Frontend: frontend, FrontendOpt: attrs, FrontendInputs: inputs } = request;
          const asked = { frontend, attrs, inputs };
          const question = attrs['requestid'] ?? '';
          if (question !== '')
            return {
              result: { metadata: await this.#frontend(solve, asked, context.signal, (one) => one.answer(question)) },
            };
          const image = frontend === '' ? null : await this.#run(solve, asked, context.signal);
          const id = randomBytes(12).toString('hex');
          solve.results.set(id, image);
          const metadata = image === null ? {} : { 'containerimage.config': configOf(image) };
          return { result: { result: { case: 'ref', value: { id, def: definitionOf(image?.id) } }, metadata } };
        }),
      // what is returned has been made already
      evaluate: () => ({}),
      return: async ({ result, error }, context) => {
        const solve = await told(() => this.#solves.get(buildOf(context)));
        const { case: kind, value } = result?.result ?? { case: undefined };
        if (kind === 'refs') throw new ConnectError('several results at once', Code.Unimplemented);
        solve.return({ ref: value?.id || undefined, error: error && asReturned(error) });
        return {};
      },
    };
  }

  /** A build without gRPC. `status`: messages of Control.Status, encoded; `result`: what the exporters say. */
  build(
    asked: BuildAsked,
    gone: AbortSignal,
  ): { status: AsyncIterable<string>; result: Promise<Record<string, string>> } {
    const { ref, attrs, exporters, archive } = asked;
    const cancelled = new AbortController();
    const signal = AbortSignal.any([gone, cancelled.signal]);
    const solve = new Solve(asked.session, asked.entitlements, exporters.length > 0, signal);
    this.#cancels.set(ref, cancelled);
    const result = this.#carryOut(ref, solve, exporters, () =>
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
    const { Ref: ref, Session: session, Entitlements: entitlements, Frontend: frontend } = request;
    if ((request.Definition?.def.length ?? 0) > 0) throw noDefinitions();
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
    const exporters = exportersOf(request);
    const solve = new Solve(session, entitlements, exporters.length > 0, signal);
    const { FrontendAttrs: attrs, FrontendInputs: inputs } = request;
    return this.#carryOut(ref, solve, exporters, () =>
      frontend === '' ? this.#returned(solve) : this.#run(solve, { frontend, attrs, inputs }, signal),
    );
  }

  /** Resolves with what the exporters say. `make`: undefined for nothing to export. */
  #carryOut(
    ref: string,
    solve: Solve,
    exporters: readonly Pick<Exporter, 'Type' | 'Attrs'>[],
    make: () => Promise<UsableImage | null | undefined>,
  ): Promise<Record<string, string>> {
    const { status, signal } = solve;
    return this.#solves.run(ref, solve, async () => {
      const image = await make();
      if (image === undefined) return {};
      const parts = { engine: this.#engine, builds: this.#builds, session: async () => this.#session(solve.sessionId) };
      return this.#builds.within((dir) => exportImage({ ...parts, dir, status, signal }, exporters, image));
    });
  }

  async #returned(solve: Solve): Promise<UsableImage | null | undefined> {
    const { ref, error } = await solve.returned();
    if (error !== undefined) throw error;
    return ref === undefined ? undefined : solve.results.get(ref);
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
    const parts = {
      engine: this.#engine,
      builds: this.#builds,
      session: async (id = solve.sessionId) => this.#session(id),
      isExported: solve.isExported,
      status: solve.status,
      entitlements: solve.entitlements,
      signal: AbortSignal.any([signal, solve.signal]),
      ...(archive && { archive }),
    };
    return this.#builds.within((dir) => use(new Frontend({ ...parts, dir }, { attrs, inputs })));
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

const buildOf = ({ requestHeader }: HandlerContext): string => requestHeader.get('buildkit-controlapi-buildid') ?? '';

const configOf = ({ config }: UsableImage): Uint8Array => new TextEncoder().encode(JSON.stringify(config));

const noDefinitions = (): CaissonError =>
  new CaissonError('NotImplemented', 'caisson builds Dockerfiles; other graphs of operations (LLB) are not supported');

function exportersOf(request: SolveRequest): Pick<Exporter, 'Type' | 'Attrs'>[] {
  if (request.Exporters.length > 0 || request.ExporterDeprecated === '') return request.Exporters;
  return [{ Type: request.ExporterDeprecated, Attrs: request.ExporterAttrsDeprecated }];
}

async function told<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw error instanceof FrontendError ? asConnectError(error.cause, error.place) : asConnectError(error);
  }
}
