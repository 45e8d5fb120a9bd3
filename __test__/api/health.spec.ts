/** Health checks and `docker update` with the unmodified client. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const daemon = new TestDaemon();
const ok = (...args: string[]): Promise<string> => daemon.dockerOk(...args);

interface Health {
  Status: string;
  FailingStreak: number;
  Log: { ExitCode: number; Output: string }[];
}
const health = async (name: string): Promise<Health> =>
  JSON.parse(await ok('inspect', '-f', '{{json .State.Health}}', name)) as Health;

/** The events that pass the filters, changes of health by default. */
function changes(...filters: string[]): { next(): Promise<string>; end(): void } {
  const child = spawn(
    'docker',
    [
      '-H',
      `unix://${daemon.socket}`,
      'events',
      '--since',
      '0',
      ...(filters.length > 0 ? filters : ['event=health_status']).flatMap((filter) => ['--filter', filter]),
      '--format',
      '{{.Action}}',
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    next: async () => ((await lines.next()) as { value: string }).value,
    end: () => void child.kill(),
  };
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('health and limits', () => {
  beforeAll(async () => {
    await daemon.start();
    await daemon.loadBusybox();
  });
  afterAll(() => daemon[Symbol.asyncDispose]());
  afterEach(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
  });

  it('a check makes a container healthy and unhealthy, also after the daemon was killed', async () => {
    const flags = ['--health-cmd', 'echo asked; test -e /ok', '--health-interval', '50ms', '--health-retries', '2'];
    await ok('run', '-d', '--name', 'box', ...flags, 'busybox', 'sleep', '1000');
    expect(await ok('ps', '--filter', 'health=starting', '--format', '{{.Names}}')).toBe('box');
    const seen = changes();
    try {
      expect(await seen.next()).toBe('health_status: unhealthy');
      await ok('exec', 'box', 'touch', '/ok');
      expect(await seen.next()).toBe('health_status: healthy');
    } finally {
      seen.end();
    }
    const { Status, FailingStreak, Log } = await health('box');
    expect([Status, FailingStreak]).toEqual(['healthy', 0]);
    expect(Log.length).toBeLessThanOrEqual(5);
    expect(Log.at(-1)).toMatchObject({ ExitCode: 0, Output: 'asked\n' });
    expect(await ok('ps', '--filter', 'health=healthy', '--format', '{{.Status}}')).toContain('(healthy)');

    await daemon.kill();
    await daemon.start();
    expect((await health('box')).Status).toBe('healthy');
    const later = changes();
    try {
      for (const _ of ['unhealthy', 'healthy']) await later.next();
      await ok('exec', 'box', 'rm', '/ok');
      expect(await later.next()).toBe('health_status: unhealthy');
    } finally {
      later.end();
    }
    await ok('stop', '-t', '0', 'box');
    expect((await health('box')).Status).toBe('unhealthy');
  });

  it('a check that takes too long fails and is ended', async () => {
    const flags = ['--health-cmd', 'exec sleep 1000', '--health-interval', '10ms', '--health-timeout', '100ms'];
    const before = changes();
    await ok('run', '-d', '--name', 'box', ...flags, '--health-retries', '1', 'busybox', 'sleep', '2000');
    while (!JSON.stringify(await health('box')).includes('exceeded timeout (100ms)')) await before.next();
    before.end();
    await ok('pause', 'box');
    expect((await ok('top', 'box')).match(/sleep 1000/g)?.length ?? 0).toBeLessThanOrEqual(1);
  });

  it.each([
    [{ Interval: 1 }, 'Interval in Healthcheck cannot be less than 1ms'],
    [{ Retries: -1 }, 'Retries in Healthcheck cannot be negative'],
    [{ Test: ['SOMETHING', 'else'] }, 'unknown type of health check: SOMETHING'],
  ])('refuses %j', async (Healthcheck, message) => {
    const answer = await daemon.http('POST', '/containers/create', { Image: 'busybox', Healthcheck });
    expect([answer.status, answer.body]).toEqual([400, expect.stringContaining(message)]);
  });

  it('update changes the limits of what runs, and of what is started later', async () => {
    await ok('run', '-d', '--name', 'box', '--memory', '64m', 'busybox', 'sleep', '1000');
    await ok('update', '--memory', '32m', '--cpus', '0.5', '--pids-limit', '77', '--restart', 'always', 'box');
    const id = await ok('inspect', '-f', '{{.Id}}', 'box');
    const read = (v1: string, v2: string): string => {
      const [controller = ''] = v1.split('/');
      const file = (at: string): string => readFileSync(at, 'utf8').trim();
      try {
        return file(`/sys/fs/cgroup/${controller}${daemon.cgroupParent}/${id}/${v1.split('/')[1]}`);
      } catch {
        return file(`/sys/fs/cgroup${daemon.cgroupParent}/${id}/${v2}`);
      }
    };
    const limits = () => [read('memory/memory.limit_in_bytes', 'memory.max'), read('pids/pids.max', 'pids.max')];
    expect(limits()).toEqual([String(32 << 20), '77']);
    expect(read('cpu/cpu.cfs_quota_us', 'cpu.max').split(' ')[0]).toBe('50000');
    // the devices of the container are as they were
    await ok('exec', 'box', 'sh', '-c', 'echo x > /dev/null');
    await ok('restart', '-t', '0', 'box');
    expect(limits()).toEqual([String(32 << 20), '77']);
    expect(await ok('inspect', '-f', '{{.HostConfig.RestartPolicy.Name}}', 'box')).toBe('always');
  });

  it.each([
    [{ CpuQuota: 20_000 }, 409, 'CPU Quota cannot be updated as NanoCPUs has already been set'],
    [{ Memory: 1 << 30 }, 409, 'update the memoryswap at the same time'],
    [{ Memory: 100 }, 400, 'Minimum memory limit allowed is 6MB'],
    [{ RestartPolicy: { Name: 'sometimes' } }, 400, "unknown policy 'sometimes'"],
    // taken and passed over, as dockerd does
    [{ Devices: [{ PathOnHost: '/dev/null' }] }, 200, '"Warnings":null'],
  ])('update answers %j', async (body, status, message) => {
    await ok('create', '--name', 'box', '--cpus', '1', '--memory', '64m', 'busybox', 'true');
    const answer = await daemon.http('POST', '/containers/box/update', body);
    expect([answer.status, answer.body]).toEqual([status, expect.stringContaining(message)]);
  });

  it('whoever follows events hears of each check', async () => {
    const seen = changes('container=sick', 'event=exec_create', 'event=exec_start', 'event=exec_die');
    const check = ['--health-cmd', 'exit 3', '--health-interval', '50ms'];
    await ok('run', '-d', '--name', 'sick', ...check, 'busybox', 'sleep', '1000');
    const actions = [await seen.next(), await seen.next(), await seen.next()];
    seen.end();
    expect(actions).toEqual(['exec_create: /bin/sh -c exit 3', 'exec_start: /bin/sh -c exit 3', 'exec_die']);
  });
});
