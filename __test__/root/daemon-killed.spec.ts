/**
 * SIGKILL of the daemon with many containers running: none of them notices, none of their output is lost, what ended while
 * nobody looked is told with its exit code, and the next daemon drives them all as its own.
 */
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { leaks } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'killed.test/busybox:latest';
const COUNT = 20;
/** Counts up, a line each, and ends with 7 on SIGUSR1. */
const PROGRAM = 'trap "exit 7" USR1; i=0; while :; do echo $i; i=$((i+1)); usleep 10000; done';

/** By path below: when it was last changed. */
const changed = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, encoding: 'utf8' }).map(
    (path) => `${path} ${lstatSync(join(dir, path), { bigint: true }).ctimeNs}`,
  );

interface State {
  Status: string;
  Pid: number;
  ExitCode: number;
  StartedAt: string;
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('a daemon killed with containers running', () => {
  let daemon: TestDaemon;
  let ids: string[];
  beforeAll(async () => {
    daemon = new TestDaemon();
    await daemon.start();
    const archive = await ociArchive(buildImage([await busyboxTar()]), IMAGE);
    await daemon.docker(['load'], { input: archive });
    ids = await Promise.all(
      Array.from({ length: COUNT }, () => daemon.dockerOk('run', '-d', '--restart', 'no', IMAGE, 'sh', '-c', PROGRAM)),
    );
  });
  afterAll(() => daemon[Symbol.asyncDispose]());

  const state = async (id: string): Promise<State> =>
    JSON.parse(await daemon.dockerOk('inspect', '-f', '{{json .State}}', id));
  const startTime = (pid: number): string =>
    readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19] ?? '';

  test('they go on, and belong to the next', async () => {
    const before = await Promise.all(ids.map(state));
    const times = before.map(({ Pid }) => startTime(Pid));
    const [ended = '', ...others] = ids;
    const [endedBefore, ...othersBefore] = before;
    const wait = daemon.docker(['wait', ended]);
    const initLayer = changed(join(daemon.dataRoot, 'init'));

    await daemon.kill('SIGKILL');
    process.kill(endedBefore?.Pid ?? 0, 'SIGUSR1');
    expect((await wait).code, 'a client that waits loses its connection').not.toBe(0);
    while (isAlive(endedBefore?.Pid ?? 0)) await sleep(10);
    await daemon.start();

    expect(await state(ended)).toMatchObject({ Status: 'exited', ExitCode: 7, Pid: 0 });
    expect(await daemon.dockerOk('wait', ended)).toBe('7');
    const after = await Promise.all(others.map(state));
    expect(after).toEqual(othersBefore);
    expect(after.map(({ Pid }) => startTime(Pid))).toEqual(times.slice(1));
    expect(leaks(daemon, others, ids)).toEqual([]);
    expect(changed(join(daemon.dataRoot, 'init')), 'what running containers have mounted').toEqual(initLayer);
  });

  test('their output has no gap', async () => {
    for (const id of ids) {
      const lines = (await daemon.dockerOk('logs', id)).split('\n').map(Number);
      expect(lines).toEqual(lines.map((_, index) => index));
    }
  });

  test('they can be entered, stopped, started and removed', async () => {
    const [ended = '', first = '', second = ''] = ids;
    expect(await daemon.dockerOk('exec', first, 'echo', 'here')).toBe('here');
    await daemon.dockerOk('stop', '-t', '0', first);
    expect((await state(first)).Status).toBe('exited');
    await daemon.dockerOk('start', first, ended);
    expect((await state(ended)).Status).toBe('running');
    await daemon.dockerOk('kill', '-s', 'USR1', second);
    expect(await daemon.dockerOk('wait', second)).toBe('7');
    await daemon.dockerOk('rm', '-f', ...ids);
    expect(await daemon.dockerOk('ps', '-aq')).toBe('');
  });
});

function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
