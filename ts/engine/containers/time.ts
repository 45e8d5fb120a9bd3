/** Times as the API shows them: RFC 3339 with nanoseconds; SQLite keeps them as they are. */
export function nowRfc3339(): string {
  const micros = process.hrtime.bigint() % 1_000_000n;
  return new Date().toISOString().replace('Z', `${String(micros).padStart(6, '0')}Z`);
}

/** Milliseconds since the epoch; the part below is dropped. */
export const toMs = (time: string): number => Date.parse(time.replace(/(\.\d{3})\d*/, '$1'));

const UNITS: [limit: number, seconds: number, name: string][] = [
  [1, 1, 'Less than a second'],
  [2, 1, '1 second'],
  [60, 1, 'seconds'],
  [120, 60, 'About a minute'],
  [3600, 60, 'minutes'],
  [5400, 3600, 'About an hour'],
  [48 * 3600, 3600, 'hours'],
  [14 * 86_400, 86_400, 'days'],
  [60 * 86_400, 7 * 86_400, 'weeks'],
  [730 * 86_400, 30 * 86_400, 'months'],
  [Number.POSITIVE_INFINITY, 365 * 86_400, 'years'],
];

/** Docker's words for a span: `5 minutes`, `About an hour`. */
export function humanDuration(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  const found = UNITS.find(([limit]) => seconds < limit) ?? UNITS[0];
  const [, unit = 1, name = ''] = found ?? [];
  if (/^(Less|1 |About)/.test(name)) return name;
  const count = unit === 3600 ? Math.round(seconds / unit) : Math.floor(seconds / unit);
  return `${count} ${name}`;
}
