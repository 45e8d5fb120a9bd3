/** `--filter name=value`, several times. */
import type { Filters } from '../client/index.ts';
import { invalidFlag } from './units.ts';

export function parseFilters(values: readonly string[]): Filters {
  const filters: Filters = {};
  for (const value of values) {
    const at = value.indexOf('=');
    if (at < 1) throw invalidFlag('--filter', value, 'invalid filter, must be of the form name=value');
    const name = value.slice(0, at).trim().toLowerCase();
    filters[name] = [...(filters[name] ?? []), value.slice(at + 1).trim()];
  }
  return filters;
}
