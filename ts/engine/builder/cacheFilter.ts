/** What `builder prune` takes: filters in the words of BuildKit, an age, and space that may be kept. */
import { CaissonError } from '../../errdefs.ts';
import type { BuildCache } from './builds.ts';

export interface PruneRequest {
  /** `type==exec.cachemount,id~=^sha256`: all of one, any of several. */
  filters: readonly string[];
  /** Not used for so long. */
  unusedForMs: number;
  /** Bytes; 0 for no such limit. */
  reservedSpace: number;
  maxUsedSpace: number;
  minFreeSpace: number;
}

/** Those that go, the one that was used longest ago first. `freeBytes`: on the filesystem that they are on. */
export function chosen(caches: readonly BuildCache[], request: PruneRequest, freeBytes: number): BuildCache[] {
  const accepts = anyOf(request.filters);
  const usedBefore = Date.now() - request.unusedForMs;
  let total = caches.reduce((sum, { bytes }) => sum + bytes, 0);
  const kept = keptBytes(request, total, freeBytes);
  const found: BuildCache[] = [];
  for (const cache of [...caches].sort((a, b) => a.used.getTime() - b.used.getTime())) {
    if (kept !== undefined && total <= kept) break;
    if (cache.inUse || cache.used.getTime() > usedBefore || !accepts(cache)) continue;
    found.push(cache);
    total -= cache.bytes;
  }
  return found;
}

/** Undefined: nothing need be kept. */
function keptBytes(
  { reservedSpace, maxUsedSpace, minFreeSpace }: PruneRequest,
  total: number,
  freeBytes: number,
): number | undefined {
  if (maxUsedSpace === 0 && minFreeSpace === 0) return reservedSpace === 0 ? undefined : reservedSpace;
  const limits = [
    ...(maxUsedSpace > 0 ? [maxUsedSpace] : []),
    ...(minFreeSpace > 0 ? [total - Math.max(0, minFreeSpace - freeBytes)] : []),
  ];
  return Math.max(reservedSpace, Math.min(...limits));
}

type Test = (cache: BuildCache) => boolean;

export function anyOf(filters: readonly string[]): Test {
  const tests = filters.filter((filter) => filter !== '').map((filter) => filter.split(',').map(testOf));
  return (cache) => tests.length === 0 || tests.some((all) => all.every((test) => test(cache)));
}

const FIELDS: Record<string, (cache: BuildCache) => string | boolean> = {
  id: ({ id }) => id,
  parent: () => '',
  // none has one
  label: () => '',
  type: ({ type }) => type,
  description: ({ description }) => description,
  inuse: ({ inUse }) => inUse,
  mutable: ({ type }) => type === 'exec.cachemount',
  immutable: ({ type }) => type !== 'exec.cachemount',
  shared: () => false,
  private: () => true,
};

function testOf(text: string): Test {
  const [, name = '', operator, value = ''] = /^([a-z]+)(?:(==|!=|~=)(.*))?$/s.exec(text) ?? [];
  const field = FIELDS[name];
  if (field === undefined) throw new CaissonError('InvalidParameter', `invalid filter ${JSON.stringify(text)}`);
  if (operator === undefined)
    return (cache) => field(cache) === true || (field(cache) !== false && field(cache) !== '');
  if (operator === '~=') {
    const pattern = patternOf(value);
    return (cache) => pattern.test(String(field(cache)));
  }
  return (cache) => (String(field(cache)) === value) === (operator === '==');
}

function patternOf(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (cause) {
    throw new CaissonError('InvalidParameter', `invalid filter: ${text} is no regular expression`, { cause });
  }
}
