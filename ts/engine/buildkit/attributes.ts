/** What a client asks of the Dockerfile frontend, by its attributes. */
import { CaissonError } from '../../errdefs.ts';
import { parseReference } from '../../reference.ts';
import type { CreateBody } from '../api/schemas/containers.ts';
import type { BuildOptions } from '../builder/builder.ts';

export type Attributes = Readonly<Record<string, string>>;

type Host = NonNullable<CreateBody['HostConfig']>;

/** Without what comes by the session. */
export function optionsOf(attrs: Attributes, entitlements: readonly string[]): Omit<BuildOptions, 'credentials'> {
  const attest = Object.keys(attrs).find((name) => name.startsWith('attest:'));
  if (attest !== undefined)
    throw new CaissonError('NotImplemented', `${attest}: attestations are not supported by caisson`);
  const network = attrs['force-network-mode'] ?? '';
  if (network === 'host' && !entitlements.includes('network.host'))
    throw new CaissonError('Forbidden', 'granting entitlement network.host is not allowed by the client');
  const noCache = attrs['no-cache'];
  return {
    target: attrs['target'] ?? '',
    platform: platformsOf(attrs)[0] ?? '',
    labels: withPrefix(attrs, 'label:'),
    buildArgs: new Map(
      Object.entries(withPrefix(attrs, 'build-arg:'))
        .filter(([name]) => !name.startsWith('BUILDKIT_'))
        .flatMap(inBothCases),
    ),
    cacheFrom: cacheSources(attrs),
    noCache: noCache === undefined ? false : noCache === '' ? true : noCache.split(','),
    pull: attrs['image-resolve-mode'] === 'pull',
    lazy: true,
    remove: true,
    forceRemove: true,
    entitlements: [...entitlements],
    host: hostOf(attrs, network),
    sourceDate: sourceDateOf(attrs['build-arg:SOURCE_DATE_EPOCH']),
    hostname: attrs['hostname'] || attrs['build-arg:BUILDKIT_SANDBOX_HOSTNAME'] || '',
    cacheNamespace: attrs['build-arg:BUILDKIT_CACHE_MOUNT_NS'] ?? '',
  };
}

/** Seconds since 1970. */
function sourceDateOf(text: string | undefined): Date | undefined {
  if (!text) return undefined;
  const date = new Date(Number(text) * 1000);
  if (!/^\d+$/.test(text) || Number.isNaN(date.getTime()))
    throw new CaissonError('InvalidParameter', `invalid SOURCE_DATE_EPOCH: ${text}`);
  return date;
}

/** Programs look for a proxy by either name. */
function inBothCases([name, value]: [string, string]): [string, string][] {
  if (!/^(https?|ftp|no|all)_proxy$/i.test(name)) return [[name, value]];
  return [
    [name.toLowerCase(), value],
    [name.toUpperCase(), value],
  ];
}

export const platformsOf = (attrs: Attributes): string[] => list(attrs['platform']);

export function withPrefix(attrs: Attributes, prefix: string): Record<string, string> {
  const found = Object.entries(attrs).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(found.map(([name, value]) => [name.slice(prefix.length), value]));
}

function hostOf(attrs: Attributes, network: string): Host {
  const number = (name: string): number => {
    const value = Number(attrs[name] ?? 0);
    if (!Number.isSafeInteger(value))
      throw new CaissonError('InvalidParameter', `invalid ${name} value: ${attrs[name]}`);
    return value;
  };
  return {
    CgroupParent: attrs['cgroup-parent'] ?? '',
    CpuShares: number('cpushares'),
    CpuPeriod: number('cpuperiod'),
    CpuQuota: number('cpuquota'),
    CpusetCpus: attrs['cpusetcpus'] ?? '',
    CpusetMems: attrs['cpusetmems'] ?? '',
    Memory: number('memory'),
    MemorySwap: number('memswap'),
    ShmSize: number('shm-size'),
    Ulimits: list(attrs['ulimit']).map(ulimit),
    ExtraHosts: list(attrs['add-hosts']).map((host) => host.replace('=', ':')),
    ...(network !== '' && network !== 'sandbox' && { NetworkMode: network }),
  };
}

const list = (text = ''): string[] => text.split(',').filter((item) => item !== '');

function ulimit(text: string): { Name: string; Soft: number; Hard: number } {
  const [, name = '', soft = '', hard = soft] = /^([^=]+)=(-?\d+)(?::(-?\d+))?$/.exec(text) ?? [];
  if (name === '') throw new CaissonError('InvalidParameter', `invalid ulimit argument: ${text}`);
  return { Name: name, Soft: Number(soft), Hard: Number(hard) };
}

/** Names of images. */
function cacheSources(attrs: Attributes): string[] {
  const names = [...cacheImports(attrs['cache-imports'] || '[]'), ...list(attrs['cache-from'])];
  const found = [...new Set(names)].filter((name) => name !== '');
  for (const name of found) parseReference(name);
  return found;
}

function cacheImports(text: string): string[] {
  let given: { Type?: string; Attrs?: Record<string, string> }[];
  try {
    given = JSON.parse(text);
  } catch (cause) {
    throw new CaissonError('InvalidParameter', `failed to unmarshal cache-imports (${text})`, { cause });
  }
  return given.map(({ Type: type, Attrs: attrs }) => {
    if (type !== 'registry')
      throw new CaissonError('NotImplemented', `--cache-from type=${type} is not supported by caisson`, {
        hint: 'type=registry takes an image',
      });
    return attrs?.['ref'] ?? '';
  });
}
