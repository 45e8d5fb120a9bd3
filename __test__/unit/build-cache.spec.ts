/** What `builder prune` takes: filters, age, and the space that may be kept. */
import { describe, expect, it } from 'vitest';
import type { BuildCache } from '../../ts/engine/builder/builds.ts';
import { anyOf, chosen, type PruneRequest } from '../../ts/engine/builder/cacheFilter.ts';

const HOUR_MS = 3_600_000;

const EVERYTHING: PruneRequest = {
  filters: [],
  unusedForMs: 0,
  reservedSpace: 0,
  maxUsedSpace: 0,
  minFreeSpace: 0,
};

const cache = (id: string, hoursAgo: number, more: Partial<BuildCache> = {}): BuildCache => {
  const used = new Date(Date.now() - hoursAgo * HOUR_MS);
  return { id, type: 'regular', description: `RUN ${id}`, bytes: 10, created: used, used, inUse: false, ...more };
};

const CACHES = [
  cache('new', 1),
  cache('old', 9, { description: 'COPY files' }),
  cache('mount', 5, { type: 'exec.cachemount' }),
  cache('held', 7, { inUse: true }),
];

const ids = (caches: readonly BuildCache[]): string => caches.map(({ id }) => id).join(' ');

describe('the build cache', () => {
  it.each<[what: string, request: Partial<typeof EVERYTHING>, taken: string]>([
    ['all that nothing uses, the oldest first', {}, 'old mount new'],
    ['what was not used for four hours', { unusedForMs: 4 * HOUR_MS }, 'old mount'],
    ['until so much is left', { reservedSpace: 25 }, 'old mount'],
    ['nothing, where no more than that is there', { reservedSpace: 40 }, ''],
    ['until no more than that is there', { maxUsedSpace: 30 }, 'old'],
    ['until so much is free, with 100 bytes now', { minFreeSpace: 115 }, 'old mount'],
    ['no more than is free, but for what is reserved', { minFreeSpace: 1000, reservedSpace: 30 }, 'old'],
    ['a type', { filters: ['type==exec.cachemount'] }, 'mount'],
    ['all of several', { filters: ['type==regular,description~=^RUN'] }, 'new'],
    ['any of several', { filters: ['id~=^n', 'id==old'] }, 'old new'],
    ['what is not', { filters: ['type!=regular'] }, 'mount'],
    ['nothing by a label, which none has', { filters: ['label==a=b'] }, ''],
    ['all by another label', { filters: ['label!=a=b'] }, 'old mount new'],
    ['a field alone', { filters: ['mutable'] }, 'mount'],
    ['an empty filter', { filters: [''] }, 'old mount new'],
  ])('gives %s', (_what, request, taken) => {
    expect(ids(chosen(CACHES, { ...EVERYTHING, ...request }, 100))).toBe(taken);
  });

  it('refuses what it does not know', () => {
    expect(() => anyOf(['colour==red'])).toThrow('invalid filter "colour==red"');
    expect(() => anyOf(['id~=('])).toThrow('( is no regular expression');
  });
});
