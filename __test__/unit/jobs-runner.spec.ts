import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { exclusive, type JobKind, KindRegistry, lock, type Step } from '../../ts/engine/jobs/kinds.ts';
import { JobRunner } from '../../ts/engine/jobs/runner.ts';
import { Database } from '../../ts/graph/db.ts';
import { Graph } from '../../ts/graph/graph.ts';
import { createLogger } from '../../ts/log.ts';

interface Plan {
  id: string;
  as?: string;
}
type TestStep = Step<Plan, { sum?: number }>;

let dir: string;
let graph: Graph;
let registry: KindRegistry;
let runner: JobRunner;
let trace: string[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-runner-'));
  graph = new Graph(new Database(join(dir, 'graph.db')));
  registry = new KindRegistry();
  trace = [];
  runner = new JobRunner({
    db: graph.db,
    jobs: graph.jobs,
    registry,
    bootId: 'boot',
    log: createLogger('silent'),
    backoffMs: () => 3_600_000,
  });
});

afterEach(async () => {
  await runner.close();
  await graph.db.close();
  rmSync(dir, { recursive: true });
});

const step = (name: string, act: (plan: Plan) => unknown = () => undefined): TestStep => ({
  name,
  medium: 'disk',
  async do(plan) {
    trace.push(`${plan.id} ${name}`);
    await act(plan);
  },
  undo: (plan) => {
    trace.push(`${plan.id} undo ${name}`);
  },
});

const kind = (name: string, steps: TestStep[], rest: Partial<JobKind<Plan, { sum?: number }>> = {}) =>
  registry.register<Plan, { sum?: number }>({
    kind: name,
    subject: (plan) => plan.id,
    claims: (plan) => [
      lock(`c:${plan.id}`),
      ...(plan.as === undefined ? [] : [exclusive(`n:${plan.as}`, `${plan.as} is taken`)]),
    ],
    steps,
    commitPoint: steps.length,
    durable: false,
    ...rest,
  });

function gate() {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { open: resolve, passed: promise };
}

/** Lets everything that is ready to run, run. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const idle = (): void => {
  expect([graph.jobs.all(), graph.jobs.claims(), runner.unfinished()]).toEqual([[], [], []]);
};

test('steps run in order, share state, and write rows with their position', async () => {
  const positions: number[] = [];
  const add = (name: string, amount: number): TestStep => ({
    name,
    medium: 'disk',
    do: (_, state) => ({
      state: { sum: (state.sum ?? 0) + amount },
      rows: () => graph.meta.set(name, 'done'),
    }),
  });
  const look: TestStep = {
    name: 'look',
    medium: 'disk',
    do() {
      positions.push(...graph.jobs.all().map((row) => row.step));
      expect(graph.jobs.all()[0]?.state).toBe('{"sum":3}');
    },
  };
  const three = kind('three', [add('one', 1), add('two', 2), look], {
    begin: (plan) => ({ ...plan, id: `${plan.id}!` }),
    persist: ['sum'],
  });
  expect(await runner.run(three, { id: 'x' })).toEqual({ sum: 3 });
  expect(positions).toEqual([2]);
  expect(graph.meta.get('two')).toBe('done');
  idle();
});

test('what a power cut takes along does not wait for the disk; files and the end do', async () => {
  const written = gate();
  graph.db.durable = () => written.passed;
  const both = kind('both', [{ ...step('kernel'), medium: 'kernel' }, step('disk')], { commitPoint: 0, durable: true });
  const one = kind('kernel-only', [{ ...step('kernel'), medium: 'kernel' }], { commitPoint: 0, durable: true });
  const runs = [runner.run(both, { id: 'x' }), runner.run(one, { id: 'y' })];
  let ended = 0;
  for (const run of runs) void run.then(() => ended++);
  await settle();
  expect([trace, ended]).toEqual([['x kernel', 'y kernel'], 0]);
  written.open();
  await Promise.all(runs);
  expect([trace, ended]).toEqual([['x kernel', 'y kernel', 'x disk'], 2]);
  idle();
});

test('a refusal by begin leaves nothing and frees the claims', async () => {
  const refused = kind('refused', [step('a')], {
    begin() {
      graph.meta.set('x', 'half');
      throw new Error('not now');
    },
  });
  await expect(runner.run(refused, { id: 'x' })).rejects.toThrow('not now');
  expect(graph.meta.get('x')).toBeUndefined();
  expect(runner.isHeld('c:x')).toBe(false);
  idle();
});

describe('claims', () => {
  test('of one container are granted in the order of asking, of others at once', async () => {
    const first = gate();
    const slow = kind('slow', [step('hold', (plan) => (plan.as === 'slow' ? first.passed : undefined))]);
    const runs = [
      runner.run(slow, { id: 'x', as: 'slow' }),
      runner.run(slow, { id: 'x', as: '2' }),
      runner.run(slow, { id: 'y' }),
      runner.run(slow, { id: 'x', as: '3' }),
    ];
    await runs[2];
    expect(trace).toEqual(['x hold', 'y hold']);
    trace.length = 0;
    const order: string[] = [];
    runs.forEach((run, index) => void run.then(() => order.push(String(index))));
    first.open();
    await Promise.all(runs);
    expect(order).toEqual(['2', '0', '1', '3']);
    idle();
  });

  test('of a name are refused while another has it, also behind a wait', async () => {
    const held = gate();
    const make = kind('make', [step('hold', () => held.passed)]);
    const first = runner.run(make, { id: 'x', as: 'web' });
    await settle();
    await expect(runner.run(make, { id: 'y', as: 'web' })).rejects.toMatchObject({
      kind: 'Conflict',
      message: 'web is taken',
    });
    held.open();
    await first;
    await runner.run(make, { id: 'y', as: 'web' });
    idle();
  });

  test('are all or none: who waits for two does not keep one from others', async () => {
    const held = gate();
    const make = kind('make', [step('hold', (plan) => (plan.id === 'x' ? held.passed : undefined))]);
    const both = kind('both', [step('both')], { claims: () => [lock('c:x'), lock('c:y')] });
    const first = runner.run(make, { id: 'x' });
    const second = runner.run(both, { id: 'xy' });
    const third = runner.run(make, { id: 'y' });
    await settle();
    expect(trace).toEqual(['x hold']);
    held.open();
    await Promise.all([first, second, third]);
    expect(trace).toEqual(['x hold', 'xy both', 'y hold']);
    idle();
  });

  test('are given up by who is aborted, and the next is served', async () => {
    const held = gate();
    const make = kind('make', [step('hold', (plan) => (plan.id === 'x' ? held.passed : undefined))]);
    const both = kind('both', [step('both')], { claims: () => [lock('c:x'), lock('c:y')] });
    const first = runner.run(make, { id: 'x' });
    const abort = new AbortController();
    const second = runner.run(both, { id: 'xy' }, { signal: abort.signal });
    const third = runner.run(make, { id: 'y' });
    await settle();
    abort.abort();
    await expect(second).rejects.toMatchObject({ kind: 'Cancelled' });
    await third;
    held.open();
    await first;
    idle();
  });

  test('held by a lock serve the jobs that it is given to', async () => {
    const make = kind('make', [step('a')]);
    const held = await runner.lock(['c:x']);
    const outsider = runner.run(make, { id: 'x', as: 'out' });
    await runner.run(make, { id: 'x', as: 'in1' }, { lock: held });
    await runner.run(make, { id: 'x', as: 'in2' }, { lock: held });
    expect(runner.isHeld('c:x')).toBe(true);
    expect(trace).toHaveLength(2);
    held.release();
    await outsider;
    expect(trace).toHaveLength(3);
    idle();
  });
});

describe('failures', () => {
  const fail = (message: string) => () => {
    throw new Error(message);
  };

  test('below the commit point undo what ran, downwards, with the failed step', async () => {
    const failing = kind('failing', [step('a'), step('b', fail('b broke')), step('c')], {
      rollback: (plan) => graph.meta.set(plan.id, 'rolled back'),
    });
    await expect(runner.run(failing, { id: 'x' })).rejects.toThrow('b broke');
    expect(trace).toEqual(['x a', 'x b', 'x undo b', 'x undo a']);
    expect(graph.meta.get('x')).toBe('rolled back');
    idle();
  });

  test('of the rows of a step undo it too', async () => {
    const broken: TestStep = { ...step('b'), do: () => ({ rows: fail('rows broke') }) };
    const failing = kind('failing', [step('a'), broken]);
    await expect(runner.run(failing, { id: 'x' })).rejects.toThrow('rows broke');
    expect(trace).toEqual(['x a', 'x undo b', 'x undo a']);
    idle();
  });

  test('behind the commit point keep the job, block its object with the reason, and are retried by the next operation', async () => {
    let broken = true;
    const stop = kind('stop', [step('signal'), step('clean', () => broken && fail('busy')())], { commitPoint: 1 });
    await expect(runner.run(stop, { id: 'x' })).rejects.toThrow('busy');
    expect(runner.unfinished()).toMatchObject([{ kind: 'stop', subject: 'x', error: 'busy' }]);
    await expect(runner.run(stop, { id: 'x' })).rejects.toMatchObject({
      kind: 'Conflict',
      message: 'stop of x has not ended: busy',
    });
    expect(graph.jobs.all()).toMatchObject([{ error: 'busy', attempts: 2, step: 1 }]);
    broken = false;
    await runner.run(stop, { id: 'x' });
    expect(trace.filter((line) => line === 'x signal')).toHaveLength(2);
    idle();
  });

  test('of an undo keep the row, refuse who waits, and a new daemon tries again', async () => {
    let broken = true;
    const held = gate();
    const a: TestStep = { ...step('a'), undo: () => (broken ? fail('undo broke')() : undefined) };
    const failing = kind('failing', [a, step('b', () => held.passed.then(fail('b broke')))]);
    const first = runner.run(failing, { id: 'x' });
    const waiting = runner.run(failing, { id: 'x', as: 'w' });
    await settle();
    held.open();
    await expect(first).rejects.toThrow('b broke');
    await expect(waiting).rejects.toThrow('failing of x has not ended: undo broke');
    expect(graph.jobs.all()).toMatchObject([{ direction: 'undo', step: 0, error: 'undo broke' }]);

    await runner.close();
    broken = false;
    runner = new JobRunner({ db: graph.db, jobs: graph.jobs, registry, bootId: 'boot', log: createLogger('silent') });
    expect(await runner.recover()).toEqual({ undone: 1, finished: 0, failed: 0, underWay: 0 });
    idle();
  });

  test('that stay are retried after a delay', async () => {
    let broken = true;
    const retried = gate();
    runner = new JobRunner({
      db: graph.db,
      jobs: graph.jobs,
      registry,
      bootId: 'boot',
      log: createLogger('silent'),
      backoffMs: () => 1,
    });
    const clean = step('clean', () => {
      if (broken) throw new Error('busy');
      retried.open();
    });
    const stop = kind('stop', [clean], { commitPoint: 0 });
    const run = runner.run(stop, { id: 'x' });
    await expect(run).rejects.toThrow('busy');
    broken = false;
    await retried.passed;
    await runner.run(stop, { id: 'x' });
    idle();
  });

  test('leave a lent lock with the job that did not end', async () => {
    const stop = kind('stop', [step('clean', fail('busy'))], { commitPoint: 0 });
    const held = await runner.lock(['c:x']);
    await expect(runner.run(stop, { id: 'x' }, { lock: held })).rejects.toThrow('busy');
    held.release();
    expect(runner.isHeld('c:x')).toBe(true);
    await expect(runner.lock(['c:x'])).rejects.toThrow('stop of x has not ended');
  });
});

describe('aborts', () => {
  test('below the commit point undo', async () => {
    const abort = new AbortController();
    const job = kind('job', [step('a', () => abort.abort()), step('b')]);
    await expect(runner.run(job, { id: 'x' }, { signal: abort.signal })).rejects.toMatchObject({
      kind: 'Cancelled',
      message: 'job of x was cancelled',
    });
    expect(trace).toEqual(['x a', 'x undo b', 'x undo a']);
    idle();
  });

  test('behind the commit point come too late', async () => {
    const abort = new AbortController();
    const job = kind('job', [step('a', () => abort.abort()), step('b')], { commitPoint: 1 });
    await runner.run(job, { id: 'x' }, { signal: abort.signal });
    expect(trace).toEqual(['x a', 'x b']);
    idle();
  });
});

test('a recovery that takes longer than its budget goes on behind, with its claims', async () => {
  const held = gate();
  const stop = kind('stop', [step('wait', () => held.passed)], { commitPoint: 0 });
  graph.jobs.insert(
    {
      id: 'left',
      kind: 'stop',
      subject: 'x',
      plan: '{"id":"x"}',
      state: '{}',
      step: 0,
      direction: 'do',
      bootId: 'boot',
      error: null,
      attempts: 0,
      createdMs: 1,
    },
    ['c:x'],
  );
  expect(await runner.recover(1)).toEqual({ undone: 0, finished: 0, failed: 0, underWay: 1 });
  expect(runner.unfinished()).toMatchObject([{ id: 'left', error: null }]);
  const next = runner.run(stop, { id: 'x' });
  await settle();
  expect(trace).toEqual(['x wait']);
  held.open();
  await next;
  idle();
});

test('closing waits for jobs under way and refuses new ones and those that wait', async () => {
  const held = gate();
  const make = kind('make', [step('hold', () => held.passed), step('end')]);
  const first = runner.run(make, { id: 'x' });
  await settle();
  const second = runner.run(make, { id: 'x' });
  await settle();
  const closed = runner.close();
  await expect(second).rejects.toMatchObject({ kind: 'Unavailable' });
  await expect(runner.run(make, { id: 'y' })).rejects.toMatchObject({ kind: 'Unavailable' });
  held.open();
  await closed;
  await first;
  expect(trace).toEqual(['x hold', 'x end']);
});

test('a registry refuses what cannot work', () => {
  kind('twice', [step('a')]);
  expect(() => kind('twice', [step('a')])).toThrow('twice');
  expect(() => kind('none', [])).toThrow('0 steps');
  expect(() => kind('far', [step('a')], { commitPoint: 2 })).toThrow('commit point 2');
  expect(() => kind('same', [step('a'), step('a')])).toThrow('two steps');
});
