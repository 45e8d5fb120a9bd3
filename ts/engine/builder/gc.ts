/** What of builds' caches is kept without anybody pruning: `builder` of daemon.json, with dockerd's names and defaults. */
import { CaissonError } from '../../errdefs.ts';
import { parseGoDuration } from '../../goDuration.ts';
import { byteSize, invalid } from '../configValues.ts';
import type { PruneRequest } from './cacheFilter.ts';

export interface BuilderSettings {
  gc: boolean;
  /** In their order; empty: dockerd's own. */
  policy: PruneRequest[];
  /** Of dockerd's own policies, in bytes; all 0: shares of the disk. */
  limits: Pick<PruneRequest, 'reservedSpace' | 'maxUsedSpace' | 'minFreeSpace'>;
  /** Builds may take the host's network, when their client allows it. */
  networkHost: boolean;
  /** Records of builds go when they are older than this and there are more of them. */
  history: { maxAgeMs: number; maxEntries: number };
}

const HOUR_MS = 3_600_000;

export const BUILDER_DEFAULTS: BuilderSettings = {
  gc: true,
  policy: [],
  limits: { reservedSpace: 0, maxUsedSpace: 0, minFreeSpace: 0 },
  networkHost: true,
  history: { maxAgeMs: 48 * HOUR_MS, maxEntries: 50 },
};

/** Fields of an object, by their names in small letters: dockerd does not tell them apart by case. */
type Fields = ReadonlyMap<string, unknown>;

function fieldsOf(value: unknown, name: string, known: readonly string[]): Fields {
  if (value === undefined || value === null) return new Map();
  if (typeof value !== 'object' || Array.isArray(value)) throw invalid(`${name} of the config file is not an object`);
  const fields = new Map(Object.entries(value).map(([key, one]) => [key.toLowerCase(), one]));
  const unknown = [...fields.keys()].find((key) => !known.includes(key));
  if (unknown !== undefined) throw invalid(`${name} of the config file: unknown key ${JSON.stringify(unknown)}`);
  return fields;
}

const isOn = (fields: Fields, key: string, name: string, byDefault: boolean): boolean => {
  const value = fields.get(key) ?? byDefault;
  if (typeof value !== 'boolean') throw invalid(`${name}.${key} of the config file is neither true nor false`);
  return value;
};

const bytesOf = (fields: Fields, keys: readonly string[], name: string): number => {
  const [key = '', value] = keys.map((one) => [one, fields.get(one)] as const).find(([, one]) => one) ?? [];
  return value === undefined ? 0 : byteSize(`${name}.${key}`, String(value));
};

const LIMITS = ['reservedspace', 'maxusedspace', 'minfreespace'];

/** `value`: of `builder` in the config file. */
export function parseBuilder(value: unknown): BuilderSettings {
  // `all` of a rule is so: nothing here is internal
  const builder = fieldsOf(value, 'builder', ['gc', 'entitlements', 'history']);
  const gc = fieldsOf(builder.get('gc'), 'builder.gc', [
    'enabled',
    'policy',
    'defaultkeepstorage',
    ...LIMITS.map((name) => `default${name}`),
  ]);
  const entitlements = fieldsOf(builder.get('entitlements'), 'builder.entitlements', [
    'network-host',
    'security-insecure',
    'device',
  ]);
  for (const name of ['security-insecure', 'device'])
    if (isOn(entitlements, name, 'builder.entitlements', false))
      throw new CaissonError('NotImplemented', `builder.entitlements.${name} is not supported by caisson`, {
        hint: 'every step of a build runs confined, without devices of the host',
      });
  const history = fieldsOf(builder.get('history'), 'builder.history', ['maxage', 'maxentries']);
  const policy = gc.get('policy') ?? [];
  if (!Array.isArray(policy)) throw invalid('builder.gc.policy of the config file is not a list');
  return {
    gc: isOn(gc, 'enabled', 'builder.gc', true),
    policy: policy.map(ruleOf),
    limits: {
      reservedSpace: bytesOf(gc, ['defaultreservedspace', 'defaultkeepstorage'], 'builder.gc'),
      maxUsedSpace: bytesOf(gc, ['defaultmaxusedspace'], 'builder.gc'),
      minFreeSpace: bytesOf(gc, ['defaultminfreespace'], 'builder.gc'),
    },
    networkHost: isOn(entitlements, 'network-host', 'builder.entitlements', true),
    history: {
      maxAgeMs: durationOf(history, 'maxage') ?? BUILDER_DEFAULTS.history.maxAgeMs,
      maxEntries: countOf(history, 'maxentries') ?? BUILDER_DEFAULTS.history.maxEntries,
    },
  };
}

/** In milliseconds; as Go has it, or a number of seconds. */
function durationOf(fields: Fields, key: string): number | undefined {
  const value = fields.get(key);
  if (value === undefined || value === null) return undefined;
  const ns = typeof value === 'number' ? value * 1e9 : parseGoDuration(String(value));
  if (ns === undefined) throw invalid(`builder.history.${key} of the config file: ${String(value)} is no duration`);
  return ns / 1e6;
}

function countOf(fields: Fields, key: string): number | undefined {
  const value = fields.get(key);
  if (value === undefined || value === null) return undefined;
  if (!Number.isSafeInteger(value)) throw invalid(`builder.history.${key} of the config file is no integer`);
  return value as number;
}

function ruleOf(value: unknown): PruneRequest {
  const name = 'builder.gc.policy';
  const rule = fieldsOf(value, name, ['all', 'filter', 'keepstorage', ...LIMITS]);
  const filter = rule.get('filter') ?? [];
  if (!Array.isArray(filter)) throw invalid(`${name}.filter of the config file is not a list`);
  const pairs = filter.map((one): [string, string] => {
    const [, key = '', wanted = ''] = /^([^=]*)=?(.*)$/s.exec(String(one)) ?? [];
    return [key.trim().toLowerCase(), wanted.trim()];
  });
  const age = pairs.find(([key]) => key === 'unused-for' || key === 'until')?.[1];
  const ns = age === undefined ? 0 : parseGoDuration(age);
  if (ns === undefined) throw invalid(`${name}.filter of the config file: ${age} is no duration`);
  const fields = pairs.filter(([key]) => key !== 'unused-for' && key !== 'until');
  return {
    filters: [fields.map(([key, wanted]) => (wanted === '' ? key : `${key}==${wanted}`)).join(',')],
    unusedForMs: ns / 1e6,
    reservedSpace: bytesOf(rule, ['reservedspace', 'keepstorage'], name),
    maxUsedSpace: bytesOf(rule, ['maxusedspace'], name),
    minFreeSpace: bytesOf(rule, ['minfreespace'], name),
  };
}

const MIN_TRANSIENT_BYTES = 512e6;
/** Of the reserved space, what soon can be had again may take, in percent. */
const TRANSIENT_SHARE = 13.8;

/** What is pruned, one after the other. */
export function policiesOf({ policy, limits: given }: BuilderSettings, diskBytes: number): PruneRequest[] {
  if (policy.length > 0) return policy;
  const share = (percent: number): number => (Math.floor((diskBytes * percent) / 100 / 2 ** 30) + 1) * 1e9;
  const isUnset = Object.values(given).every((bytes) => bytes === 0);
  const limits = isUnset ? { reservedSpace: share(10), maxUsedSpace: share(80), minFreeSpace: share(20) } : given;
  const transient = Math.max(MIN_TRANSIENT_BYTES, Math.round((limits.reservedSpace * TRANSIENT_SHARE) / 100));
  return [
    // what is made again most easily
    {
      filters: ['type==source.local', 'type==exec.cachemount'],
      unusedForMs: 48 * HOUR_MS,
      reservedSpace: 0,
      maxUsedSpace: transient,
      minFreeSpace: 0,
    },
    { filters: [], unusedForMs: 60 * 24 * HOUR_MS, ...limits },
    { filters: [], unusedForMs: 0, ...limits },
  ];
}
