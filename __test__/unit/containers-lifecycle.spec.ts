/** What the engine does around the kernel, on a native layer that has none: rows, events, waits, policies, clean-up. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Containers } from '../../ts/engine/containers/containers.ts';
import type { Graph } from '../../ts/graph/graph.ts';
import { FakeEngine } from '../helpers/fakeEngine.ts';
import type { FakeNative } from '../helpers/fakeNative.ts';

let engine: FakeEngine;
let dir: string;
let fake: FakeNative;
let graph: Graph;
let containers: Containers;

async function boot(bootId?: string): Promise<void> {
  ({ dir, fake, graph, containers } = await engine.boot(bootId));
}

beforeEach(async () => {
  engine = new FakeEngine();
  await boot();
});

afterEach(() => engine[Symbol.asyncDispose]());

const never = new AbortController().signal;
const create = (cmd: string[], hostConfig: object = {}, name = ''): Promise<string> =>
  engine.create(cmd, hostConfig, name);
const actions = (): string[] =>
  graph.events.between(0n, BigInt(Number.MAX_SAFE_INTEGER) * 1000n).map(({ type, action }) => `${type} ${action}`);
const inspected = async (id: string) =>
  (await containers.inspect(id, false)) as {
    State: Record<string, unknown>;
    NetworkSettings: { IPAddress: string; Ports: object };
  };

describe('create', () => {
  it('writes the row, its directories and an event', async () => {
    const id = await create(['run'], {}, 'web');
    expect(containers.find('web').id).toBe(id);
    expect(containers.find('/web').status).toBe('created');
    expect(containers.find(id.slice(0, 6)).id).toBe(id);
    expect(actions()).toEqual(['container create']);
  });

  it('refuses a taken name with the holder, and leaves nothing behind', async () => {
    const holder = await create(['run'], {}, 'web');
    await expect(create(['run'], {}, 'web')).rejects.toThrow(`is already in use by container "${holder}"`);
    expect(graph.containers.all()).toHaveLength(1);
    expect(graph.jobs.all()).toEqual([]);
  });

  it('says which image is missing', async () => {
    await expect(containers.create({ Image: 'nope' }, { name: '' })).rejects.toThrow('No such image: nope:latest');
  });

  it('makes named and anonymous volumes; only the anonymous one goes with rm -v', async () => {
    const id = await create(['run'], { Binds: ['data:/d', '/anon'] });
    const names = graph.volumes.all().map(({ name }) => name);
    expect(names).toHaveLength(2);
    await containers.remove(id, { force: false, volumes: true });
    expect(graph.volumes.all().map(({ name }) => name)).toEqual(['data']);
  });
});

describe('a run', () => {
  it('goes from create to the recorded end, and wait tells the code', async () => {
    const id = await create(['exit', '3'], { NetworkMode: 'none' });
    const ended = containers.wait(id, 'next-exit', never);
    await containers.start(id);
    expect(await ended).toEqual({ exitCode: 3 });
    expect((await inspected(id)).State).toMatchObject({ Status: 'exited', ExitCode: 3, Running: false, Pid: 0 });
    expect(actions()).toEqual([
      'container create',
      'network connect',
      'container start',
      'network disconnect',
      'container die',
    ]);
    expect(await containers.wait(id, 'not-running', never)).toEqual({ exitCode: 3 });
  });

  it('tells its neighbours of an address that another container has had, and of no other', async () => {
    const run = async (): Promise<string> => {
      const id = await create(['run']);
      await containers.start(id);
      return id;
    };
    const first = await run();
    await run();
    await containers.remove(first, { force: true, volumes: false });
    await run();
    await run();
    expect(fake.endpoints.map(({ addresses, advertise }) => [addresses[0], advertise.count])).toEqual([
      ['172.17.0.2/16', 0],
      ['172.17.0.3/16', 0],
      ['172.17.0.2/16', 3],
      ['172.17.0.4/16', 0],
    ]);
  });

  it('is given the lowest address that is free', async () => {
    const ids: string[] = [];
    const addressOf = async (id: string) => (await inspected(id)).NetworkSettings.IPAddress;
    for (let count = 0; count < 5; count++) {
      const id = await create(['run']);
      await containers.start(id);
      ids.push(id);
    }
    expect(await Promise.all(ids.map(addressOf))).toEqual([2, 3, 4, 5, 6].map((last) => `172.17.0.${last}`));
    const restart = async (...indices: number[]): Promise<string[]> => {
      for (const index of indices) await containers.stop(ids[index] as string, {});
      for (const index of indices) await containers.start(ids[index] as string);
      return Promise.all(indices.map((index) => addressOf(ids[index] as string)));
    };
    expect(await restart(4)).toEqual(['172.17.0.6']);
    expect(await restart(4, 3, 1)).toEqual(['172.17.0.3', '172.17.0.5', '172.17.0.6']);
    expect(await restart(0, 1, 2, 3, 4)).toEqual([2, 3, 4, 5, 6].map((last) => `172.17.0.${last}`));
  });

  it('has an address and ports on the bridge while it lasts, and gives them back', async () => {
    const id = await create(['run'], { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } });
    await containers.start(id);
    expect((await inspected(id)).NetworkSettings.IPAddress).toBe('172.17.0.2');
    expect(fake.endpoints).toMatchObject([
      { addresses: ['172.17.0.2/16'], gateways: ['172.17.0.1'], bridge: 'caisson0' },
    ]);
    const ports = ['0.0.0.0', '::'].map((hostIp) => ({
      hostIp,
      hostPort: 8080,
      containerIp: '172.17.0.2',
      containerPort: 80,
    }));
    expect(fake.ports).toMatchObject(ports);
    expect(fake.containers.get(id)?.ports).toMatchObject(ports);
    expect(readFileSync(join(dir, 'data/containers', id, 'hosts'), 'utf8')).toContain(`172.17.0.2\t${id.slice(0, 12)}`);
    await containers.stop(id, {});
    await containers.remove(id, { force: false, volumes: false });
    expect(fake.ports).toEqual([]);
    expect(graph.networks.allEndpoints()).toEqual([]);
    expect(fake.openFds.size).toBe(0);
  });

  it('that cannot be executed leaves the reason in the row and nothing in the kernel', async () => {
    const id = await create(['absent'], { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } });
    await expect(containers.start(id)).rejects.toThrow(
      'failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: exec: "absent": executable file not found in $PATH',
    );
    expect((await inspected(id)).State).toMatchObject({ Status: 'created', ExitCode: 127 });
    expect([fake.containers.size, fake.ports.length, fake.openFds.size]).toEqual([0, 0, 0]);
    expect(graph.networks.addresses(graph.networks.resolve('bridge').id).size).toBe(0);
  });

  it('that fails with --rm removes the container, which the client waits for', async () => {
    const id = await create(['absent'], { AutoRemove: true });
    const removed = containers.wait(id, 'removed', never);
    await expect(containers.start(id)).rejects.toThrow('executable file not found');
    expect(await removed).toEqual({ exitCode: 127 });
    expect(graph.containers.all()).toEqual([]);
  });

  it('on a taken port names it, and undoes what was done', async () => {
    fake.takenPorts.add(8080);
    const id = await create(['run'], { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } }, 'web');
    await expect(containers.start(id)).rejects.toThrow(
      /^failed to set up container networking: driver failed programming external connectivity on endpoint web \([0-9a-f]{64}\): Bind for 0.0.0.0:8080 failed: port is already allocated$/,
    );
    expect([fake.containers.size, fake.ports.length, fake.openFds.size]).toEqual([0, 0, 0]);
    fake.takenPorts.clear();
    await containers.start(id);
    expect(containers.find(id).status).toBe('running');
  });

  it('is not started twice', async () => {
    const id = await create(['run']);
    await containers.start(id);
    await expect(containers.start(id)).rejects.toMatchObject({ kind: 'NotModified' });
  });

  it('with --rm that cannot be removed tells whoever waits for that', async () => {
    const id = await create(['exit', '5'], { AutoRemove: true, NetworkMode: 'none' });
    const removed = containers.wait(id, 'removed', never);
    const begin = graph.containers.delete.bind(graph.containers);
    graph.containers.delete = () => {
      graph.containers.delete = begin;
      throw new Error('the disk is full');
    };
    await containers.start(id);
    expect(await removed).toEqual({ exitCode: 5, error: expect.stringContaining('the disk is full') });
  });

  it('with --rm vanishes; wait for removal still tells its code', async () => {
    const id = await create(['exit', '5'], { AutoRemove: true, NetworkMode: 'none' });
    const removed = containers.wait(id, 'removed', never);
    await containers.start(id);
    expect(await removed).toEqual({ exitCode: 5 });
    expect(graph.containers.all()).toEqual([]);
    expect(actions().at(-1)).toBe('container destroy');
  });
});

describe('ending', () => {
  it('stop sends the stop signal and records kill, die, stop', async () => {
    const id = await create(['run']);
    await containers.start(id);
    await containers.stop(id, {});
    expect(containers.find(id)).toMatchObject({ status: 'exited', exitCode: 143, manuallyStopped: true });
    expect(
      actions()
        .filter((action) => action.startsWith('container'))
        .slice(2),
    ).toEqual(['container kill', 'container die', 'container stop']);
    await expect(containers.stop(id, {})).rejects.toMatchObject({ kind: 'NotModified' });
  });

  it('stop kills what does not end within its time', async () => {
    const id = await create(['stubborn']);
    await containers.start(id);
    await containers.stop(id, { timeoutS: 0 });
    expect(containers.find(id).exitCode).toBe(137);
    expect(fake.calls.filter((call) => call.startsWith('signal'))).toEqual(['signal 15', 'signal 9']);
  });

  it('rm needs force while it runs', async () => {
    const id = await create(['run'], {}, 'web');
    await containers.start(id);
    await expect(containers.remove(id, { force: false, volumes: false })).rejects.toThrow(
      'cannot remove container "web": container is running: stop the container before removing or force remove',
    );
    await containers.remove(id, { force: true, volumes: false });
    expect(graph.containers.all()).toEqual([]);
  });

  it('kill needs a running container', async () => {
    const id = await create(['run'], {}, 'web');
    await expect(containers.kill('web', 'TERM')).rejects.toThrow(
      `cannot kill container: web: container ${id} is not running`,
    );
  });

  // its program may have said already that it can be reached
  it('kill and exec wait for a start that is under way', async () => {
    const id = await create(['run'], {}, 'web');
    const start = fake.startContainer.bind(fake);
    const begun = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    fake.startContainer = async (started) => {
      await start(started);
      begun.resolve();
      await goOn.promise;
    };
    const starting = containers.start(id);
    await begun.promise;
    const killed = containers.kill('web', 'USR1');
    const exec = containers.execs.create('web', { Cmd: ['true'] });
    goOn.resolve();
    await Promise.all([starting, killed]);
    expect(await exec).toMatch(/^[0-9a-f]{64}$/);
    expect(fake.calls.filter((call) => call.startsWith('signal'))).toEqual(['signal 10']);
  });

  it('pause freezes, and stop thaws first', async () => {
    const id = await create(['run']);
    await containers.start(id);
    await containers.pause(id);
    expect([containers.find(id).status, fake.frozen.size]).toEqual(['paused', 1]);
    await expect(containers.pause(id)).rejects.toThrow('is already paused');
    await containers.stop(id, {});
    expect([containers.find(id).status, fake.frozen.size]).toEqual(['exited', 0]);
  });

  it('a killed shim is an end with a reason', async () => {
    const id = await create(['run']);
    await containers.start(id);
    const ended = containers.wait(id, 'next-exit', never);
    fake.shimGone(id);
    expect(await ended).toEqual({ exitCode: 137 });
    expect((await inspected(id)).State).toMatchObject({ Status: 'exited', Error: 'shim lost' });
  });
});

describe('a daemon that was killed', () => {
  const killed = boot;

  it('finds a running container running', async () => {
    const id = await create(['run']);
    await containers.start(id);
    fake.found.set(id, { status: 'running', execs: [] });
    await killed();
    expect(containers.find(id).status).toBe('running');
    await containers.stop(id, {});
    expect(containers.find(id).exitCode).toBe(143);
  });

  it('reads the end that it missed from what the shim left', async () => {
    const id = await create(['run']);
    await containers.start(id);
    const exit = { exitCode: 9, oomKilled: false, exitedAt: new Date().toISOString() };
    fake.found.set(id, { status: 'exited', exit, execs: [] });
    await killed();
    expect(containers.find(id)).toMatchObject({ status: 'exited', exitCode: 9 });
    expect(actions().at(-1)).toBe('container die');
  });

  it('after a reboot calls running containers ended, and starts again what shall always run', async () => {
    const plain = await create(['run']);
    const always = await create(['run'], { RestartPolicy: { Name: 'always' } });
    await containers.start(plain);
    await containers.start(always);
    fake.containers.clear();
    await killed('boot-2');
    const started = new Promise<void>((resolve) => {
      graph.events.listen(({ action, actorId }) => action === 'start' && actorId === always && resolve());
    });
    expect(containers.find(plain)).toMatchObject({ status: 'exited', exitCode: 255 });
    await started;
    expect(containers.find(always).bootId).toBe('boot-2');
  });

  it('removes state that no row speaks for', async () => {
    const orphan = 'ab'.repeat(32);
    mkdirSync(join(dir, 'exec/c', orphan));
    mkdirSync(join(dir, 'data/containers', orphan));
    await killed();
    expect(fake.calls).toContain(`destroy ${orphan}`);
  });
});

describe('exec', () => {
  it('runs in a running container only, and its code is told', async () => {
    const id = await create(['run']);
    await expect(containers.execs.create(id, { Cmd: ['x'] })).rejects.toThrow(`container ${id} is not running`);
    await containers.start(id);
    await expect(containers.execs.create(id, { Cmd: [] })).rejects.toThrow('No exec command specified');
    const exec = await containers.execs.create(id, { Cmd: ['x', 'y'] });
    await containers.execs.start(exec, undefined);
    expect(containers.execs.inspect(exec)).toMatchObject({ ExitCode: 3, Running: false, ContainerID: id });
    expect(() => containers.execs.check(exec)).toThrow('has already run');
  });

  it('that cannot be executed ends with the code of a shell, and tells why', async () => {
    const id = await create(['run']);
    await containers.start(id);
    const exec = await containers.execs.create(id, { Cmd: ['absent'] });
    await expect(containers.execs.start(exec, undefined)).rejects.toThrow(
      'OCI runtime exec failed: exec failed: unable to start container process: exec: "absent": executable file not found in $PATH',
    );
    expect(containers.execs.inspect(exec)).toMatchObject({ ExitCode: 127, Running: false });
    expect(graph.jobs.all()).toEqual([]);
  });

  it('is started once, however many ask', async () => {
    const id = await create(['run']);
    await containers.start(id);
    const exec = await containers.execs.create(id, { Cmd: ['stay'] });
    const both = await Promise.allSettled([
      containers.execs.start(exec, undefined),
      containers.execs.start(exec, undefined),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(containers.execs.inspect(exec)).toMatchObject({ Running: true, ExitCode: null });
  });

  it.each([
    ['runs on', (execId: string) => [{ execId, pid: 77, running: true }], { Running: true, Pid: 77, ExitCode: null }],
    [
      'has ended meanwhile',
      (execId: string) => [{ execId, pid: 77, running: false, exitCode: 4 }],
      { Running: false, ExitCode: 4 },
    ],
    ['is unknown to the shim', () => [], { Running: false, ExitCode: 137 }],
  ])('of a daemon that was killed: one that %s', async (_, told, expected) => {
    const id = await create(['run']);
    await containers.start(id);
    const exec = await containers.execs.create(id, { Cmd: ['stay'] });
    await containers.execs.start(exec, undefined);
    fake.found.set(id, { status: 'running', execs: told(exec) });
    await boot();
    expect(containers.execs.inspect(exec)).toMatchObject(expected);
    expect(fake.calls.includes(`acknowledge ${exec}`)).toBe(!expected.Running);
  });
});
