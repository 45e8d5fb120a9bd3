/** `--metrics-addr`: what Prometheus reads, by dockerd's names. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'registry'))('metrics of the daemon', () => {
  const daemon = new TestDaemon(['--metrics-addr', '127.0.0.1:0']);
  let url = '';
  let registry: TestRegistry;

  beforeAll(async () => {
    registry = await startRegistry();
    await daemon.start();
    await daemon.loadBusybox();
    url = `http://${/"metrics":"([^"]+)"/.exec(daemon.logs)?.[1]}`;
  });

  afterAll(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  /** By name with labels. */
  const metrics = async (): Promise<Map<string, number>> => {
    const text = await (await fetch(`${url}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith('engine_daemon_'));
    return new Map(lines.map((line) => [line.replace(/ \S+$/, ''), Number(line.split(' ').at(-1))]));
  };

  it('counts containers, actions, events and health checks', async () => {
    await daemon.dockerOk('create', '--name', 'other', 'busybox', 'true');
    const sick = ['--health-cmd', 'false', '--health-interval', '50ms'];
    await daemon.dockerOk('run', '-d', '--name', 'sick', ...sick, 'busybox', 'sleep', '1000');
    await vi.waitFor(
      async () => expect((await metrics()).get('engine_daemon_health_checks_total')).toBeGreaterThan(0),
      {
        timeout: 30_000,
      },
    );
    const found = await metrics();
    expect(found.get('engine_daemon_health_checks_failed_total')).toBe(found.get('engine_daemon_health_checks_total'));
    const states = ['running', 'paused', 'stopped'].map((state) =>
      found.get(`engine_daemon_container_states_containers{state="${state}"}`),
    );
    expect(states).toEqual([1, 0, 1]);
    const actions = ['create', 'start', 'delete'].map((action) =>
      found.get(`engine_daemon_container_actions_seconds_count{action="${action}"}`),
    );
    expect(actions).toEqual([2, 1, undefined]);
    expect(found.get('engine_daemon_events_total')).toBeGreaterThanOrEqual(4);
    const info = [...found.keys()].find((name) => name.startsWith('engine_daemon_engine_info{'));
    expect(info).toMatch(/version="[^"]+".*graphdriver="overlay2"/);
    await daemon.dockerOk('rm', 'other');
    expect((await metrics()).get('engine_daemon_container_actions_seconds_count{action="delete"}')).toBe(1);
  });

  it('counts what is done with images, and transfers that fail', async () => {
    await daemon.dockerOk('history', 'busybox');
    expect((await daemon.docker(['history', 'nowhere'])).code).not.toBe(0);
    const remote = `${registry.host}/metrics/busybox:1`;
    await daemon.dockerOk('tag', 'busybox', remote);
    await daemon.dockerOk('push', '-q', remote);
    await daemon.dockerOk('rmi', remote);
    await daemon.dockerOk('pull', '-q', remote);
    expect((await daemon.docker(['pull', `${registry.host}/metrics/nowhere:1`])).code).not.toBe(0);
    await daemon.dockerOk('tag', 'busybox', 'other');
    await daemon.dockerOk('rmi', 'other');
    await daemon.docker(['import', '-', 'alone'], { input: Buffer.alloc(1024) });
    await daemon.dockerOk('rmi', 'alone');
    const found = await metrics();
    const counts = ['history', 'push', 'pull', 'delete'].map((action) =>
      found.get(`engine_daemon_image_actions_seconds_count{action="${action}"}`),
    );
    expect(counts).toEqual([1, 1, 2, 1]);
  });

  it('has nothing else at its address', async () => {
    expect((await fetch(`${url}/containers/json`)).status).toBe(404);
  });
});
