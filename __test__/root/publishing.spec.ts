/** Published ports of a container that runs: they follow its networks, and come and go by `caisson update`. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as rest } from 'node:timers/promises';
import SqliteConnection from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { type CommandResult, run, TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const PORT = 20_000 + (process.pid % 10_000);

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('publishing', () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    await daemon.loadBusybox();
  }, 60_000);

  afterAll(() => daemon[Symbol.asyncDispose]());

  const caisson = (...args: string[]): Promise<CommandResult> =>
    run(join(packageRoot, 'bin/caisson'), args, {
      env: { ...process.env, DOCKER_HOST: `unix://${daemon.socket}` },
    });
  const bindings = async (): Promise<unknown> =>
    JSON.parse(await daemon.dockerOk('inspect', '-f', '{{json .HostConfig.PortBindings}}', 'web'));

  /** A connection on which each line comes back, or what became of it. */
  async function open(port: number): Promise<Socket | string> {
    const socket = connect({ host: '127.0.0.1', port });
    try {
      await once(socket, 'connect');
      return (await echoes(socket)) ? socket : 'closed';
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  }
  async function echoes(socket: Socket): Promise<boolean> {
    const told = Promise.race([once(socket, 'data'), once(socket, 'close')]);
    socket.write('line\n');
    return String((await told)[0]) === 'line\n';
  }
  const closed = async (port: number): Promise<boolean> => typeof (await open(port)) === 'string';
  /** In the end: a container that has just been started may not listen yet. */
  const answers = async (port: number): Promise<boolean> => {
    for (const deadline = Date.now() + 20_000; Date.now() < deadline; await rest(20)) {
      const socket = await open(port);
      if (typeof socket === 'string') continue;
      socket.destroy();
      return true;
    }
    return false;
  };

  test('they lead to the network that leads out, and are closed while there is none', async () => {
    await daemon.dockerOk('network', 'create', 'one');
    await daemon.dockerOk('network', 'create', 'two');
    await daemon.dockerOk(
      ...['run', '-d', '--name', 'web', '--network', 'one', '-p', `127.0.0.1:${PORT}:80`, '-p', '81', 'busybox'],
      ...['sh', '-c', 'nc -ll -p 81 -e cat & exec nc -ll -p 80 -e cat'],
    );
    const any = Number((await daemon.dockerOk('port', 'web', '81')).split('\n')[0]?.split(':').at(-1));
    expect(await answers(PORT)).toBe(true);
    await daemon.dockerOk('network', 'connect', 'two', 'web');
    await daemon.dockerOk('network', 'disconnect', 'one', 'web');
    expect(await answers(PORT)).toBe(true);
    expect(await answers(any)).toBe(true);
    expect(await daemon.dockerOk('port', 'web', '81')).toContain(`:${any}`);
    await daemon.dockerOk('network', 'disconnect', 'two', 'web');
    expect(await closed(PORT)).toBe(true);
    expect(await closed(any)).toBe(true);
    expect(await daemon.dockerOk('port', 'web')).toBe('');
    await daemon.dockerOk('network', 'connect', 'one', 'web');
    expect(await answers(PORT)).toBe(true);
    await daemon.dockerOk('network', 'connect', '--gw-priority', '1', 'two', 'web');
    expect(await answers(PORT)).toBe(true);
  });

  test('one comes and goes while the connections of the others go on', async () => {
    const other = await open(PORT);
    if (typeof other === 'string') throw new Error(other);
    const added = PORT + 1;
    expect(await caisson('update', '--publish-add', `127.0.0.1:${added}:81`, 'web')).toMatchObject({ code: 0 });
    expect(await answers(added)).toBe(true);
    expect(await bindings()).toMatchObject({
      '81/tcp': [{ HostPort: '' }, { HostIp: '127.0.0.1', HostPort: String(added) }],
    });
    const again = await caisson('update', '--publish-add', `127.0.0.1:${added}:81`, 'web');
    expect(again.stderr).toContain(`it publishes 127.0.0.1:${added}->81/tcp already`);
    const taken = await caisson('update', '--publish-add', `127.0.0.1:${PORT}:81`, 'web');
    expect(taken.stderr).toContain(`Bind for 127.0.0.1:${PORT} failed: port is already allocated`);
    expect(await answers(PORT)).toBe(true);
    await daemon.kill('SIGKILL');
    await daemon.start();
    expect(await answers(added)).toBe(true);
    expect(await caisson('update', '--publish-rm', `127.0.0.1:${added}:81`, 'web')).toMatchObject({ code: 0 });
    expect(await closed(added)).toBe(true);
    expect(await echoes(other)).toBe(true);
    other.destroy();
    const unknown = await caisson('update', '--publish-rm', `127.0.0.1:${added}:81`, 'web');
    expect(unknown.stderr).toContain(`it does not publish 127.0.0.1:${added}->81/tcp`);
  });

  test('a daemon that comes after one killed in the middle of a change opens and closes what the rows say', async () => {
    await daemon.dockerOk(
      ...[
        'run',
        '-d',
        '--name',
        'half',
        '-p',
        `127.0.0.1:${PORT + 3}:80`,
        'busybox',
        'nc',
        '-ll',
        '-p',
        '80',
        '-e',
        'cat',
      ],
    );
    expect(await answers(PORT + 3)).toBe(true);
    await daemon.kill('SIGKILL');
    const graph = new SqliteConnection(join(daemon.dataRoot, 'graph.db'));
    expect(graph.prepare('UPDATE port SET host_port = ? WHERE host_port = ?').run(PORT + 4, PORT + 3).changes).toBe(1);
    graph.close();
    await daemon.start();
    expect(await closed(PORT + 3)).toBe(true);
    expect(await answers(PORT + 4)).toBe(true);
    await daemon.dockerOk('rm', '-f', 'half');
    expect(await closed(PORT + 4)).toBe(true);
  });

  test('of one that does not run they are there with its next start', async () => {
    await daemon.dockerOk('kill', 'web');
    await caisson('update', '--publish-add', `127.0.0.1:${PORT + 2}:80`, 'web');
    await daemon.dockerOk('start', 'web');
    expect(await answers(PORT + 2)).toBe(true);
    await daemon.dockerOk('rm', '-f', 'web');
    expect(await closed(PORT + 2)).toBe(true);
    await daemon.dockerOk('network', 'rm', 'one', 'two');
    expect(await oracle(daemon)).toEqual([]);
  });
});
