/**
 * What a management UI asks of the API, as Portainer does it: a snapshot of everything, and the life of a container from
 * its forms, among them "recreate": what inspect said goes back to create, whole.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

type Json = Record<string, unknown>;

interface Inspected {
  Id: string;
  Name: string;
  Config: Json;
  HostConfig: Json & { NetworkMode: string };
  NetworkSettings: { Networks: Record<string, Json & { IPAddress: string }> };
  State: { Status: string };
  Mounts: { Destination: string }[];
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('Portainer', () => {
  let daemon: TestDaemon;
  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    await daemon.loadBusybox();
  });
  afterAll(async () => {
    await daemon.removeContainers();
    const leaked = await oracle(daemon);
    await daemon[Symbol.asyncDispose]();
    expect(leaked).toEqual([]);
  });

  async function call<T = Json>(method: string, path: string, body?: unknown, status?: number): Promise<T> {
    const answer = await daemon.http(method, path, body);
    expect(answer.status, `${method} ${path}: ${answer.body}`).toBe(status ?? (method === 'GET' ? 200 : 204));
    return (answer.body.startsWith('{') || answer.body.startsWith('[') ? JSON.parse(answer.body) : {}) as T;
  }

  it('takes a snapshot', async () => {
    const info = await call('GET', '/info');
    expect(info).toMatchObject({ OSType: 'linux', Swarm: { LocalNodeState: 'inactive' } });
    for (const count of ['Containers', 'ContainersRunning', 'ContainersStopped', 'Images', 'NCPU', 'MemTotal'])
      expect(info[count], count).toBeTypeOf('number');
    expect(info['Plugins']).toMatchObject({ Volume: ['local'], Network: expect.arrayContaining(['bridge', 'host']) });
    expect(await call('GET', '/version')).toMatchObject({ ApiVersion: expect.stringMatching(/^1\.\d+$/) });
    expect(await call<Json[]>('GET', '/images/json?all=0')).toMatchObject([{ RepoTags: ['busybox:latest'] }]);
    expect(await call<Json[]>('GET', '/containers/json?all=1&size=1')).toEqual([]);
    expect(await call('GET', '/volumes?filters={"dangling":["true"]}')).toEqual({ Volumes: [], Warnings: null });
    const networks = await call<{ Name: string }[]>('GET', '/networks');
    expect(networks.map(({ Name }) => Name).sort()).toEqual(['bridge', 'host', 'none']);
    expect(await call('GET', '/system/df')).toMatchObject({ Containers: [], Volumes: [], BuildCache: [] });
    expect(await call('GET', '/plugins')).toEqual([]);
    for (const path of ['/swarm', '/nodes', '/services', '/tasks', '/secrets', '/configs'])
      expect(await call('GET', path, undefined, 503)).toEqual({
        message: expect.stringContaining('This node is not a swarm manager'),
        code: expect.any(String),
      });
  });

  it('leads a container from its form to its recreation', async () => {
    await call('POST', '/volumes/create', { Name: 'ui-data', Driver: 'local', DriverOpts: {} }, 201);
    await call(
      'POST',
      '/networks/create',
      { Name: 'ui-net', Driver: 'bridge', CheckDuplicate: true, Options: {} },
      201,
    );
    const form = {
      name: 'web',
      Image: 'busybox:latest',
      Env: ['A=b'],
      Cmd: ['sh', '-c', 'echo started; exec sleep 100000'],
      MacAddress: '',
      ExposedPorts: { '80/tcp': {} },
      HostConfig: {
        RestartPolicy: { Name: 'unless-stopped' },
        PortBindings: { '80/tcp': [{ HostPort: '' }] },
        PublishAllPorts: false,
        Binds: ['ui-data:/data'],
        AutoRemove: false,
        NetworkMode: 'ui-net',
        Privileged: false,
        Init: false,
        Runtime: null,
        ExtraHosts: [],
        Devices: [],
        DeviceRequests: [],
        CapAdd: ['NET_ADMIN'],
        CapDrop: [],
        Sysctls: {},
        LogConfig: { Type: '', Config: {} },
        ShmSize: 67108864,
        Memory: 67108864,
        MemoryReservation: 0,
        NanoCpus: 500000000,
      },
      NetworkingConfig: { EndpointsConfig: { 'ui-net': { IPAMConfig: { IPv4Address: '', IPv6Address: '' } } } },
      Labels: { 'io.portainer.accesscontrol.teams': 'a' },
      Volumes: { '/data': {} },
      AttachStdout: false,
      OpenStdin: false,
      Tty: false,
    };
    const { Id } = await call<{ Id: string }>('POST', '/containers/create?name=web', form, 201);
    await call('POST', `/containers/${Id}/start`, {});
    const old = await call<Inspected>('GET', `/containers/${Id}/json`);
    expect(old.State.Status).toBe('running');
    expect(await call('GET', `/containers/${Id}/top`)).toMatchObject({ Processes: [expect.any(Array)] });
    expect(await call('GET', `/containers/${Id}/stats?stream=false`)).toMatchObject({
      cpu_stats: {},
      memory_stats: {},
    });
    const logs = await daemon.http('GET', `/containers/${Id}/logs?stdout=1&stderr=1&since=0&tail=100&timestamps=1`);
    expect(logs.body).toContain('started');
    const exec = {
      id: Id,
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      Tty: true,
      User: '',
      Cmd: ['sh'],
    };
    expect(await call('POST', `/containers/${Id}/exec`, exec, 201)).toEqual({ Id: expect.any(String) });
    await call('POST', `/containers/${Id}/update`, { RestartPolicy: { Name: 'no' } }, 200);

    // Recreate: the old one steps aside, its settings make a new one, which takes its networks.
    await call('POST', `/containers/${Id}/stop`);
    await call('POST', `/containers/${Id}/rename?name=web-old`);
    const { Config, HostConfig, NetworkSettings } = await call<Inspected>('GET', `/containers/${Id}/json`);
    const again = { ...Config, HostConfig, NetworkingConfig: { EndpointsConfig: NetworkSettings.Networks } };
    const made = await call<{ Id: string; Warnings: unknown }>('POST', '/containers/create?name=web', again, 201);
    await call('POST', `/containers/${made.Id}/start`, {});
    await call('DELETE', `/containers/${Id}?v=0&force=true`);
    const now = await call<Inspected>('GET', '/containers/web/json');
    expect(now.HostConfig).toEqual(HostConfig);
    // the host name is the id's beginning when none was asked for: Portainer carries it over
    expect(now.Config).toEqual(Config);
    expect(now.NetworkSettings.Networks['ui-net']?.IPAddress).not.toBe('');
    expect(now.Mounts.map(({ Destination }) => Destination)).toEqual(['/data']);

    const commit = await call<{ Id: string }>('POST', `/commit?container=${made.Id}&repo=ui/image&tag=1`, {}, 201);
    expect(await call<Json[]>('GET', `/images/${commit.Id}/history`)).toHaveLength(2);
    await call('POST', `/images/ui%2Fimage:1/tag?repo=ui/other&tag=2`, undefined, 201);
    await call('DELETE', '/images/ui%2Fother:2?force=false', undefined, 200);
    const since = Math.floor(Date.now() / 1000) - 60;
    const events = await daemon.http('GET', `/events?since=${since}&until=${Math.floor(Date.now() / 1000) + 1}`);
    for (const action of ['create', 'start', 'rename', 'die', 'stop', 'destroy', 'commit', 'tag', 'untag'])
      expect(events.body, action).toContain(`"Action":"${action}"`);

    await call('DELETE', `/containers/${made.Id}?v=1&force=true`);
    await call('DELETE', '/images/ui%2Fimage:1?force=true', undefined, 200);
    await call('DELETE', '/networks/ui-net');
    await call('DELETE', '/volumes/ui-data');
  });
});
