/** Queries as the engine takes them. */
import type { Filters } from './types.ts';

/** Absent where nothing is filtered. */
export const encodeFilters = (filters: Filters | undefined): string | undefined =>
  filters === undefined || Object.keys(filters).length === 0 ? undefined : JSON.stringify(filters);

/** `linux/arm64/v8` as the JSON that newer operations take. */
export function encodePlatform(platform: string | undefined): string | undefined {
  if (platform === undefined) return undefined;
  const [os, architecture, variant] = platform.split('/');
  return JSON.stringify({ os, architecture, ...(variant === undefined ? {} : { variant }) });
}
