/**
 * The net under the journal: after recovery, what the kernel or the disk holds is compared with what the rows say, both
 * ways. Names that unfinished jobs have planned belong to those jobs and are left alone.
 */
export interface Difference {
  /** There, but no row and no job knows it: remove it. */
  orphans: string[];
  /** A row says it is there, but it is not: the row is wrong (a container that is not running) or data is lost. */
  missing: string[];
}

export function difference(
  found: Iterable<string>,
  expected: Iterable<string>,
  planned: Iterable<string> = [],
): Difference {
  const there = new Set(found);
  const wanted = new Set(expected);
  const spokenFor = new Set(planned);
  return {
    orphans: [...there].filter((name) => !wanted.has(name) && !spokenFor.has(name)),
    missing: [...wanted].filter((name) => !there.has(name) && !spokenFor.has(name)),
  };
}
