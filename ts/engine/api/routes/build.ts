/** `POST /build`: Docker's classic builder. */
import { CaissonError } from '../../../errdefs.ts';
import { parseReference, type Reference } from '../../../reference.ts';
import type { Credentials } from '../../../registry/client/auth.ts';
import type { BuildRequest, Builds } from '../../builder/builds.ts';
import type { PruneRequest } from '../../builder/cacheFilter.ts';
import { CommandFailed } from '../../builder/run.ts';
import type { Buildkit } from '../../buildkit/buildkit.ts';
import type { Engine } from '../../engine.ts';
import { credentialsOf } from '../../images/pull.ts';
import type { Call } from '../call.ts';
import { untilNs } from '../pruneFilters.ts';
import type { Router } from '../router.ts';
import { buildkitRoutes, buildOverHttp } from './buildkit.ts';

export function buildRoutes(router: Router, engine: Engine, builds: Builds): void {
  let loaded: Promise<Buildkit> | undefined;
  const load = (): Promise<Buildkit> => {
    loaded ??= import('../../buildkit/buildkit.ts').then(({ Buildkit }) => new Buildkit(engine, builds));
    return loaded;
  };
  buildkitRoutes(router, load);
  router.plain({
    method: 'POST',
    path: '/build',
    body: 'stream',
    handle: async (call) =>
      call.query.string('version') === '2' ? buildOverHttp(call, await load()) : postBuild(call, builds),
  });
  router.plain({
    method: 'POST',
    path: '/build/prune',
    handle: async (call) => {
      const { caches, bytes } = await builds.prune(pruneRequest(call));
      return { CachesDeleted: caches.length > 0 ? caches.map(({ id }) => id) : null, SpaceReclaimed: bytes };
    },
  });
}

const CACHE_FIELDS = ['id', 'parent', 'type', 'description', 'inuse', 'shared', 'private'];

function pruneRequest({ query }: Call<undefined>): PruneRequest {
  const filters = query.filters([...CACHE_FIELDS, 'until', 'unused-for', 'label', 'label!']);
  const one = (name: string): string | undefined => {
    const values = filters.get(name) ?? [];
    if (values.length > 1) throw new CaissonError('InvalidParameter', 'filters expect only one value');
    return values[0];
  };
  const [until, unusedFor] = [one('until'), one('unused-for')];
  if (until !== undefined && unusedFor !== undefined)
    throw new CaissonError('InvalidParameter', 'conflicting filters: "until" and "unused-for"');
  const age = until ?? unusedFor;
  const since = age === undefined ? undefined : untilNs(age);
  const operators: Record<string, string> = { id: '~=', 'label!': '=' };
  const fields = [...CACHE_FIELDS, 'label', 'label!']
    .filter((name) => filters.has(name))
    .map((name) => {
      const value = one(name);
      return value === undefined ? name : `${name}${operators[name] ?? '=='}${value}`;
    });
  const bytes = (name: string): number => query.int(name) ?? 0;
  return {
    filters: [fields.join(',')],
    unusedForMs: since === undefined ? 0 : Math.max(0, Date.now() - Number(since / 1_000_000n)),
    reservedSpace: bytes('reserved-space') || bytes('keep-storage'),
    maxUsedSpace: bytes('max-used-space'),
    minFreeSpace: bytes('min-free-space'),
  };
}

async function postBuild(call: Call<undefined>, builds: Builds): Promise<undefined> {
  const { query } = call;
  const request = requestOf(call);
  const quiet = query.bool('q');
  const lines = call.lines();
  let said = '';
  try {
    const id = await builds.build(
      request,
      (line) => {
        if (quiet) said += line.stream ?? '';
        else if (line.aux === undefined || call.atLeast('1.30')) lines.write(line);
      },
      call.signal,
    );
    if (quiet) lines.write({ stream: `${id}\n` });
  } catch (error) {
    if (quiet && said !== '') lines.write({ stream: said });
    if (!lines.started) throw error;
    if (!(error instanceof CommandFailed)) return lines.fail(error) as undefined;
    const { message, exitCode } = error;
    lines.write({ errorDetail: { code: exitCode, message }, error: message });
  }
  lines.end();
}

function requestOf(call: Call<undefined>): BuildRequest {
  const { query } = call;
  const version = query.string('version');
  if (version !== '' && version !== '1')
    throw new CaissonError('InvalidParameter', `invalid version ${JSON.stringify(version)}`);
  if (query.all('securityopt').length > 0)
    throw new CaissonError('InvalidParameter', 'security options are not supported on linux');
  if (query.bool('squash'))
    throw new CaissonError('InvalidParameter', 'squash is only supported with experimental mode');
  const isolation = query.string('isolation');
  if (!['', 'default'].includes(isolation.toLowerCase()))
    throw new CaissonError('InvalidParameter', `unsupported isolation: ${JSON.stringify(isolation)}`);
  const forceRemove = query.bool('forcerm');
  return {
    archive: call.chunks,
    remote: query.string('remote'),
    dockerfile: query.string('dockerfile'),
    tags: tagsOf(query.all('t')),
    target: query.string('target'),
    platform: call.atLeast('1.32') ? query.string('platform') : '',
    labels: record(call, 'labels', 'error reading labels'),
    lazy: false,
    buildArgs: new Map(
      Object.entries(query.json<Record<string, string | null>>('buildargs', {}, 'error reading build args')),
    ),
    cacheFrom: query.json<string[]>('cachefrom', [], 'error reading cache-from'),
    noCache: query.bool('nocache'),
    pull: query.bool('pull'),
    remove: forceRemove || query.string('rm') === '' || query.bool('rm'),
    forceRemove,
    sourceDate: undefined,
    hostname: '',
    cacheNamespace: '',
    entitlements: query.string('networkmode') === 'host' ? ['network.host'] : [],
    host: {
      CgroupParent: query.string('cgroupparent'),
      CpuShares: number(call, 'cpushares'),
      CpuPeriod: number(call, 'cpuperiod'),
      CpuQuota: number(call, 'cpuquota'),
      CpusetCpus: query.string('cpusetcpus'),
      CpusetMems: query.string('cpusetmems'),
      Memory: number(call, 'memory'),
      MemorySwap: number(call, 'memswap'),
      ShmSize: number(call, 'shmsize'),
      Ulimits: query.json('ulimits', [], 'error reading ulimit settings'),
      ExtraHosts: query.all('extrahosts'),
      ...(query.string('networkmode') !== '' && { NetworkMode: query.string('networkmode') }),
    },
    credentials: credentialsFor(call.header('x-registry-config')),
  };
}

/** Each once, none with a digest. */
function tagsOf(names: readonly string[]): Reference[] {
  const references = [...new Set(names)].filter((name) => name !== '').map(parseReference);
  if (references.some(({ digest }) => digest !== undefined))
    throw new CaissonError('InvalidParameter', 'build tag cannot contain a digest');
  return references;
}

function record(call: Call<undefined>, key: string, what: string): Record<string, string> {
  const value = call.query.json<Record<string, unknown>>(key, {}, what);
  if (Object.values(value).some((item) => typeof item !== 'string'))
    throw new CaissonError('InvalidParameter', `${what}: a value is no string`);
  return value as Record<string, string>;
}

/** As Go's client sends it; what is no number is none. */
function number(call: Call<undefined>, key: string): number {
  const value = Number(call.query.string(key) || 0);
  return Number.isSafeInteger(value) ? value : 0;
}

/** X-Registry-Config: the logins of every registry that the client knows, by its address. */
function credentialsFor(header: string): (reference: Reference) => Promise<Credentials | undefined> {
  let logins: Record<string, Record<string, unknown>> = {};
  try {
    if (header !== '') logins = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
  } catch {
    // as dockerd: whoever needs one will be told by the registry
  }
  return async ({ domain }) => {
    const names =
      domain === 'docker.io'
        ? ['https://index.docker.io/v1/', 'index.docker.io', domain]
        : [domain, `https://${domain}`];
    const login = names.map((name) => logins[name]).find((one) => typeof one === 'object' && one !== null);
    return login && credentialsOf(login);
  };
}
