import { expect, test } from 'vitest';
import { abortable, Semaphore, Shared } from '../../ts/async.ts';

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a semaphore lets so many run, in order, and goes on after a failure', async () => {
  const semaphore = new Semaphore(2);
  const started: number[] = [];
  const gates = [0, 1, 2, 3].map(() => Promise.withResolvers<void>());
  const runs = gates.map((gate, index) =>
    semaphore.run(async () => {
      started.push(index);
      await gate.promise;
      return index;
    }),
  );
  await settle();
  expect(started).toEqual([0, 1]);
  gates[1]?.reject(new Error('broke'));
  await expect(runs[1]).rejects.toThrow('broke');
  await settle();
  expect(started).toEqual([0, 1, 2]);
  for (const gate of gates) gate.resolve();
  expect((await Promise.allSettled(runs)).map((run) => run.status)).toEqual([
    'fulfilled',
    'rejected',
    'fulfilled',
    'fulfilled',
  ]);
  expect(started).toEqual([0, 1, 2, 3]);
});

test('a limit that has grown lets more run as soon as one has ended, a smaller one fewer', async () => {
  let limit = 1;
  const semaphore = new Semaphore(() => limit);
  const started: number[] = [];
  const gates = [0, 1, 2, 3].map(() => Promise.withResolvers<void>());
  const runs = gates.map((gate, index) =>
    semaphore.run(async () => {
      started.push(index);
      await gate.promise;
    }),
  );
  limit = 2;
  gates[0]?.resolve();
  await settle();
  expect(started).toEqual([0, 1, 2]);
  limit = 1;
  gates[1]?.resolve();
  await settle();
  expect(started).toEqual([0, 1, 2]);
  for (const gate of gates) gate.resolve();
  await Promise.all(runs);
  expect(started).toEqual([0, 1, 2, 3]);
});

test('abortable gives up with the reason, before and during', async () => {
  const abort = new AbortController();
  const waiting = abortable(new Promise(() => undefined), abort.signal);
  abort.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  await expect(abortable(Promise.resolve(1), abort.signal)).rejects.toThrow('enough');
  expect(await abortable(Promise.resolve(1), new AbortController().signal)).toBe(1);
});

test('shared work is done once per key while it is under way', async () => {
  const shared = new Shared<number>();
  let runs = 0;
  const work = async (): Promise<number> => {
    await settle();
    return ++runs;
  };
  expect(await Promise.all([shared.run('a', work), shared.run('a', work), shared.run('b', work)])).toEqual([1, 1, 2]);
  expect(await shared.run('a', work)).toBe(3);
  const fails = () => Promise.reject(new Error('no'));
  await expect(shared.run('a', fails)).rejects.toThrow('no');
  expect(await shared.run('a', work)).toBe(4);
});
