/**
 * A toy kind whose objects are files in one directory: `a` (disk), `k` (kernel), `b` (disk), commit point, `c` (disk).
 * Run as a program it does one job in a database and prints `ok` or the error, so that tests can kill it at any point.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Faults } from '../../ts/engine/jobs/faults.ts';
import { exclusive, type JobKind, KindRegistry, lock, type Step } from '../../ts/engine/jobs/kinds.ts';
import { JobRunner } from '../../ts/engine/jobs/runner.ts';
import { Database } from '../../ts/graph/db.ts';
import { Graph } from '../../ts/graph/graph.ts';
import { createLogger } from '../../ts/log.ts';

export interface ToyPlan {
  name: string;
  dir: string;
}

export interface ToyState {
  made: string[];
}

export function toyKind(graph: Graph): JobKind<ToyPlan, ToyState> {
  const path = (plan: ToyPlan, what: string): string => join(plan.dir, `${plan.name}.${what}`);
  const file = (name: string, medium: 'kernel' | 'disk'): Step<ToyPlan, ToyState> => ({
    name,
    medium,
    do(plan, state) {
      writeFileSync(path(plan, name), '');
      return { state: { made: [...(state.made ?? []), name] }, rows: () => graph.meta.set(path(plan, name), 'made') };
    },
    undo(plan) {
      rmSync(path(plan, name), { force: true });
      return () => graph.meta.set(path(plan, name), 'undone');
    },
  });
  return {
    kind: 'toy',
    subject: (plan) => plan.name,
    claims: (plan) => [lock(`toy:${plan.name}`), exclusive(`name:${plan.name}`, `${plan.name} is taken`)],
    begin(plan) {
      if (graph.meta.get(plan.name) === 'exists') throw new Error(`${plan.name} exists`);
      graph.meta.set(plan.name, 'exists');
    },
    rollback: (plan) => graph.meta.set(plan.name, 'rolled back'),
    steps: [file('a', 'disk'), file('k', 'kernel'), file('b', 'disk'), file('c', 'disk')],
    commitPoint: 3,
    durable: true,
    persist: ['made'],
  };
}

export interface Toy {
  graph: Graph;
  registry: KindRegistry;
  kind: JobKind<ToyPlan, ToyState>;
  runner: JobRunner;
}

export function openToy(dir: string, bootId: string, faults?: Faults): Toy {
  const graph = new Graph(new Database(join(dir, 'graph.db')));
  const registry = new KindRegistry();
  const kind = registry.register(toyKind(graph));
  const runner = new JobRunner({
    db: graph.db,
    jobs: graph.jobs,
    registry,
    bootId,
    log: createLogger('silent'),
    faults,
  });
  return { graph, registry, kind, runner };
}

/** Which of the toy's files are there. */
export const files = (plan: ToyPlan): string[] =>
  ['a', 'k', 'b', 'c'].filter((what) => existsSync(join(plan.dir, `${plan.name}.${what}`)));

if (process.argv[1] === import.meta.filename) {
  const [dir = '', mode] = process.argv.slice(2);
  const { runner, kind } = openToy(dir, 'boot', Faults.fromEnvironment(process.env));
  const work = mode === 'recover' ? runner.recover() : runner.run(kind, { name: 'x', dir });
  await work.then(
    () => console.log('ok'),
    (error: unknown) => console.log(String(error)),
  );
}
