/** Volumes of a plugin: made, mounted for as long as a container runs, and let go, also under a daemon that is killed. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { TestPlugin } from '../helpers/plugin.ts';
import { missing } from '../helpers/requires.ts';

interface Asked {
  Name: string;
  Opts?: Record<string, string>;
  ID?: string;
}

/** Directories as volumes; who has mounted which is kept by the ids of the mounts. */
class VolumePlugin extends TestPlugin {
  readonly volumes = new Map<string, Record<string, string>>();
  readonly mounted = new Map<string, Set<string>>();
  readonly calls: string[] = [];
  readonly dir: string;

  constructor(dir: string) {
    super('VolumeDriver', (method, body) => {
      const name = method.replace('VolumeDriver.', '');
      this.calls.push(name);
      return this.#answer(name, body as Asked);
    });
    this.dir = dir;
  }

  #answer(method: string, { Name: name, Opts: options = {}, ID: id = '' }: Asked): object | string {
    const Mountpoint = join(this.dir, 'mounted', name ?? '');
    const users = this.mounted.get(name) ?? new Set();
    const there = this.volumes.get(name);
    switch (method) {
      case 'Capabilities':
        return { Capabilities: { Scope: 'global' } };
      case 'List':
        return { Volumes: [...this.volumes.keys()].map((one) => ({ Name: one })) };
      case 'Create':
        if (options['bad']) return { Err: 'no such option: bad' };
        this.volumes.set(name, options);
        return {};
      case 'Get':
        if (there?.['denied']) return {};
        if (name === 'twice') return '{"Err": "no \\"}\\" such"}\n{"Volume": {"Name": "twice"}}';
        return there ? { Volume: { Name: name, Status: { size: '1G' } } } : { Err: 'unknown volume' };
    }
    if (!there) return { Err: 'unknown volume' };
    switch (method) {
      case 'Mount':
        if (there['broken']) return { Err: 'the disk is broken' };
        if (users.has(id)) return { Err: `mounted already by ${id}` };
        mkdirSync(Mountpoint, { recursive: true });
        this.mounted.set(name, users.add(id));
        return { Mountpoint };
      case 'Unmount':
        return users.delete(id) ? {} : { Err: `not mounted by ${id}` };
      case 'Remove':
        if (users.size > 0) return { Err: 'it is mounted' };
        this.volumes.delete(name);
        rmSync(Mountpoint, { recursive: true, force: true });
        return {};
      default:
        return { Err: `unexpected ${method}` };
    }
  }

  users(name: string): number {
    return this.mounted.get(name)?.size ?? 0;
  }
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('volumes of plugins', () => {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-volumes-'));
  const plugin = new VolumePlugin(dir);
  const daemon = new TestDaemon();
  const ok = (...args: string[]): Promise<string> => daemon.dockerOk(...args);

  beforeAll(async () => {
    await plugin.start();
    await daemon.start();
    await daemon.loadBusybox();
  });
  afterEach(async () => {
    await daemon.removeContainers();
    expect([...plugin.mounted.values()].flatMap((users) => [...users])).toEqual([]);
    expect(await oracle(daemon)).toEqual([]);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    plugin.stop();
    rmSync(dir, { recursive: true });
  });

  it('are made with options, shown with what the plugin tells, and removed', async () => {
    await ok('volume', 'create', '-d', plugin.name, '-o', 'size=1G', '--label', 'a=b', 'made');
    expect(plugin.volumes.get('made')).toEqual({ size: '1G' });
    const { stdout } = await daemon.docker(['volume', 'inspect', 'made']);
    expect(JSON.parse(stdout)).toMatchObject([
      { Name: 'made', Driver: plugin.name, Scope: 'global', Status: { size: '1G' }, Options: { size: '1G' } },
    ]);
    plugin.volumes.set('foreign', {});
    const listed = await ok('volume', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}');
    expect(listed.split('\n')).toEqual(
      expect.arrayContaining([`foreign ${plugin.name} global`, `made ${plugin.name} global`]),
    );
    expect(await ok('volume', 'ls', '-q', '-f', 'driver=local')).toBe('');
    expect(JSON.parse((await daemon.http('GET', '/info')).body)).toMatchObject({
      Plugins: { Volume: ['local', plugin.name] },
    });
    // what was made elsewhere is used by its name alone
    await ok('run', '--rm', '-v', 'foreign:/v', 'busybox', 'touch', '/v/file');
    expect(existsSync(join(dir, 'mounted/foreign/file'))).toBe(true);
    await ok('volume', 'rm', 'made', 'foreign');
    expect([...plugin.volumes]).toEqual([]);
  });

  it('a plugin that is not there yet, or for the moment, is waited for', async () => {
    const late = new VolumePlugin(dir);
    try {
      for (const name of ['early', 'between']) {
        const made = ok('volume', 'create', '-d', late.name, name);
        // by then the daemon has looked for it
        await daemon.http('GET', '/info');
        await late.start();
        expect(await made).toBe(name);
        await ok('volume', 'rm', name);
        late.stop();
      }
    } finally {
      late.stop();
    }
  });

  it('what goes wrong is told in the plugin’s words', async () => {
    const fails = async (...args: string[]): Promise<string> => (await daemon.docker(args)).stderr.trim();
    const absent = 'error looking up volume plugin nobody: plugin "nobody" not found';
    const withNobody = ['--volume-driver', 'nobody', '-v', 'x0:/v'];
    const [made, ran] = await Promise.all([
      fails('volume', 'create', '-d', 'nobody', 'x1'),
      fails('run', '--rm', '--pull', 'never', ...withNobody, 'busybox', 'true'),
    ]);
    expect(made).toBe(`Error response from daemon: create x1: ${absent}`);
    expect(ran).toContain(absent);
    expect(await fails('volume', 'create', '-d', plugin.name, '-o', 'bad=1', 'x2')).toBe(
      'Error response from daemon: create x2: no such option: bad',
    );
    await ok('volume', 'create', '-d', plugin.name, '-o', 'broken=1', 'x3');
    expect(await fails('run', '--rm', '-v', 'x3:/v', 'busybox', 'true')).toContain(
      "error while mounting volume 'x3': the disk is broken",
    );
    await ok('volume', 'create', 'x4');
    expect(await fails('volume', 'create', '-d', plugin.name, 'x4')).toContain(
      "create x4: driver 'local' already has volume 'x4': volume name must be unique",
    );
    // made, and unknown when asked: the answer of the create is the plugin's yes
    expect(await ok('volume', 'create', '-d', plugin.name, '-o', 'denied=1', 'x5')).toBe('x5');
    expect(await fails('volume', 'inspect', 'x5')).toContain('get x5: no such volume');
    // a plugin that writes two answers has given the first one
    await ok('volume', 'create', '-d', plugin.name, 'twice');
    expect(await fails('volume', 'inspect', 'twice')).toContain('get twice: no such volume');
    // lost behind our back: the name is free again
    plugin.volumes.delete('x3');
    expect(await fails('volume', 'inspect', 'x3')).toContain('no such volume');
    await ok('volume', 'create', 'x3');
    await ok('volume', 'rm', 'x3', 'x4');
    for (const name of ['x5', 'twice']) plugin.volumes.delete(name);
  });

  it.each([
    ['--volume-driver', (name: string) => ['--volume-driver', plugin.name, '-v', `${name}:/v`]],
    [
      '--mount',
      (name: string) => ['--mount', `type=volume,src=${name},dst=/v,volume-driver=${plugin.name},volume-opt=a=b`],
    ],
  ])('%s makes one and mounts it while a container runs', async (flag, flags) => {
    const name = `run${flag}`;
    await ok(
      'run',
      '-d',
      '--name',
      'first',
      ...flags(name),
      'busybox',
      'sh',
      '-c',
      'echo here > /v/file; exec sleep 1000',
    );
    await ok('run', '-d', '--name', 'second', '-v', `${name}:/v`, 'busybox', 'sleep', '1000');
    expect(plugin.volumes.get(name)).toEqual(flag === '--mount' ? { a: 'b' } : {});
    expect(plugin.users(name)).toBe(2);
    expect(await ok('exec', 'second', 'cat', '/v/file')).toBe('here');
    expect(await ok('inspect', '-f', '{{range .Mounts}}{{.Driver}} {{.Source}}{{end}}', 'first')).toBe(
      `${plugin.name} ${join(dir, 'mounted', name)}`,
    );
    await ok('rm', '-f', 'second');
    expect(plugin.users(name)).toBe(1);
    expect((await daemon.docker(['volume', 'rm', name])).stderr).toContain('volume is in use');
    await ok('stop', 'first');
    // a copy mounts it for that time
    writeFileSync(join(dir, 'in'), 'copied');
    await ok('cp', join(dir, 'in'), 'first:/v/in');
    expect(readFileSync(join(dir, 'mounted', name, 'in'), 'utf8')).toBe('copied');
    expect(plugin.users(name)).toBe(0);
    await ok('rm', 'first');
    await ok('volume', 'rm', name);
  });

  it('one without a name goes with its container; an image’s files come into an empty one', async () => {
    await ok('run', '--rm', '--volume-driver', plugin.name, '-v', '/etc', 'busybox', 'test', '-f', '/etc/passwd');
    expect([...plugin.volumes]).toEqual([]);
  });

  it.each([
    ['while it runs', [] as string[]],
    ['before it is made', ['start.prepare:before']],
    ['before it is written down', ['start.prepare:after']],
  ])('a daemon killed %s leaves nothing mounted that no container uses', async (_, [at]) => {
    const args = ['-v', 'kept:/v', '--volume-driver', plugin.name, 'busybox', 'sleep', '1000'];
    await ok('create', '--name', 'user', ...args);
    if (at === undefined) await ok('start', 'user');
    else {
      await daemon.kill();
      await daemon.start({ CAISSON_CRASH_AT: at });
      await daemon.docker(['start', 'user']);
      await daemon.ended();
    }
    await daemon.kill();
    await daemon.start();
    expect(plugin.users('kept')).toBe(at === undefined ? 1 : 0);
    // the end of a container that no daemon sees
    if (at === undefined) {
      const pid = Number(await ok('inspect', '-f', '{{.State.Pid}}', 'user'));
      await daemon.kill();
      process.kill(pid, 'SIGKILL');
      await daemon.start();
      await ok('wait', 'user');
    }
    await ok('start', 'user');
    expect(plugin.users('kept')).toBe(1);
    await ok('rm', '-f', 'user');
    await ok('volume', 'rm', 'kept');
  });
});
