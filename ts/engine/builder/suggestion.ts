/** The name that somebody may have meant: at most two signs away from what was written. */
export function suggestion(written: string, among: readonly string[]): string | undefined {
  if (among.includes(written)) return undefined;
  const close = among.map((name) => ({ name, distance: distance(written, name) })).filter((one) => one.distance < 3);
  return close.sort((a, b) => a.distance - b.distance)[0]?.name;
}

/** Levenshtein's: signs that are put in, left out or replaced. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [i, sign] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++)
      next.push(Math.min((row[j] ?? 0) + (sign === b[j] ? 0 : 1), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    row = next;
  }
  return row.at(-1) ?? 0;
}
