/** `--metrics-addr`: what Prometheus reads, by dockerd's names. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('metrics of the daemon', () => {
  const daemon = new TestDaemon(['--metrics-addr', '127.0.0.1:0']);
  let url = '';

  beforeAll(async () => {
    await daemon.start();
    await daemon.loadBusybox();
    url = `http://${/"metrics":"([^"]+)"/.exec(daemon.logs)?.[1]}`;
  });

  afterAll(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
    await daemon[Symbol.asyncDispose]();
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

  it('has nothing else at its address', async () => {
    expect((await fetch(`${url}/containers/json`)).status).toBe(404);
  });
});
