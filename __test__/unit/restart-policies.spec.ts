/**
 * Restart policies: every policy against every way to end, with the answers of dockerd 28.5.2 (measured), but for two:
 * containers survive the daemon here, and `on-failure` does not start what a user has stopped when the daemon comes back,
 * as Docker documents it and does not do it.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeEngine } from '../helpers/fakeEngine.ts';

const POLICIES = {
  no: { Name: 'no' },
  'on-failure': { Name: 'on-failure' },
  'on-failure:2': { Name: 'on-failure', MaximumRetryCount: 2 },
  always: { Name: 'always' },
  'unless-stopped': { Name: 'unless-stopped' },
};
type Policy = keyof typeof POLICIES;

let engine: FakeEngine;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  engine = await new FakeEngine().boot();
});

afterEach(async () => {
  vi.useRealTimers();
  await engine[Symbol.asyncDispose]();
});

const state = (id: string) => engine.containers.find(id);

/** Work of the database and the journal goes on while the clock stands. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

async function started(policy: Policy, cmd: string[] = ['run']): Promise<string> {
  const id = await engine.create(cmd, { NetworkMode: 'none', RestartPolicy: POLICIES[policy] });
  await engine.containers.start(id).catch(() => undefined);
  return id;
}

const ends = (code: number) => async (policy: Policy) => {
  const id = await started(policy);
  engine.fake.end(id, code);
  await until(() => state(id).status !== 'running');
  return id;
};

const stopped = async (policy: Policy): Promise<string> => {
  const id = await started(policy);
  await engine.containers.stop(id, { timeoutS: 0 });
  return id;
};

/** Each makes a container, lets something happen to it, and gives its id. */
const FATES: Record<string, (policy: Policy) => Promise<string>> = {
  'exit 0': ends(0),
  'exit 1': ends(1),
  stop: stopped,
  kill: async (policy) => {
    const id = await started(policy);
    await engine.containers.kill(id, 'KILL');
    return id;
  },
  'daemon killed while it runs': async (policy) => {
    const id = await started(policy);
    engine.fake.found.set(id, { status: 'running', execs: [] });
    await engine.boot();
    return id;
  },
  'daemon killed when stopped': async (policy) => {
    const id = await stopped(policy);
    await engine.boot();
    return id;
  },
  'machine restarted while it runs': async (policy) => {
    const id = await started(policy);
    engine.fake.containers.clear();
    await engine.boot('boot-2');
    return id;
  },
  'start failed': (policy) => started(policy, ['absent']),
};

type Row = [fate: string, status: Record<Policy, string>];
const all = (status: string): Record<Policy, string> =>
  Object.fromEntries(Object.keys(POLICIES).map((policy) => [policy, status])) as Record<Policy, string>;

/** Status right after, before any delay has passed. */
const TABLE: Row[] = [
  ['exit 0', { ...all('exited'), always: 'restarting', 'unless-stopped': 'restarting' }],
  ['exit 1', { ...all('restarting'), no: 'exited' }],
  ['stop', all('exited')],
  ['kill', all('exited')],
  ['daemon killed while it runs', all('running')],
  ['daemon killed when stopped', { ...all('exited'), always: 'running' }],
  ['machine restarted while it runs', { ...all('running'), no: 'exited' }],
  ['start failed', all('created')],
];
const CELLS = TABLE.flatMap(([fate, row]) =>
  (Object.entries(row) as [Policy, string][]).map(([policy, status]) => [policy, fate, status] as const),
);

describe('the table', () => {
  it.each(CELLS)('%s: %s → %s', async (policy, fate, expected) => {
    const id = await FATES[fate]?.(policy);
    if (id === undefined) throw new Error(`no such fate: ${fate}`);
    const atOnce = { ...state(id) };
    // what is due at once (a policy that applies with the daemon's start) or after the first delay
    await vi.advanceTimersByTimeAsync(100);
    const runs = expected === 'running' || expected === 'restarting';
    await until(() => (state(id).status === 'running') === runs);
    if (expected !== 'running') expect(atOnce.status).toBe(expected);
    expect(state(id).restartCount).toBe(expected === 'restarting' ? 1 : 0);
    await vi.advanceTimersByTimeAsync(100_000);
    expect(state(id).status).toBe(runs ? 'running' : expected);
  });
});

describe('the delay', () => {
  /** Lets the container end again and again, and measures each wait in steps of 10 ms. */
  async function delays(id: string, count: number, ranMs = 0): Promise<number[]> {
    const measured: number[] = [];
    for (let run = 0; run < count; run++) {
      await vi.advanceTimersByTimeAsync(ranMs);
      engine.fake.end(id, 1);
      await until(() => state(id).status === 'restarting');
      let waited = 0;
      for (; engine.fake.containers.get(id)?.started !== true || state(id).status !== 'running'; waited += 10) {
        await vi.advanceTimersByTimeAsync(10);
        if (vi.getTimerCount() === 0) await until(() => state(id).status === 'running');
      }
      measured.push(waited);
    }
    return measured;
  }

  it('doubles from 100 ms up to a minute', async () => {
    const id = await started('always');
    expect(await delays(id, 12)).toEqual([
      100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000,
    ]);
    expect(state(id).restartCount).toBe(12);
  });

  it('begins anew when the container has run for 10 s, whatever the time of day does', async () => {
    const id = await started('always');
    expect(await delays(id, 3)).toEqual([100, 200, 400]);
    vi.setSystemTime(Date.now() - 3_600_000);
    expect(await delays(id, 2, 10_000)).toEqual([100, 100]);
    expect(await delays(id, 1, 9_980)).toEqual([200]);
  });

  it('begins anew with a start by the user', async () => {
    const id = await started('always');
    await delays(id, 3);
    await engine.containers.restart(id, { timeoutS: 0 });
    expect(state(id).restartCount).toBe(0);
    expect(await delays(id, 1)).toEqual([100]);
  });
});

describe('between two runs', () => {
  const waiting = async (): Promise<string> => {
    const id = await started('always');
    engine.fake.end(id, 1);
    await until(() => state(id).status === 'restarting');
    return id;
  };

  it.each([
    ['stop', (id: string) => engine.containers.stop(id, {})],
    ['kill', (id: string) => engine.containers.kill(id, 'TERM')],
  ])('%s calls the next one off', async (_, end) => {
    const id = await waiting();
    const ended = engine.containers.wait(id, 'not-running', new AbortController().signal);
    await end(id);
    expect(await ended).toEqual({ exitCode: 1 });
    await vi.advanceTimersByTimeAsync(100_000);
    expect(state(id)).toMatchObject({ status: 'exited', manuallyStopped: true, restartCount: 0 });
  });

  it('a stop that comes when the next one is starting ends that one', async () => {
    const id = await waiting();
    vi.advanceTimersByTime(100);
    await engine.containers.stop(id, { timeoutS: 0 });
    await vi.advanceTimersByTimeAsync(100_000);
    expect(state(id)).toMatchObject({ status: 'exited', manuallyStopped: true });
  });

  it('it is not removed without force, and with force does not come back', async () => {
    const id = await waiting();
    await expect(engine.containers.remove(id, { force: false, volumes: false })).rejects.toThrow('is restarting');
    await engine.containers.remove(id, { force: true, volumes: false });
    await vi.advanceTimersByTimeAsync(100_000);
    expect(engine.graph.containers.get(id)).toBeUndefined();
  });

  it('pause and exec say why not', async () => {
    const id = await waiting();
    await expect(engine.containers.pause(id)).rejects.toThrow('is restarting, wait until the container is running');
    await expect(engine.containers.execs.create(id, { Cmd: ['x'] })).rejects.toThrow('is restarting, wait until');
  });

  it('a policy that no longer wants it calls it off when its time has come', async () => {
    const id = await waiting();
    const ended = engine.containers.wait(id, 'not-running', new AbortController().signal);
    await engine.containers.updater.update(id, { RestartPolicy: { Name: 'no' } });
    await vi.advanceTimersByTimeAsync(100);
    expect(await ended).toEqual({ exitCode: 1 });
    expect(state(id).status).toBe('exited');
  });

  it('the next daemon goes on', async () => {
    const id = await waiting();
    await engine.boot();
    await vi.advanceTimersByTimeAsync(0);
    await until(() => state(id).status === 'running');
    expect(state(id).restartCount).toBe(1);
  });
});

it('on-failure:2 gives up after two, and tells who waits', async () => {
  const id = await started('on-failure:2');
  const ended = engine.containers.wait(id, 'not-running', new AbortController().signal);
  for (const delay of [100, 200]) {
    engine.fake.end(id, 7);
    await until(() => state(id).status === 'restarting');
    await vi.advanceTimersByTimeAsync(delay);
    await until(() => state(id).status === 'running');
  }
  engine.fake.end(id, 7);
  expect(await ended).toEqual({ exitCode: 7 });
  expect(state(id)).toMatchObject({ status: 'exited', exitCode: 7, restartCount: 2 });
});

it('a restart by the user that was waiting for the end goes on with the next daemon', async () => {
  const id = await started('no', ['stubborn']);
  void engine.containers.restart(id, { timeoutS: -1 });
  await until(() => engine.fake.calls.includes('signal 15'));
  engine.fake.found.set(id, { status: 'running', execs: [] });
  await engine.boot();
  engine.fake.end(id, 0);
  await until(() => state(id).status !== 'running');
  await vi.advanceTimersByTimeAsync(0);
  await until(() => state(id).status === 'running');
  expect(state(id)).toMatchObject({ restartCount: 0, manuallyStopped: false });
});
