/**
 * What befalls containers from outside: their shim killed or stopped, memory or pids used up, their cgroup frozen or taken
 * away, a second daemon over the same roots. Whoever is not concerned notices nothing, and what a user sees is true.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { hasEnded } from '../../ts/engine/containers/procSignals.ts';
import { packageRoot } from '../../ts/packageRoot.ts';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'faults.test/busybox:latest';

interface State {
  Status: string;
  Running: boolean;
  Pid: number;
  ExitCode: number;
  OOMKilled: boolean;
  Error: string;
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'cgroup1'))('faults from outside', () => {
  let daemon: TestDaemon;
  beforeAll(async () => {
    daemon = new TestDaemon();
    await daemon.start();
    await daemon.docker(['load'], { input: await ociArchive(buildImage([await busyboxTar()]), IMAGE) });
  });
  afterEach(async () => {
    const ids = (await daemon.dockerOk('ps', '-aq')).split('\n').filter(Boolean);
    if (ids.length > 0) await daemon.dockerOk('rm', '-f', ...ids);
    expect(await oracle(daemon)).toEqual([]);
  });
  afterAll(() => daemon[Symbol.asyncDispose]());

  const run = (...args: string[]): Promise<string> => daemon.dockerOk('run', '-d', '--network', 'none', ...args);
  const state = async (id: string): Promise<State> =>
    JSON.parse(await daemon.dockerOk('inspect', '-f', '{{json .State}}', id));
  const until = async (id: string, condition: (state: State) => boolean): Promise<State> => {
    for (;;) {
      const now = await state(id);
      if (condition(now)) return now;
    }
  };
  const shimOf = (id: string): number =>
    JSON.parse(readFileSync(join(daemon.execRoot, 'c', id, 'shim.pid'), 'utf8')).shimPid;
  const cgroup = (controller: string, id: string): string =>
    join('/sys/fs/cgroup', controller, daemon.cgroupParent, id);
  /** Events of the container so far. */
  const events = async (id: string): Promise<string[]> => {
    const until = String(Math.ceil(Date.now() / 1000) + 1);
    const text = await daemon.dockerOk(
      'events',
      '--since',
      '1',
      '--until',
      until,
      '--filter',
      `container=${id}`,
      '--format',
      '{{.Action}}',
    );
    return text.split('\n');
  };

  test('a shim that is killed takes its container along, and nobody else', async () => {
    const [plain, always, other] = await Promise.all([
      run(IMAGE, 'sleep', '1000'),
      run('--restart', 'always', IMAGE, 'sleep', '1000'),
      run(IMAGE, 'sleep', '1000'),
    ]);
    const before = await state(other);
    const { Pid } = await state(plain);
    const { Pid: former } = await state(always);
    process.kill(shimOf(plain), 'SIGKILL');
    process.kill(shimOf(always), 'SIGKILL');
    expect(await until(plain, ({ Running }) => !Running)).toMatchObject({ ExitCode: 137, Error: 'shim lost', Pid: 0 });
    expect(hasEnded(Pid)).toBe(true);
    await until(always, (now) => now.Status === 'running' && now.Pid !== former);
    expect(await daemon.dockerOk('inspect', '-f', '{{.RestartCount}}', always)).toBe('1');
    expect(await state(other)).toEqual(before);
    expect(await daemon.dockerOk('exec', other, 'echo', 'here')).toBe('here');
  });

  test('a shim that hangs keeps neither others nor the daemon from work', async () => {
    const [hung, other] = await Promise.all([run(IMAGE, 'sleep', '1000'), run(IMAGE, 'sleep', '1000')]);
    const shim = shimOf(hung);
    process.kill(shim, 'SIGSTOP');
    expect((await daemon.dockerOk('ps', '-q', '--no-trunc')).split('\n').sort()).toEqual([hung, other].sort());
    expect(await daemon.dockerOk('exec', other, 'echo', 'here')).toBe('here');
    await daemon.kill('SIGKILL');
    await daemon.start();
    expect(daemon.logs, 'it serves before the shim has been given up').not.toContain('could not be settled');
    expect((await state(hung)).Status).toBe('running');
    expect(await daemon.dockerOk('exec', other, 'echo', 'here')).toBe('here');
    await daemon.dockerOk('stop', '-t', '0', hung);
    expect(await state(hung)).toMatchObject({ Status: 'exited', ExitCode: 137, Error: 'shim lost' });
    expect(hasEnded(shim)).toBe(true);
  });

  test('a stop that waits for its container does not keep the daemon from its end', async () => {
    const id = await run(IMAGE, 'sh', '-c', 'trap "echo got it" TERM; while :; do sleep 0.1; done');
    await daemon.kill('SIGTERM');
    await daemon.start({}, ['--shutdown-timeout', '1']);
    const stop = daemon.docker(['stop', '-t', '1000', id]);
    while (!(await daemon.dockerOk('logs', id)).includes('got it')) await sleep(20);
    await daemon.kill('SIGTERM');
    expect((await stop).code).toBe(1);
    await daemon.start();
    expect((await state(id)).Status).toBe('running');
    await daemon.dockerOk('kill', id);
    expect(await until(id, ({ Running }) => !Running)).toMatchObject({ ExitCode: 137 });
  });

  test('out of memory: PID 1 ends with 137, OOMKilled and one event', async () => {
    const id = await run('-m', '16m', '--memory-swap', '16m', IMAGE, 'sh', '-c', 'x=a; while :; do x=$x$x; done');
    expect(await until(id, ({ Running }) => !Running)).toMatchObject({ ExitCode: 137, OOMKilled: true });
    expect((await events(id)).filter((action) => action === 'oom')).toEqual(['oom']);
  });

  test('out of memory: a child only; its container runs on', async () => {
    const id = await run('-m', '16m', '--memory-swap', '16m', IMAGE, 'sleep', '1000');
    const { code } = await daemon.docker(['exec', id, 'sh', '-c', 'x=a; while :; do x=$x$x; done']);
    expect(code).toBe(137);
    expect((await state(id)).Status).toBe('running');
    expect((await events(id)).filter((action) => action === 'oom')).toEqual(['oom']);
    // as far as this machine lets anybody (CAP_SYS_RESOURCE)
    const may = spawnSync('sh', ['-c', 'echo -500 >/proc/self/oom_score_adj']).status === 0;
    for (const pid of may ? [daemon.pid, shimOf(id)] : [])
      expect(Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'))).toBeLessThanOrEqual(-500);
  });

  test('out of pids: an exec gives an error, a stop works', async () => {
    const bomb = 'i=0; while [ $i -lt 14 ]; do sleep 1000 & i=$((i+1)); done; exec sleep 1000';
    const id = await run('--pids-limit', '15', IMAGE, 'sh', '-c', bomb);
    while (readFileSync(join(cgroup('pids', id), 'pids.current'), 'utf8').trim() !== '15');
    const exec = await daemon.docker(['exec', id, 'true']);
    expect(exec.code).not.toBe(0);
    expect(exec.stdout + exec.stderr).toContain('resource temporarily unavailable');
    await daemon.dockerOk('stop', '-t', '1', id);
    expect((await state(id)).Status).toBe('exited');
  });

  test('a frozen cgroup holds up what needs it, and nothing else of that container', async () => {
    const id = await run('-t', IMAGE, 'sleep', '1000');
    const freezer = join(cgroup('freezer', id), 'freezer.state');
    writeFileSync(freezer, 'FROZEN');
    const held = daemon.docker(['exec', id, 'echo', 'through']);
    const tasks = (): number =>
      readFileSync(join(cgroup('freezer', id), 'tasks'), 'utf8')
        .trim()
        .split('\n').length;
    while (tasks() < 2);
    const resize = await daemon.http('POST', `/containers/${id}/resize?h=10&w=10`);
    expect(resize, 'the shim answers').toMatchObject({ status: 200 });
    writeFileSync(freezer, 'THAWED');
    expect(await held).toMatchObject({ code: 0, stdout: 'through\n' });
    writeFileSync(freezer, 'FROZEN');
    await daemon.dockerOk('stop', '-t', '0', id);
    expect((await state(id)).ExitCode).toBe(137);
  });

  test('an exec into a frozen cgroup ends with an error, and leaves nothing', async () => {
    const id = await run(IMAGE, 'sleep', '1000');
    const freezer = join(cgroup('freezer', id), 'freezer.state');
    writeFileSync(freezer, 'FROZEN');
    const exec = await daemon.docker(['exec', id, 'true']);
    expect(exec.stdout + exec.stderr).toContain('is its cgroup frozen?');
    expect(exec.code).not.toBe(0);
    writeFileSync(freezer, 'THAWED');
    const tasks = (): string[] =>
      readFileSync(join(cgroup('freezer', id), 'cgroup.procs'), 'utf8')
        .trim()
        .split('\n');
    while (tasks().length > 1);
    expect(await daemon.dockerOk('exec', id, 'echo', 'again')).toBe('again');
  });

  test('a cgroup taken away: stats are empty, the container still ends', async () => {
    const id = await run(IMAGE, 'sleep', '1000');
    const { Pid } = await state(id);
    writeFileSync('/sys/fs/cgroup/pids/cgroup.procs', String(Pid));
    rmdirSync(cgroup('pids', id));
    const stats = await daemon.http('GET', `/containers/${id}/stats?stream=0&one-shot=1`);
    expect(stats.status).toBe(200);
    await daemon.dockerOk('stop', '-t', '0', id);
    expect((await state(id)).ExitCode).toBe(137);
  });

  test('a second daemon over the same roots gives up at once and touches nothing', async () => {
    const id = await run(IMAGE, 'sleep', '1000');
    const pidfile = join(daemon.dir, 'daemon.pid');
    const second = spawn(join(packageRoot, 'bin/caisson'), [
      'daemon',
      '-H',
      `unix://${daemon.dir}/second.sock`,
      '--data-root',
      daemon.dataRoot,
      '--exec-root',
      daemon.execRoot,
      '--pidfile',
      pidfile,
      '--cgroup-parent',
      daemon.cgroupParent,
      '--bridge-name',
      daemon.bridge,
    ]);
    let said = '';
    second.stderr.on('data', (chunk: Buffer) => {
      said += chunk;
    });
    const [code] = await once(second, 'close');
    expect(code).toBe(1);
    expect(said).toContain('is already in use by another caisson daemon');
    expect(readFileSync(pidfile, 'utf8')).toBe(`${daemon.pid}\n`);
    expect(await daemon.dockerOk('exec', id, 'echo', 'here')).toBe('here');
  });

  test('a pid file that names somebody else keeps no daemon from starting', async () => {
    await daemon.kill('SIGKILL');
    writeFileSync(join(daemon.dir, 'daemon.pid'), `${process.pid}\n`);
    await daemon.start();
    expect(readFileSync(join(daemon.dir, 'daemon.pid'), 'utf8')).toBe(`${daemon.pid}\n`);
  });
});
