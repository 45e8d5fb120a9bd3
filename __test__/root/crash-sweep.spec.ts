/**
 * SIGKILL of the daemon at every crash point of every job kind, enumerated by the daemon itself. After each: the next
 * daemon recovers by itself, no job and nothing of the kernel or the disk is left over, every container is either whole or
 * not there, and what was cut off works when it is asked for again. Then the same points, where the step fails instead.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import SqliteConnection from 'better-sqlite3';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { leaks } from '../helpers/oracle.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'sweep.test/busybox:latest';
const SUBNET = '10.198.7.0/24';
const GATEWAY = ' 10.198.7.1/24';
const skip = missing('root', 'build', 'docker', 'busybox', 'registry');

/** What the registry of a daemon holds. */
async function listPoints(): Promise<string[]> {
  await using daemon = new TestDaemon();
  await daemon.start({ CAISSON_CRASH_AT: 'nowhere' });
  const line = daemon.logs.split('\n').find((text) => text.includes('"crashPoints"'));
  return (JSON.parse(line ?? '{}') as { crashPoints?: string[] }).crashPoints ?? [];
}

const points = skip ? [] : await listPoints();

interface Listed {
  Id: string;
  State: string;
}

const containers = async (daemon: TestDaemon): Promise<Listed[]> =>
  JSON.parse((await daemon.http('GET', '/containers/json?all=1')).body) as Listed[];

/** Once what was to be started again has been. */
async function settled(daemon: TestDaemon): Promise<Listed[]> {
  for (;;) {
    const listed = await containers(daemon);
    if (listed.every(({ State }) => State !== 'restarting')) return listed;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** One API call of our own among docker's commands. */
const CHECK = ['system check'];

/** Passes every job kind, in groups that need nothing of each other but the image. */
const groups = (registryHost: string): string[][][] => [
  [
    CHECK,
    ['save', IMAGE],
    ['tag', IMAGE, `${registryHost}/sweep:1`],
    ['push', `${registryHost}/sweep:1`],
    ['rmi', `${registryHost}/sweep:1`],
  ],
  [
    ['volume', 'create', 'sweep-data'],
    ['create', '--name', 'sweep', '-v', 'sweep-data:/data', '-v', '/anonymous', IMAGE, 'sleep', '1000'],
    ['start', 'sweep'],
    ['exec', 'sweep', 'true'],
    ['update', '--cpu-shares', '512', '--restart', 'on-failure', 'sweep'],
    ['exec', '-d', 'sweep', 'sleep', '999'],
    ['pause', 'sweep'],
    ['unpause', 'sweep'],
    ['kill', '-s', 'WINCH', 'sweep'],
    ['commit', 'sweep', 'sweep.test/committed:1'],
    ['rmi', 'sweep.test/committed:1'],
    ['restart', '-t', '0', 'sweep'],
    ['stop', '-t', '0', 'sweep'],
    ['rm', '-v', 'sweep'],
    ['volume', 'rm', 'sweep-data'],
  ],
  [
    ['build', '--force-rm', '-t', 'sweep.test/built:1', '-'],
    ['rmi', 'sweep.test/built:1'],
  ],
  [
    ['run', '--rm', IMAGE, 'true'],
    ['run', '-d', '--name', 'sweep2', IMAGE, 'sleep', '1000'],
    ['rm', '-f', 'sweep2'],
  ],
  [
    ['network', 'create', '--subnet', SUBNET, 'sweep-net'],
    ['run', '-d', '--name', 'sweep3', '--network', 'sweep-net', IMAGE, 'sleep', '1000'],
    ['network', 'connect', 'bridge', 'sweep3'],
    ['network', 'disconnect', 'sweep-net', 'sweep3'],
    ['rm', '-f', 'sweep3'],
    ['network', 'rm', 'sweep-net'],
  ],
];

interface Passed {
  /** What failed, and with which words; the caller decides. */
  failed: string[];
  /** The groups that were not yet through when it was over. */
  left: string[][][];
}

/** Loads the image and passes the groups, until it is over. */
async function pass(
  daemon: TestDaemon,
  archive: Buffer,
  asked: string[][][],
  over: () => boolean = () => false,
): Promise<Passed> {
  const failed: string[] = [];
  const step = async (args: string[]): Promise<void> => {
    if (args === CHECK) {
      const { body } = await daemon.http('POST', '/system/check').catch((error: Error) => ({ body: error.message }));
      if (!body.includes('"problems":0')) failed.push(`system check: ${body}`);
      return;
    }
    const input = args[0] === 'load' ? archive : args[0] === 'build' ? `FROM ${IMAGE}\nRUN echo built > /built` : '';
    const result = await daemon.docker(args, { input });
    if (result.code !== 0) failed.push(`${args.join(' ')}: ${result.stderr}${result.stdout}`);
  };
  await step(['load']);
  for (const [i, group] of asked.entries()) {
    for (const args of group) {
      if (over()) return { failed, left: asked.slice(i) };
      await step(args);
    }
  }
  return { failed, left: [] };
}

const hasNetwork = async (daemon: TestDaemon): Promise<boolean> =>
  (await daemon.http('GET', '/networks')).body.includes('sweep-net');

function jobs(daemon: TestDaemon): unknown[] {
  const connection = new SqliteConnection(join(daemon.dataRoot, 'graph.db'), { readonly: true });
  try {
    return connection.prepare('SELECT kind, step, direction, error FROM job').all();
  } finally {
    connection.close();
  }
}

/** Rows that only an operation under way has, and what SQLite finds wrong. */
function unfinished(daemon: TestDaemon): unknown {
  const connection = new SqliteConnection(join(daemon.dataRoot, 'graph.db'), { readonly: true });
  try {
    return {
      jobs: jobs(daemon),
      claims: connection.prepare('SELECT resource FROM claim').all(),
      leases: connection.prepare('SELECT purpose FROM lease').all(),
      integrity: connection.pragma('integrity_check', { simple: true }),
      foreignKeys: connection.pragma('foreign_key_check'),
    };
  } finally {
    connection.close();
  }
}
const NOTHING_UNFINISHED = { jobs: [], claims: [], leases: [], integrity: 'ok', foreignKeys: [] };

/** The kernel takes a namespace's links away behind the last user's back: the oracle's answer counts within 10 s. */
async function leaksLeft(daemon: TestDaemon, running: string[], existing: string[]): Promise<string[]> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const found = leaks(daemon, running, existing);
    if (!(await hasNetwork(daemon)) && (await run('ip', ['-o', 'addr'])).stdout.includes(GATEWAY)) {
      found.push('the bridge of a network that is not there');
    }
    if (found.length === 0 || Date.now() > deadline) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Containers said to run whose init does not. */
async function untrue(daemon: TestDaemon, ids: string[]): Promise<string[]> {
  const wrong: string[] = [];
  for (const id of ids) {
    const { body } = await daemon.http('GET', `/containers/${id}/json`);
    const { Pid } = (JSON.parse(body) as { State: { Pid: number } }).State;
    const command = ((): string => {
      try {
        return readFileSync(`/proc/${Pid}/cgroup`, 'utf8');
      } catch {
        return '';
      }
    })();
    if (!command.includes(id)) wrong.push(`${id}: pid ${Pid} is not its own`);
  }
  return wrong;
}

/** Execs that are said to run and don't, and processes of a container that are neither its init nor a known exec's. */
async function untrueExecs(daemon: TestDaemon, ids: string[]): Promise<string[]> {
  const wrong: string[] = [];
  for (const id of ids) {
    const known = new Set<string>();
    const inspected = async <T>(path: string): Promise<T> => JSON.parse((await daemon.http('GET', path)).body) as T;
    const { State, ExecIDs } = await inspected<{ State: { Pid: number }; ExecIDs: string[] | null }>(
      `/containers/${id}/json`,
    );
    known.add(String(State.Pid));
    for (const exec of ExecIDs ?? []) {
      const { Running, Pid } = await inspected<{ Running: boolean; Pid: number }>(`/exec/${exec}/json`);
      if (!Running) continue;
      known.add(String(Pid));
      if (!processes(daemon, id).includes(String(Pid))) wrong.push(`exec ${exec}: pid ${Pid} does not run`);
    }
    for (const pid of processes(daemon, id)) if (!known.has(pid)) wrong.push(`${id}: nobody knows process ${pid}`);
  }
  return wrong;
}

/** Of a container's cgroup, of whichever version. */
function processes(daemon: TestDaemon, id: string): string[] {
  const [dir] = ['', 'pids', 'memory']
    .map((hierarchy) => join('/sys/fs/cgroup', hierarchy, daemon.cgroupParent, id))
    .filter((path) => existsSync(path));
  return dir === undefined ? [] : readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
}

async function clear(daemon: TestDaemon): Promise<void> {
  for (const { Id } of await containers(daemon)) await daemon.dockerOk('rm', '-f', '-v', Id);
  const volumes = await daemon.dockerOk('volume', 'ls', '-q');
  for (const name of volumes.split('\n').filter(Boolean)) await daemon.dockerOk('volume', 'rm', name);
  if (await hasNetwork(daemon)) await daemon.dockerOk('network', 'rm', 'sweep-net');
}

describe.skipIf(skip)('crash sweep', () => {
  let archive: Buffer;
  let daemon: TestDaemon;
  let registry: TestRegistry;
  let all: string[][][];
  beforeAll(async () => {
    registry = await startRegistry();
    all = groups(registry.host);
    archive = await ociArchive(buildImage([await busyboxTar()]), IMAGE);
    daemon = new TestDaemon();
  });
  // One that failed leaves no daemon to the next.
  afterEach(() => daemon.kill());
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  /** The group that was cut off. The others are passed on the way to the points that come. */
  const again = (left: string[][][]): string[][][] => [left[0] ?? (all.at(-1) as string[][])];

  test('the daemon names its points, and the scenario works without one', async () => {
    expect(points.length).toBeGreaterThan(0);
    await daemon.start();
    expect((await pass(daemon, archive, all)).failed).toEqual([]);
    expect(await containers(daemon)).toEqual([]);
    expect(await leaksLeft(daemon, [], [])).toEqual([]);
    expect(unfinished(daemon)).toEqual(NOTHING_UNFINISHED);
  });

  test.each(points)('killed at %s', async (point) => {
    await daemon.start({ CAISSON_CRASH_AT: point });
    const { left } = await pass(daemon, archive, all, () => !daemon.alive);
    const answers = await daemon.http('GET', '/_ping').then(
      () => true,
      () => false,
    );
    expect(answers, 'the scenario reaches this point').toBe(false);

    await daemon.kill();
    await daemon.start();
    const listed = await settled(daemon);
    const running = listed.filter(({ State }) => State === 'running').map(({ Id }) => Id);
    const existing = listed.map(({ Id }) => Id);
    // the first stop is that of `restart`: what a user wants to run runs in the end
    if (point.startsWith('stop.')) expect(running).toHaveLength(1);
    expect(await leaksLeft(daemon, running, existing)).toEqual([]);
    expect(unfinished(daemon)).toEqual(NOTHING_UNFINISHED);
    expect(await untrue(daemon, running)).toEqual([]);
    expect(await untrueExecs(daemon, running)).toEqual([]);

    await clear(daemon);
    expect((await pass(daemon, archive, again(left))).failed).toEqual([]);
    expect(await containers(daemon)).toEqual([]);
    expect(await leaksLeft(daemon, [], [])).toEqual([]);
  });

  test.each(points)('failed at %s', async (point) => {
    await daemon.start({ CAISSON_FAIL_AT: point });
    const reached = (): boolean => daemon.logs.includes(`failed at ${point}`);
    const { failed, left } = await pass(daemon, archive, all, reached);
    expect(reached(), 'the scenario reaches this point').toBe(true);
    // Only what failed may say so, and what needed its result. A save that has begun tells it by breaking off.
    const told = point.startsWith('save.') ? /failed at save|unexpected EOF/ : `failed at ${point}`;
    if (failed.length > 0) expect(failed[0]).toMatch(told);

    // Undone at once; or finished by the next operation on the same object, or by itself a moment later.
    await clear(daemon);
    while (jobs(daemon).length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await containers(daemon)).toEqual([]);
    expect(await leaksLeft(daemon, [], [])).toEqual([]);
    expect((await pass(daemon, archive, again(left))).failed).toEqual([]);
    expect(await containers(daemon)).toEqual([]);
    expect(await leaksLeft(daemon, [], [])).toEqual([]);
  });
});
