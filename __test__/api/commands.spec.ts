/** Every command of docker's CLI by what it does, on ours and on dockerd (helpers/subject.ts); `run` has a table of its own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';
import { FOREIGN, Subject } from '../helpers/subject.ts';

const IMAGE = 'commands.test/busybox:1';

/** Groups whose commands a daemon outside of a swarm, without BuildKit and without managed plugins refuses or lacks. */
const OTHERS = [
  'builder',
  'checkpoint',
  'config',
  'context',
  'manifest',
  'node',
  'plugin',
  'secret',
  'service',
  'stack',
  'swarm',
  'trust',
  'buildx',
  'compose',
];
/** Of Docker Hub alone; the change of a cluster volume; `build` and `run`, which have specs of their own. */
const ELSEWHERE = ['search', 'login', 'logout', 'volume update', 'build', 'image build', 'run'];

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'registry'))('docker', () => {
  let subject: Subject;
  let registry: TestRegistry;
  const ok = (...args: string[]): Promise<string> => subject.ok(...args);
  const lines = async (...args: string[]): Promise<string[]> => (await ok(...args)).split('\n').sort();
  const field = (name: string, template: string): Promise<string> => ok('inspect', '-f', template, name);
  const start = (name: string, ...rest: string[]): Promise<string> =>
    ok('run', '-d', '--name', name, '--network', 'none', ...rest.slice(0, -1), IMAGE, 'sh', '-c', rest.at(-1) ?? '');

  beforeAll(async () => {
    registry = await startRegistry();
    subject = await Subject.open();
    await ok('import', subject.archive, IMAGE);
    await start('c-main', '-v', 'c-data:/data', 'echo begun; exec sleep 1000');
  });
  afterAll(async () => {
    const leave = [
      ['rm', '-fv', 'c-main'],
      ['volume', 'rm', '-f', 'c-data'],
      ['rmi', IMAGE],
    ];
    expect(await subject.close(leave)).toEqual([]);
    await registry[Symbol.asyncDispose]();
  });

  const COMMANDS: Record<string, () => Promise<void>> = {
    attach: async () => {
      await ok(
        'create',
        '-i',
        '--name',
        'c-attach',
        '--network',
        'none',
        IMAGE,
        'sh',
        '-c',
        'read x; echo got $x; exit 5',
      );
      await ok('start', 'c-attach');
      const { code, stdout } = await subject.cli('docker', ['attach', 'c-attach'], 'it\n');
      expect({ code, stdout }).toEqual({ code: 5, stdout: 'got it\n' });
      await ok('rm', 'c-attach');
    },
    commit: async () => {
      await ok('exec', 'c-main', 'sh', '-c', 'echo kept > /kept');
      await ok('commit', '-m', 'said', '-a', 'me', '-c', 'ENV A=b', 'c-main', 'commands.test/made:1');
      expect(
        await ok('run', '--rm', '--network', 'none', 'commands.test/made:1', 'sh', '-c', 'cat /kept; echo $A'),
      ).toBe('kept\nb');
      expect(await field('commands.test/made:1', '{{.Comment}} {{.Author}}')).toBe('said me');
    },
    history: async () => {
      expect(await ok('history', '--no-trunc', '--format', '{{.Comment}}', 'commands.test/made:1')).toMatch(
        /^said\nImported from /,
      );
    },
    tag: async () => {
      await ok('tag', 'commands.test/made:1', 'commands.test/made:2');
      expect(await lines('images', '--format', '{{.Tag}}', 'commands.test/made')).toEqual(['1', '2']);
    },
    rmi: async () => {
      expect(await ok('rmi', 'commands.test/made:2')).toBe('Untagged: commands.test/made:2');
      expect((await subject.docker('rmi', IMAGE)).stderr).toMatch(
        /conflict: unable to remove repository reference .* \(must force\)/,
      );
      expect(await ok('rmi', 'commands.test/made:1')).toMatch(/^Untagged: commands\.test\/made:1\nDeleted: sha256:/);
    },
    images: async () =>
      expect(await ok('images', '--format', '{{.Repository}}:{{.Tag}}', 'commands.test/*')).toBe(IMAGE),
    'push pull': async () => {
      // dockerd-up gives the other daemon a registry in its own network namespace
      const name = `${FOREIGN ? '127.0.0.1:5000' : registry.host}/commands/busybox:1`;
      await ok('tag', IMAGE, name);
      expect(await ok('push', name)).toMatch(/1: digest: sha256:[0-9a-f]{64} size: \d+/);
      await ok('rmi', name);
      expect(await ok('pull', name)).toContain(`Downloaded newer image for ${name}`);
      await ok('rmi', name);
    },
    'save load': async () => {
      const file = join(subject.dir, 'saved.tar');
      await ok('tag', IMAGE, 'commands.test/saved:1');
      await ok('save', '-o', file, 'commands.test/saved:1');
      await ok('rmi', 'commands.test/saved:1');
      expect(await ok('load', '-i', file)).toBe('Loaded image: commands.test/saved:1');
      await ok('rmi', 'commands.test/saved:1');
    },
    'import export': async () => {
      await ok('export', '-o', join(subject.dir, 'export.tar'), 'c-main');
      expect(readFileSync(join(subject.dir, 'export.tar')).includes('etc/passwd')).toBe(true);
      await ok(
        'import',
        '-m',
        'brought',
        '-c',
        'CMD ["echo", "in"]',
        join(subject.dir, 'export.tar'),
        'commands.test/in:1',
      );
      expect(await ok('run', '--rm', '--network', 'none', 'commands.test/in:1')).toBe('in');
      await ok('rmi', 'commands.test/in:1');
    },
    cp: async () => {
      await subject.cli('docker', ['exec', '-i', 'c-main', 'sh', '-c', 'cat > /tmp/x'], 'content');
      await ok('cp', 'c-main:/tmp/x', join(subject.dir, 'x'));
      await ok('cp', join(subject.dir, 'x'), 'c-main:/tmp/y');
      expect(await ok('exec', 'c-main', 'cat', '/tmp/y')).toBe('content');
    },
    'create start rm': async () => {
      await ok('import', '-c', 'VOLUME ["c-relative", "/"]', subject.archive, 'commands.test/volumes:1');
      await ok('create', '--name', 'c-root', 'commands.test/volumes:1', 'true');
      const mounts = await field('c-root', '{{range .Mounts}}{{println .Destination}}{{end}}');
      expect(mounts.split('\n').sort()).toEqual(['/', 'c-relative']);
      expect((await subject.docker('start', 'c-root')).stderr).toContain('failed to create task for container');
      await ok('rm', '-v', 'c-root');
      await ok('rmi', 'commands.test/volumes:1');
      await ok('import', '-c', 'VOLUME c-relative', subject.archive, 'commands.test/volumes:1');
      const mounted = ['sh', '-c', 'grep -c " /c-relative " /proc/mounts'];
      expect(await ok('run', '--rm', '--network', 'none', 'commands.test/volumes:1', ...mounted)).toBe('1');
      await ok('rmi', 'commands.test/volumes:1');
      await ok('create', '--name', 'c-made', '--network', 'none', IMAGE, 'sh', '-c', 'echo ran; exit 6');
      expect(await field('c-made', '{{.State.Status}}')).toBe('created');
      expect(await subject.docker('start', '-a', 'c-made')).toMatchObject({ code: 6, stdout: 'ran\n' });
      expect(await ok('rm', 'c-made')).toBe('c-made');
      expect((await subject.docker('inspect', 'c-made')).code).toBe(1);
    },
    diff: async () => {
      expect(await lines('diff', 'c-main')).toContain('A /kept');
      // the working directory is there before the first start, below the volume that is filled from it
      const flags = ['-v', '/work', '-w', '/work/below', IMAGE];
      await ok('create', '--name', 'c-diff', ...flags, 'ls', '/work');
      expect(await lines('diff', 'c-diff')).toEqual(['A /work', 'A /work/below']);
      await ok('commit', 'c-diff', 'commands.test/worked:1');
      const command = ['ls', '-d', '/work/below'];
      expect(await ok('run', '--rm', '--network', 'none', 'commands.test/worked:1', ...command)).toBe('/work/below');
      expect(await ok('start', '-a', 'c-diff')).toBe('below');
      await ok('rm', '-v', 'c-diff');
      await ok('rmi', 'commands.test/worked:1');
      const { stderr } = await subject.docker('create', '-w', '/bin/busybox', IMAGE, 'true');
      expect(stderr).toBe('Error response from daemon: Cannot mkdir: /bin/busybox is not a directory\n');
    },
    'events system events': async () => {
      await ok('import', '-c', 'LABEL told=1', subject.archive, 'commands.test/told:1');
      await ok('tag', 'commands.test/told:1', 'commands.test/told:2');
      await ok('save', 'commands.test/told:1');
      await ok('rmi', 'commands.test/told:2');
      const until = String(Math.ceil(Date.now() / 1000));
      const seen = await lines(
        'events',
        '--since',
        '1h',
        '--until',
        until,
        '-f',
        'container=c-main',
        '--format',
        '{{.Action}}',
      );
      expect(seen).toEqual(expect.arrayContaining(['commit', 'create', 'start']));
      const labelled = ['-f', 'type=image', '-f', 'label=told=1', '--format', '{{.Action}}'];
      expect(await lines('events', '--since', '1h', '--until', until, ...labelled)).toEqual(
        expect.arrayContaining(['save', 'tag', 'untag']),
      );
      await ok('rmi', 'commands.test/told:1');
      expect(
        await lines(
          'system',
          'events',
          '--since',
          '1h',
          '--until',
          until,
          '-f',
          'container=c-main',
          '--format',
          '{{.Action}}',
        ),
      ).toEqual(seen);
    },
    exec: async () => {
      const ran = await subject.docker(
        'exec',
        '-e',
        'A=b',
        '-w',
        '/tmp',
        '-u',
        '33',
        'c-main',
        'sh',
        '-c',
        'echo $A $PWD $(id -u); exit 7',
      );
      expect(ran).toMatchObject({ code: 7, stdout: 'b /tmp 33\n' });
    },
    'info system info': async () => {
      expect(Number(await ok('info', '-f', '{{.ContainersRunning}}'))).toBeGreaterThan(0);
      expect(await ok('system', 'info', '-f', '{{.OSType}}')).toBe('linux');
    },
    inspect: async () => expect(await field('c-main', '{{.Name}} {{.State.Running}}')).toBe('/c-main true'),
    'container inspect': async () => expect(await ok('container', 'inspect', '-f', '{{.Path}}', 'c-main')).toBe('sh'),
    'image inspect': async () => expect(await ok('image', 'inspect', '-f', '{{.Os}}', IMAGE)).toBe('linux'),
    'image ls': async () =>
      expect(await lines('image', 'ls', '-q', '--no-trunc')).toContain(await field(IMAGE, '{{.Id}}')),
    'image rm': async () => {
      await ok('tag', IMAGE, 'commands.test/other:1');
      expect(await ok('image', 'rm', 'commands.test/other:1')).toBe('Untagged: commands.test/other:1');
    },
    kill: async () => {
      await start('c-kill', 'trap "exit 8" HUP; echo up; while :; do sleep 0.05; done');
      while ((await ok('logs', 'c-kill')) !== 'up');
      await ok('kill', '-s', 'HUP', 'c-kill');
      expect(await ok('wait', 'c-kill')).toBe('8');
      await ok('rm', 'c-kill');
    },
    logs: async () => {
      expect(await ok('logs', '-t', '--tail', '1', 'c-main')).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z begun$/);
    },
    'pause unpause': async () => {
      await ok('pause', 'c-main');
      expect(await field('c-main', '{{.State.Status}}')).toBe('paused');
      expect((await subject.docker('exec', 'c-main', 'true')).stderr).toContain(
        'is paused, unpause the container before exec',
      );
      await ok('unpause', 'c-main');
      expect(await field('c-main', '{{.State.Status}}')).toBe('running');
    },
    port: async () => {
      await ok('run', '-d', '--name', 'c-port', '-p', '127.0.0.1::80', IMAGE, 'sleep', '1000');
      expect(await ok('port', 'c-port', '80')).toMatch(/^127\.0\.0\.1:\d+$/);
      await ok('rm', '-f', 'c-port');
    },
    'ps container ls': async () => {
      await ok('create', '--name', 'c-named', '-v', '/tmp:/t', IMAGE, 'true');
      const id = await field('c-named', '{{.Image}}');
      const image = (): Promise<string> => ok('ps', '-a', '--no-trunc', '-f', 'name=c-named', '--format', '{{.Image}}');
      expect(await image()).toBe(IMAGE);
      await ok('commit', 'c-main', 'commands.test/child:1');
      await ok('tag', IMAGE, 'commands.test/kept:1');
      await ok('tag', 'commands.test/child:1', IMAGE);
      expect(await image(), 'once the name stands for another image').toBe(id);
      await ok('tag', 'commands.test/kept:1', IMAGE);
      expect(await image()).toBe(IMAGE);
      await ok('create', '--name', 'c-child', 'commands.test/child:1', 'true');
      const names = (...filter: string[]): Promise<string[]> => lines('ps', '-a', ...filter, '--format', '{{.Names}}');
      expect(await names('-f', `ancestor=${IMAGE}`), 'with what was made on it').toContain('c-child');
      expect(await names('-f', 'volume=/tmp')).toEqual(['c-named']);
      expect(await lines('ps', '-q', '-f', 'since=c-main'), 'only what runs').toEqual(['']);
      await ok('rm', 'c-named', 'c-child');
      await ok('rmi', 'commands.test/child:1', 'commands.test/kept:1');
      expect(await lines('ps', '--format', '{{.Names}} {{.State}}')).toContain('c-main running');
      expect(await lines('container', 'ls', '-q', '--no-trunc')).toContain(await field('c-main', '{{.Id}}'));
    },
    rename: async () => {
      await ok('rename', 'c-main', 'c-other');
      expect(await field('c-other', '{{.Name}}')).toBe('/c-other');
      await ok('rename', 'c-other', 'c-main');
    },
    'restart stop': async () => {
      await start('c-again', 'echo once; exec sleep 1000');
      const first = await field('c-again', '{{.State.Pid}}');
      await ok('restart', '-t', '0', 'c-again');
      expect(await field('c-again', '{{.State.Pid}}')).not.toBe(first);
      expect(await ok('stop', '-t', '0', 'c-again')).toBe('c-again');
      expect(await field('c-again', '{{.State.Status}} {{.State.ExitCode}}')).toBe('exited 137');
      expect(await ok('logs', 'c-again')).toBe('once\nonce');
      await ok('create', '--name', 'c-broken', IMAGE, '/nowhere');
      const { code, stderr } = await subject.docker('restart', 'c-broken');
      expect({ code, stderr }).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/Cannot restart container c-broken: .*"\/nowhere"/),
      });
      await ok('rm', 'c-again', 'c-broken');
    },
    stats: async () =>
      expect(await ok('stats', '--no-stream', '--format', '{{.Name}} {{.PIDs}}', 'c-main')).toBe('c-main 1'),
    top: async () => {
      expect(await ok('top', 'c-main', '-o', 'pid,comm')).toMatch(/^PID +COMMAND\n\d+ +sleep$/);
      const titles = 'USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND'.split(' ').join(' +');
      const cells = 'root \\d+ [\\d.]+ [\\d.]+ \\d+ \\d+ \\? Ss [\\d:]+ 0:00 sleep 1000'.split(' ').join(' +');
      expect(await ok('top', 'c-main', 'aux', '--sort=comm')).toMatch(new RegExp(`^${titles}\n${cells}$`));
    },
    update: async () => {
      await ok('update', '-m', '64m', '--memory-swap', '128m', '--pids-limit', '50', 'c-main');
      const files = ['memory/memory.limit_in_bytes', 'pids/pids.max'].map((file) => `/sys/fs/cgroup/${file}`);
      expect(await ok('exec', 'c-main', 'cat', ...files)).toBe('67108864\n50');
    },
    version: async () => expect(await ok('version', '-f', '{{.Server.APIVersion}} {{.Server.Os}}')).toBe('1.51 linux'),
    wait: async () => {
      await start('c-wait', 'exit 9');
      expect(await ok('wait', 'c-wait')).toBe('9');
    },
    'container prune': async () => {
      expect(await ok('container', 'prune', '-f')).toMatch(
        /^Deleted Containers:\n(?:[0-9a-f]{64}\n)+\nTotal reclaimed space: /,
      );
      expect((await subject.docker('inspect', 'c-wait')).code).toBe(1);
    },
    'image prune': async () => {
      await ok('import', '-m', 'nameless', subject.archive);
      expect(await ok('image', 'prune', '-f')).toMatch(/deleted: sha256:[0-9a-f]{64}/i);
    },
    'network create network ls network inspect network connect network disconnect network rm': async () => {
      await ok('network', 'create', '--subnet', '10.232.7.0/24', '--label', 'a=b', 'c-net');
      expect(await ok('network', 'ls', '-f', 'label=a=b', '--format', '{{.Name}} {{.Driver}}')).toBe('c-net bridge');
      expect(await ok('network', 'ls', '-f', 'name=^c-n[ae]t$', '--format', '{{.Name}}')).toBe('c-net');
      expect(await ok('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', 'c-net')).toBe('10.232.7.0/24');
      await ok('run', '-d', '--name', 'c-net-1', IMAGE, 'sleep', '1000');
      await ok('network', 'connect', '--ip', '10.232.7.9', '--alias', 'known', 'c-net', 'c-net-1');
      expect(await ok('exec', 'c-net-1', 'ip', 'addr', 'show', 'eth1')).toContain('10.232.7.9/24');
      expect((await subject.docker('network', 'rm', 'c-net')).stderr).toContain('has active endpoints');
      await ok('network', 'disconnect', 'c-net', 'c-net-1');
      expect((await subject.docker('exec', 'c-net-1', 'ip', 'addr', 'show', 'eth1')).code).toBe(1);
      await ok('rm', '-f', 'c-net-1');
      expect(await ok('network', 'rm', 'c-net')).toBe('c-net');
    },
    'network prune': async () => {
      await ok('network', 'create', 'c-idle');
      expect(await ok('network', 'prune', '-f')).toBe('Deleted Networks:\nc-idle');
    },
    'volume create volume ls volume inspect volume rm': async () => {
      expect(await ok('volume', 'create', '--label', 'a=b', 'c-vol')).toBe('c-vol');
      expect(await ok('volume', 'ls', '-qf', 'label=a=b')).toBe('c-vol');
      expect(await ok('volume', 'ls', '-qf', 'name=^c-v.l$')).toBe('c-vol');
      expect(await ok('volume', 'ls', '-qf', 'name=^-vol')).toBe('');
      expect(await ok('volume', 'inspect', '-f', '{{.Driver}} {{.Labels.a}}', 'c-vol')).toBe('local b');
      expect((await subject.docker('volume', 'rm', 'c-data')).stderr).toContain('volume is in use');
      expect(await ok('volume', 'rm', 'c-vol')).toBe('c-vol');
    },
    'volume prune': async () => {
      await ok('volume', 'create', 'c-named');
      const anonymous = await ok('volume', 'create');
      expect(await ok('volume', 'prune', '-f')).toMatch(new RegExp(`^Deleted Volumes:\n${anonymous}\n\n`));
      expect(await ok('volume', 'prune', '-af')).toMatch(/^Deleted Volumes:\nc-named\n\n/);
    },
    'system df': async () =>
      expect(await ok('system', 'df', '--format', '{{.Type}} {{.TotalCount}}')).toMatch(
        /^Images [1-9]\d*\nContainers [1-9]/,
      ),
    'system prune': async () => expect(await ok('system', 'prune', '-f')).toMatch(/Total reclaimed space: /),
  };

  it('has a row for every command', async () => {
    const listed = async (...group: string[]): Promise<string[]> =>
      [...(await ok(...group, '--help')).matchAll(/^ {2}([a-z]+)\*? {2,}\S/gm)].map(([, name]) =>
        [...group, name].join(' '),
      );
    const top = (await listed()).filter((name) => !OTHERS.includes(name));
    const groups = ['container', 'image', 'network', 'system', 'volume'];
    const inside = (await Promise.all(groups.map((group) => listed(group)))).flat();
    const covered = [
      ...Object.keys(COMMANDS).flatMap(
        (key) => key.match(/(?:(?:container|image|network|system|volume) )?[a-z]+/g) ?? [],
      ),
      ...ELSEWHERE,
    ];
    const same = (name: string): string => (top.includes(name.split(' ')[1] ?? '') ? (name.split(' ')[1] ?? '') : name);
    const wanted = [...top.filter((name) => !groups.includes(name)), ...inside.map(same)];
    expect(wanted.filter((name) => !covered.includes(name))).toEqual([]);
  });

  it.each(Object.entries(COMMANDS))('%s', (_name, act) => act());
});
