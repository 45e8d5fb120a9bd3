/** Points in time as clients send them: `seconds`, `seconds.nanoseconds` or RFC 3339. */
import { CaissonError } from '../../errdefs.ts';

/** Nanoseconds since the epoch; undefined for an absent value. */
export function parseTimestamp(name: string, value: string): bigint | undefined {
  if (value === '') return undefined;
  const unix = /^(-?\d{1,12})(?:\.(\d{1,9})\d*)?$/.exec(value);
  if (unix) return BigInt(unix[1] as string) * 1_000_000_000n + BigInt((unix[2] ?? '').padEnd(9, '0'));
  const date = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(value);
  const ms = date ? Date.parse(`${date[1]}${date[3]}`) : Number.NaN;
  if (date === null || Number.isNaN(ms))
    throw new CaissonError('InvalidParameter', `invalid value ${JSON.stringify(value)} for ${name}: not a timestamp`);
  return BigInt(ms) * 1_000_000n + BigInt((date[2] ?? '').padEnd(9, '0'));
}

/** Nanoseconds since the epoch of a date that an image or object was made with; 0 when it has none. */
export function createdNs(created: string | null | undefined): bigint {
  const ms = Date.parse(created ?? '');
  const [, fraction = ''] = /\.(\d{1,9})/.exec(created ?? '') ?? [];
  return Number.isNaN(ms) ? 0n : BigInt(Math.floor(ms / 1000)) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
}
