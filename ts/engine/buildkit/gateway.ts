/** How a client carries a build out step by step, while its Solve waits for what it returns: frontends, graphs, and their files. */
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from '@connectrpc/connect';
import type { Builds } from '../builder/builds.ts';
import { BuildContext } from '../builder/context.ts';
import { imageView } from '../builder/view.ts';
import type { Engine } from '../engine.ts';
import type { UsableImage } from '../images/names.ts';
import { asReturned, told } from './errors.ts';
import { definitionOf } from './graph.ts';
import type { Definition } from './proto/control_pb.ts';
import type { LLBBridge } from './proto/gateway_pb.ts';
import { ResultFiles } from './resultFiles.ts';
import type { Solve, Solves } from './solves.ts';
import type { Metadata } from './subrequests.ts';
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
  'readfile',
  'readdir',
  'statfile',
];
/** What clients look for before they send a graph of operations, or ask for more than an older builder has. */
const LLB_CAPABILITIES = [
  'constraints',
  'exec.mount.secret',
  'exec.mount.ssh',
  'exporter.multiple',
  'file.base',
  'file.copy.modestring',
  'meta.description',
  'platform',
  'source.git',
  'source.git.checksum',
  'source.git.fullurl',
  'source.git.httpauth',
  'source.git.keepgitdir',
  'source.git.knownsshhosts',
  'source.git.mountsshsock',
  'source.git.skipsubmodules',
  'source.git.subdir',
  'source.http',
  'source.http.checksum',
  'source.http.perm',
  'source.image',
  'source.image.resolvemode',
  'source.local',
  'source.local.excludepatterns',
  'source.local.sessionid',
  'source.local.sharedkeyhint',
  'source.local.unique',
];

/** What is asked of a frontend. */
export interface Asked {
  frontend: string;
  attrs: Readonly<Record<string, string>>;
  inputs: Readonly<Record<string, Definition>>;
  archive?: AsyncIterable<Buffer>;
}

export interface GatewayParts {
  engine: Engine;
  builds: Builds;
  solves: Solves;
  run(solve: Solve, asked: Asked, signal: AbortSignal): Promise<UsableImage | null>;
  answer(solve: Solve, asked: Asked, question: string, signal: AbortSignal): Promise<Metadata>;
}

export function gatewayOf({
  engine,
  builds,
  solves,
  run,
  answer,
}: GatewayParts): Partial<ServiceImpl<typeof LLBBridge>> {
  const solveOf = ({ requestHeader }: HandlerContext): Promise<Solve> =>
    solves.get(requestHeader.get('buildkit-controlapi-buildid') ?? '');
  const reading = <T>(context: HandlerContext, ref: string, use: (files: ResultFiles) => Promise<T>): Promise<T> =>
    told(async () => {
      const source = (await solveOf(context)).result(ref);
      if (source instanceof BuildContext) return use(new ResultFiles(engine.native, source.view));
      return builds.within(async (dir) => {
        const view = { overlay: await imageView(engine, dir, source?.chainId ?? null) };
        return use(new ResultFiles(engine.native, view));
      });
    });
  return {
    ping: () => ({
      FrontendAPICaps: CAPABILITIES.map((ID) => ({ ID, Enabled: true })),
      LLBCaps: LLB_CAPABILITIES.map((ID) => ({ ID, Enabled: true })),
      Workers: [workerOf(engine)],
    }),
    solve: (request, context) =>
      told(async () => {
        const solve = await solveOf(context);
        const { Frontend: frontend, FrontendOpt: attrs, FrontendInputs: inputs, Definition: definition } = request;
        if (definition !== undefined && definition.def.length > 0) {
          const id = solve.keep(await (await solve.sources).evaluate(definition));
          return { result: { result: { case: 'ref', value: { id, def: definition } } } };
        }
        const asked = { frontend, attrs, inputs };
        const question = attrs['requestid'] ?? '';
        if (question !== '') return { result: { metadata: await answer(solve, asked, question, context.signal) } };
        const image = frontend === '' ? null : await run(solve, asked, context.signal);
        const id = solve.keep(image);
        const metadata = image === null ? {} : { 'containerimage.config': configOf(image) };
        return { result: { result: { case: 'ref', value: { id, def: definitionOf(image?.id) } }, metadata } };
      }),
    readFile: ({ Ref: ref, FilePath: path, Range: range }, context) =>
      reading(context, ref, async (files) => ({
        Data: await files.read(path, Number(range?.Offset ?? 0), Number(range?.Length ?? 0)),
      })),
    statFile: ({ Ref: ref, Path: path }, context) =>
      reading(context, ref, async (files) => ({ stat: await files.stat(path) })),
    readDir: ({ Ref: ref, DirPath: path, IncludePattern: pattern }, context) =>
      reading(context, ref, async (files) => ({ entries: await files.list(path, pattern) })),
    // what is returned has been made already
    evaluate: () => ({}),
    return: async ({ result, error }, context) => {
      const solve = await told(() => solveOf(context));
      const { case: kind, value } = result?.result ?? { case: undefined };
      if (kind === 'refs') throw new ConnectError('several results at once', Code.Unimplemented);
      solve.return({ ref: value?.id || undefined, error: error && asReturned(error) });
      return {};
    },
  };
}

const configOf = ({ config }: UsableImage): Uint8Array => new TextEncoder().encode(JSON.stringify(config));
