/** Filters that the `prune` routes share; what they mean in a table: `__test__/api/prune.spec.ts`. */
import { CaissonError } from '../../errdefs.ts';
import { parseGoDuration } from '../../goDuration.ts';
import { type Filters, labelsMatch } from './query.ts';
import { createdNs, parseTimestamp } from './timestamps.ts';

/** A date with as much of its time as is given; local without a zone. */
const DATE = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(\.\d{1,9})?)?)?)?(Z|[+-]\d\d:\d\d)?$/;

/** Nanoseconds since the epoch of a duration before now (`10m`), a date, or seconds. */
export function untilNs(text: string): bigint {
  const duration = /^\d+$/.test(text) ? undefined : parseGoDuration(text);
  if (duration !== undefined) return BigInt(Date.now()) * 1_000_000n - BigInt(duration);
  const [, day, hour = '00', minute = '00', second = '00', fraction = '', zone = ''] = DATE.exec(text) ?? [];
  const ms = Date.parse(`${day}T${hour}:${minute}:${second}${zone}`);
  if (!Number.isNaN(ms)) return BigInt(ms) * 1_000_000n + BigInt(fraction.slice(1).padEnd(9, '0'));
  const found = parseTimestamp('until', text);
  if (found === undefined) throw new CaissonError('InvalidParameter', 'invalid filter until: it is empty');
  return found;
}

/** `until` of a prune: whether it takes what was made at that time. */
export function madeUntil(filters: Filters): (created: string | null | undefined) => boolean {
  const [text, ...more] = filters.get('until') ?? [];
  if (more.length > 0) throw new CaissonError('InvalidParameter', 'more than one until filter specified');
  if (text === undefined) return () => true;
  const until = untilNs(text);
  return (created) => createdNs(created) <= until;
}

/** `label` and `label!`, each of which is met by what has all the labels that it names. */
export function labelsAllow(labels: Readonly<Record<string, string>>, filters: Filters): boolean {
  const unwanted = filters.get('label!') ?? [];
  return labelsMatch(labels, filters.get('label')) && (unwanted.length === 0 || !labelsMatch(labels, unwanted));
}
