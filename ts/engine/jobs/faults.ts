import type { KindRegistry } from './kinds.ts';

/**
 * Crash points, named `<kind>.<step>:before|after|undone`: right before a step's `do`, between its `do` and the
 * transaction that records it, and between its `undo` and the transaction that records that.
 *
 * `CAISSON_CRASH_AT=<point>` makes the daemon kill itself there; `CAISSON_FAIL_AT=<point>` makes the step fail there, once.
 * Both for tests: without them nothing is built or compared; with one of them recovery logs the list of points.
 */
export class Faults {
  readonly #crashAt: string | undefined;
  #failAt: string | undefined;

  constructor(crashAt: string | undefined, failAt: string | undefined) {
    this.#crashAt = crashAt;
    this.#failAt = failAt;
  }

  static fromEnvironment(environment: NodeJS.ProcessEnv): Faults | undefined {
    const { CAISSON_CRASH_AT: crashAt, CAISSON_FAIL_AT: failAt } = environment;
    return crashAt === undefined && failAt === undefined ? undefined : new Faults(crashAt, failAt);
  }

  reached(kind: string, step: string, moment: 'before' | 'after' | 'undone'): void {
    const point = `${kind}.${step}:${moment}`;
    if (point === this.#crashAt) process.kill(process.pid, 'SIGKILL');
    if (point !== this.#failAt) return;
    this.#failAt = undefined;
    throw new Error(`failed at ${point} as CAISSON_FAIL_AT asks`);
  }
}

/** Every point that an undisturbed run of each kind passes. */
export function crashPoints(registry: KindRegistry): string[] {
  return registry
    .all()
    .flatMap(({ kind, steps }) => steps.flatMap(({ name }) => [`${kind}.${name}:before`, `${kind}.${name}:after`]));
}

/** Every point that a run passes only when it fails before its commit point. */
export function undoPoints(registry: KindRegistry): string[] {
  return registry
    .all()
    .flatMap(({ kind, steps, commitPoint }) => steps.slice(0, commitPoint).map(({ name }) => `${kind}.${name}:undone`));
}
