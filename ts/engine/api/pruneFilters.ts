/** Filters that the `prune` routes share. */
import { CaissonError } from '../../errdefs.ts';
import type { Filters } from './query.ts';

/** `until`: only what was made before; seconds, a duration before now (`10m`), or RFC 3339. */
export function pruneUntil(filters: Filters): number {
  const text = filters.get('until')?.[0];
  if (text === undefined) return Number.POSITIVE_INFINITY;
  const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
    const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
    return Date.now() - parts.reduce((sum, [, count, unit]) => sum + Number(count) * (units[unit ?? 's'] ?? 0), 0);
  }
  const parsed = Date.parse(text);
  if (Number.isNaN(parsed)) throw new CaissonError('InvalidParameter', `invalid value for filter until: ${text}`);
  return parsed;
}

/** `label` and `label!`. */
export function labelsAllow(labels: Record<string, string>, filters: Filters): boolean {
  const has = (wanted: string): boolean => {
    const at = wanted.indexOf('=');
    return at < 0 ? Object.hasOwn(labels, wanted) : labels[wanted.slice(0, at)] === wanted.slice(at + 1);
  };
  return (filters.get('label') ?? []).every(has) && !(filters.get('label!') ?? []).some(has);
}
