/** The daemon as a process: its roots, its sockets, its signals, and what it says about itself. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { missing } from '../helpers/requires.ts';

const caisson = (...args: string[]) => run(join(packageRoot, 'bin/caisson'), args);

describe.skipIf(missing('root', 'build', 'docker'))('daemon', () => {
  let daemon: TestDaemon;
  beforeAll(async () => {
    daemon = await new TestDaemon().start();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  const roots = (): string[] => ['--data-root', daemon.dataRoot, '--exec-root', daemon.execRoot];

  it('keeps its socket from others', () => {
    const { mode, uid } = statSync(daemon.socket);
    expect([mode & 0o777, uid]).toEqual([0o660, 0]);
  });

  it('writes its pid', () => {
    expect(readFileSync(join(daemon.dir, 'daemon.pid'), 'utf8')).toBe(`${daemon.pid}\n`);
  });

  it('lets no second daemon use its roots', async () => {
    const second = await caisson('daemon', '-H', `unix://${daemon.dir}/second.sock`, ...roots());
    expect(second.code).toBe(1);
    expect(second.stderr).toContain('already in use by another caisson daemon');
    expect(existsSync(join(daemon.dir, 'second.sock'))).toBe(false);
    expect((await daemon.http('GET', '/_ping')).status).toBe(200);
  });

  it('does not take the socket of another daemon', async () => {
    const second = await caisson(
      'daemon',
      '-H',
      `unix://${daemon.socket}`,
      '--data-root',
      `${daemon.dir}/d2`,
      '--exec-root',
      `${daemon.dir}/e2`,
    );
    expect(second.code).toBe(1);
    expect(second.stderr).toContain(`cannot listen on ${daemon.socket}`);
    expect(readdirSync(join(daemon.dir, 'd2')), 'nothing was begun').toEqual(['lock.db']);
    expect((await daemon.http('GET', '/_ping')).status).toBe(200);
  });

  it.each([
    [['--nope'], '--nope'],
    [['-H', 'tcp://0.0.0.0:2375'], 'loopback'],
    [['-H', 'http://x'], 'invalid host'],
  ])('refuses %j', async (flags, expected) => {
    const result = await caisson(
      'daemon',
      '--data-root',
      `${daemon.dir}/d3`,
      '--exec-root',
      `${daemon.dir}/e3`,
      ...flags,
    );
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(expected);
  });

  it('is taken over after SIGKILL, its socket and lock too', async () => {
    const before = await daemon.http('GET', '/info');
    await daemon.kill('SIGKILL');
    await daemon.start();
    const after = await daemon.http('GET', '/info');
    expect((JSON.parse(after.body) as { ID: string }).ID).toBe((JSON.parse(before.body) as { ID: string }).ID);
  });

  it('ends by SIGTERM though a client follows its events', async () => {
    const events = spawn('curl', ['-sN', '--unix-socket', daemon.socket, 'http://d/events'], { stdio: 'ignore' });
    const idle = connect(daemon.socket);
    idle.on('error', () => undefined);
    await once(idle, 'connect');
    const ended = once(events, 'exit');
    await daemon.kill('SIGTERM');
    await ended;
    expect(existsSync(daemon.socket)).toBe(false);
    expect(existsSync(join(daemon.dir, 'daemon.pid'))).toBe(false);
    await daemon.start();
  });

  it('reloads its settings by SIGHUP and survives a wrong file', async () => {
    const config = join(daemon.dir, 'daemon.json');
    writeFileSync(config, '{"debug":false}');
    await using other = await new TestDaemon(['--config-file', config]).start();
    const debug = async (): Promise<boolean> =>
      (JSON.parse((await other.http('GET', '/info')).body) as { Debug: boolean }).Debug;
    expect(await debug()).toBe(false);
    writeFileSync(config, '{"nope":1}');
    process.kill(other.pid, 'SIGHUP');
    await logged(other, 'configuration not reloaded');
    writeFileSync(config, '{"debug":true}');
    process.kill(other.pid, 'SIGHUP');
    await logged(other, '"configuration reloaded"');
    expect(await debug()).toBe(true);
    const { body } = await other.http('GET', `/events?since=1&until=${Math.ceil(Date.now() / 1000)}`);
    const reloads = body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { Type: string; Action: string; Actor: { Attributes: object } });
    expect(reloads).toMatchObject([{ Type: 'daemon', Action: 'reload', Actor: { Attributes: { debug: 'true' } } }]);
  });

  it('counts who follows its events', async () => {
    const listeners = async (): Promise<number> =>
      (JSON.parse((await daemon.http('GET', '/info')).body) as { NEventsListener: number }).NEventsListener;
    const before = await listeners();
    const followers = [0, 1].map(() => get({ socketPath: daemon.socket, path: '/events' }));
    await Promise.all(followers.map((follower) => once(follower, 'response')));
    expect((await listeners()) - before).toBe(2);
    for (const follower of followers) follower.destroy();
  });

  it('answers info and version with what dockerd has, and truly', async () => {
    const info = JSON.parse((await daemon.http('GET', '/info')).body) as Record<string, unknown>;
    expect(info).toMatchObject({
      Containers: 0,
      Images: 0,
      Driver: 'overlay2',
      OSType: 'linux',
      DockerRootDir: daemon.dataRoot,
      Swarm: { LocalNodeState: 'inactive' },
    });
    expect(info['NCPU']).toBeGreaterThan(0);
    expect(info['MemTotal']).toBeGreaterThan(1 << 20);
    expect(await daemon.dockerOk('version', '--format', '{{.Server.APIVersion}} {{.Server.MinAPIVersion}}')).toBe(
      '1.51 1.24',
    );
    expect((await daemon.docker(['info'])).code).toBe(0);
    expect((await daemon.docker(['system', 'df'])).code).toBe(0);
  });

  it('makes, shows and removes volumes', async () => {
    expect(await daemon.dockerOk('volume', 'create', '--label', 'a=b', 'v1')).toBe('v1');
    const anonymous = await daemon.dockerOk('volume', 'create');
    expect(anonymous).toMatch(/^[0-9a-f]{64}$/);
    const mountpoint = join(daemon.dataRoot, 'volumes/v1/_data');
    expect(await daemon.dockerOk('volume', 'inspect', '-f', '{{.Mountpoint}} {{.Labels.a}}', 'v1')).toBe(
      `${mountpoint} b`,
    );
    expect(statSync(mountpoint).isDirectory()).toBe(true);
    expect(await daemon.dockerOk('volume', 'prune', '-f')).toContain(anonymous);
    expect(await daemon.dockerOk('volume', 'ls', '-q')).toBe('v1');
    await daemon.dockerOk('volume', 'rm', 'v1');
    expect(existsSync(join(daemon.dataRoot, 'volumes/v1'))).toBe(false);
    const absent = await daemon.docker(['volume', 'rm', 'v1']);
    expect([absent.code, absent.stderr.trim()]).toEqual([1, 'Error response from daemon: get v1: no such volume']);
    for (const [args, text] of [
      [['a/b'], 'includes invalid characters for a local volume name'],
      [['-d', 'nfs', 'x1'], 'plugin "nfs" not found'],
      [['-o', 'type=tmpfs', 'x2'], 'missing required option: "device"'],
    ] as const)
      expect((await daemon.docker(['volume', 'create', ...args])).stderr).toContain(text);
  });
});

async function logged(daemon: TestDaemon, text: string): Promise<void> {
  while (!daemon.logs.includes(text)) await new Promise((resolve) => setImmediate(resolve));
}
