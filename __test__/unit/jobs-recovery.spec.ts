import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { crashPoints, undoPoints } from '../../ts/engine/jobs/faults.ts';
import { KindRegistry } from '../../ts/engine/jobs/kinds.ts';
import type { Graph } from '../../ts/graph/graph.ts';
import { files, openToy, type Toy, toyKind } from './jobs-toy.ts';

// Each test starts programs; a machine under load takes its time.
vi.setConfig({ testTimeout: 60_000 });

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-jobs-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

function child(environment: Record<string, string>, mode = 'run') {
  const program = join(import.meta.dirname, 'jobs-toy.ts');
  const result = spawnSync(process.execPath, [program, dir, mode], {
    env: { PATH: process.env['PATH'], ...environment },
    encoding: 'utf8',
  });
  return { signal: result.signal, output: result.stdout.trim(), errors: result.stderr };
}

async function withToy(bootId: string, check: (toy: Toy) => Promise<void> | void): Promise<void> {
  const toy = openToy(dir, bootId);
  try {
    await check(toy);
  } finally {
    await toy.runner.close();
    await toy.graph.db.close();
  }
}

const registry = new KindRegistry();
// The points depend on the shape of a kind only: its steps are not run here.
registry.register(toyKind({} as Graph));
const committed = (point: string): boolean => /\.c:/.test(point);
const rows = ({ graph }: Toy): unknown[] => [graph.jobs.all(), graph.jobs.claims()];

test('the points are those of the kind', () => {
  expect(crashPoints(registry)).toEqual(
    ['a', 'k', 'b', 'c'].flatMap((step) => [`toy.${step}:before`, `toy.${step}:after`]),
  );
  expect(undoPoints(registry)).toEqual(['toy.a:undone', 'toy.k:undone', 'toy.b:undone']);
});

test('without a point the job is done', async () => {
  expect(child({})).toMatchObject({ signal: null, output: 'ok' });
  await withToy('boot', async (toy) => {
    expect(await toy.runner.recover()).toEqual({ undone: 0, finished: 0, failed: 0, underWay: 0 });
    expect(files({ name: 'x', dir })).toEqual(['a', 'k', 'b', 'c']);
    expect(rows(toy)).toEqual([[], []]);
  });
});

describe.each(crashPoints(registry))('killed at %s', (point) => {
  test('a restart leaves all or nothing, and the name free again', async () => {
    expect(child({ CAISSON_CRASH_AT: point })).toMatchObject({ signal: 'SIGKILL', output: '' });
    await withToy('boot', async (toy) => {
      expect(toy.graph.jobs.all()).toHaveLength(1);
      const report = await toy.runner.recover();
      expect(report).toEqual(
        committed(point)
          ? { undone: 0, finished: 1, failed: 0, underWay: 0 }
          : { undone: 1, finished: 0, failed: 0, underWay: 0 },
      );
      expect(files({ name: 'x', dir })).toEqual(committed(point) ? ['a', 'k', 'b', 'c'] : []);
      expect(toy.graph.meta.get('x')).toBe(committed(point) ? 'exists' : 'rolled back');
      expect(rows(toy)).toEqual([[], []]);
      if (!committed(point)) await toy.runner.run(toy.kind, { name: 'x', dir });
      expect(files({ name: 'x', dir })).toEqual(['a', 'k', 'b', 'c']);
    });
  });

  test('after a reboot kernel steps are left alone', async () => {
    child({ CAISSON_CRASH_AT: point });
    const before = files({ name: 'x', dir });
    await withToy('another boot', async (toy) => {
      await toy.runner.recover();
      const left = before.includes('k') ? ['k'] : [];
      expect(files({ name: 'x', dir })).toEqual(committed(point) ? ['a', 'k', 'b', 'c'] : left);
      expect(rows(toy)).toEqual([[], []]);
    });
  });
});

describe.each(undoPoints(registry))('killed at %s', (point) => {
  test('a restart goes on undoing', async () => {
    const killed = child({ CAISSON_FAIL_AT: 'toy.b:after', CAISSON_CRASH_AT: point });
    expect(killed).toMatchObject({ signal: 'SIGKILL' });
    await withToy('boot', async (toy) => {
      expect(toy.graph.jobs.all()).toMatchObject([{ direction: 'undo' }]);
      expect(await toy.runner.recover()).toEqual({ undone: 1, finished: 0, failed: 0, underWay: 0 });
      expect(files({ name: 'x', dir })).toEqual([]);
      expect(toy.graph.meta.get('x')).toBe('rolled back');
      expect(rows(toy)).toEqual([[], []]);
    });
  });
});

test('a recovery that is killed itself is recovered by the next', async () => {
  child({ CAISSON_CRASH_AT: 'toy.b:after' });
  expect(child({ CAISSON_CRASH_AT: 'toy.k:undone' }, 'recover')).toMatchObject({ signal: 'SIGKILL' });
  await withToy('boot', async (toy) => {
    expect(await toy.runner.recover()).toEqual({ undone: 1, finished: 0, failed: 0, underWay: 0 });
    expect(files({ name: 'x', dir })).toEqual([]);
  });
});

test.each(crashPoints(registry).filter((point) => !committed(point)))('a failure at %s undoes all', async (point) => {
  expect(child({ CAISSON_FAIL_AT: point }).output).toBe(`Error: failed at ${point} as CAISSON_FAIL_AT asks`);
  await withToy('boot', (toy) => {
    expect(files({ name: 'x', dir })).toEqual([]);
    expect(rows(toy)).toEqual([[], []]);
  });
});

test('a job of an unknown kind keeps its claims and says so', async () => {
  child({ CAISSON_CRASH_AT: 'toy.a:after' });
  await withToy('boot', async (toy) => {
    toy.graph.db.prepare("UPDATE job SET kind = 'newer'").run();
    expect(await toy.runner.recover()).toEqual({ undone: 0, finished: 0, failed: 1, underWay: 0 });
    expect(toy.runner.unfinished()).toMatchObject([{ kind: 'newer', error: expect.stringContaining('newer') }]);
    await expect(toy.runner.run(toy.kind, { name: 'x', dir })).rejects.toThrow('newer of x has not ended');
  });
});
