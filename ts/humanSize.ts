/** `1.5GB`: powers of 1000, as docker shows sizes: three digits in lists, four in totals and in progress. */
export function humanSize(bytes: number, digits: 3 | 4 = 3): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let at = 0;
  for (; value >= 1000 && at < units.length - 1; at++) value /= 1000;
  return `${Number(value.toPrecision(digits))}${units[at]}`;
}
