/** Images and archives made of containers, by the real docker client. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';

const BASE = 'test.local/base:1';

interface Inspected {
  Id: string;
  Parent: string;
  Author: string;
  Comment: string;
  RootFS: { Layers: string[] };
  Config: Record<string, unknown>;
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('from containers', () => {
  let dir: string;
  let daemon: TestDaemon;
  let base: string;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-commit-'));
    daemon = await new TestDaemon().start();
    const files = { 'etc/removed': 'x', 'opt/kept': 'kept', 'opt/sub/hidden': 'hidden' };
    const image = buildImage([await busyboxTar(files)], {
      Cmd: ['sh'],
      Env: ['PATH=/bin', 'KEPT=1'],
      Labels: { a: '1' },
    });
    await daemon.docker(['load'], { input: await ociArchive(image, BASE) });
    base = image.configDigest;
  });
  afterEach(async () => {
    const ids = (await daemon.dockerOk('ps', '-aq')).split('\n').filter(Boolean);
    for (const id of ids) await daemon.dockerOk('rm', '-fv', id);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  const run = (...args: string[]): Promise<string> => daemon.dockerOk('run', '--rm', '--network=none', ...args);
  const inspect = async (name: string): Promise<Inspected> =>
    JSON.parse((await daemon.http('GET', `/images/${name}/json`)).body) as Inspected;
  const committed = async (script: string, ...flags: string[]): Promise<Inspected> => {
    await daemon.dockerOk('run', '--network=none', '--name', 'made', BASE, 'sh', '-c', script);
    await daemon.dockerOk('commit', ...flags, 'made', 'made:1');
    return inspect('made:1');
  };

  describe('commit', () => {
    it('makes an image of what the container changed', async () => {
      const image = await committed(
        'echo new > /new; rm /etc/removed; rm -r /opt; mkdir /opt; echo again > /opt/kept; chmod 4755 /new; ln /new /linked',
      );
      expect(image).toMatchObject({ Parent: base, RootFS: { Layers: [expect.any(String), expect.any(String)] } });
      expect(await run('made:1', 'sh', '-c', 'cat /new /opt/kept; ls /opt; stat -c "%a %h" /linked')).toBe(
        'new\nagain\nkept\n4755 2',
      );
      expect((await daemon.docker(['run', '--rm', '--network=none', 'made:1', 'cat', '/etc/removed'])).code).toBe(1);
    });

    it('leaves out what the engine made to mount on, and what is mounted', async () => {
      await daemon.dockerOk('volume', 'create', 'data');
      const flags = ['--network=none', '-v', 'data:/data', '--tmpfs', '/scratch', '--name', 'made'];
      await daemon.dockerOk('run', ...flags, BASE, 'sh', '-c', 'echo x > /data/x; echo y > /scratch/y; echo z > /z');
      await daemon.dockerOk('commit', 'made', 'made:1');
      await daemon.dockerOk('save', '-o', join(dir, 'made.tar'), 'made:1');
      const [{ Layers }] = JSON.parse(
        execFileSync('tar', ['-xOf', join(dir, 'made.tar'), 'manifest.json'], { encoding: 'utf8' }),
      ) as [{ Layers: string[] }];
      const list = `tar -xOf ${dir}/made.tar ${Layers.at(-1)} | tar -tf -`;
      const names = execFileSync('sh', ['-c', list], { encoding: 'utf8' }).trim().split('\n').sort();
      expect(names).toEqual(['data/', 'scratch/', 'z']);
    });

    it('takes author, message and changes', async () => {
      const flags = ['-a', 'Ann <a@x>', '-m', 'why', '-c', 'ENTRYPOINT ["echo"]', '-c', 'ENV B=2', '-c', 'LABEL b=2'];
      const image = await committed('true', ...flags);
      expect(image).toMatchObject({
        Author: 'Ann <a@x>',
        Comment: 'why',
        Config: { Entrypoint: ['echo'], Cmd: null, Env: ['PATH=/bin', 'KEPT=1', 'B=2'], Labels: { a: '1', b: '2' } },
      });
      expect(await run('made:1', 'hi')).toBe('hi');
    });

    it('adds no layer when nothing was changed, but a step of the history', async () => {
      const image = await committed('true');
      expect(image.RootFS.Layers).toHaveLength(1);
      const history = JSON.parse((await daemon.http('GET', '/images/made:1/history')).body) as object[];
      expect(history).toMatchObject([
        { Id: image.Id, CreatedBy: 'sh -c true', Size: 0, Tags: ['made:1'] },
        { Id: base, CreatedBy: 'layer 0', Tags: [BASE] },
      ]);
    });

    it('takes a running container, which goes on', async () => {
      const id = await daemon.dockerOk(
        'run',
        '-d',
        '--network=none',
        '--name',
        'made',
        BASE,
        'sh',
        '-c',
        'echo 1 > /one; exec sleep 1000',
      );
      await daemon.dockerOk('exec', 'made', 'sh', '-c', 'while ! test -s /one; do :; done');
      for (const pause of ['--pause=true', '--pause=false']) {
        await daemon.dockerOk('commit', pause, 'made', 'made:1');
        expect(await daemon.dockerOk('inspect', '-f', '{{.State.Status}}', 'made')).toBe('running');
        expect(await daemon.dockerOk('exec', 'made', 'echo', 'alive')).toBe('alive');
        expect(await run('made:1', 'cat', '/one')).toBe('1');
      }
      const until = String(Date.now() / 1000 + 1);
      const filters = ['pause', 'commit', 'unpause'].flatMap((event) => ['--filter', `event=${event}`]);
      const told = ['events', '--since', '1', '--until', until, ...filters, '--filter', `container=${id}`];
      expect(await daemon.dockerOk(...told, '--format', '{{.Action}}')).toBe('pause\ncommit\nunpause\ncommit');
    });

    it.each([
      ['no container', '/commit?container=nope', 404, 'No such container: nope'],
      ['no name', '/commit', 400, 'container'],
      ['a wrong change', '/commit?container=made&changes=RUN%20x', 400, 'RUN'],
      ['a digest', `/commit?container=made&repo=a@sha256:${'0'.repeat(64)}`, 400, 'digest reference'],
    ])('fails for %s, and leaves nothing', async (_what, path, status, message) => {
      await daemon.dockerOk('create', '--name', 'made', BASE);
      const layers = readdirSync(join(daemon.dataRoot, 'overlay')).sort();
      const answer = await daemon.http('POST', path);
      expect([answer.status, answer.body]).toEqual([status, expect.stringContaining(message)]);
      expect(readdirSync(join(daemon.dataRoot, 'overlay')).sort()).toEqual(layers);
    });
  });

  describe('export', () => {
    const listed = async (container: string): Promise<string[]> => {
      const archive = join(dir, `${container}.tar`);
      await daemon.dockerOk('export', '-o', archive, container);
      return execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).trim().split('\n');
    };

    it('is the whole root filesystem, of a stopped and of a running container, without what is mounted', async () => {
      const script = 'echo new > /new; rm /etc/removed; echo secret > /data/secret; ';
      await daemon.dockerOk('run', '--network=none', '-v', '/data', '--name', 'ended', BASE, 'sh', '-c', script);
      const more = [BASE, 'sh', '-c', `${script} touch /ready; exec sleep 1000`];
      await daemon.dockerOk('run', '-d', '--network=none', '-v', '/data', '--name', 'goes', ...more);
      await daemon.dockerOk('exec', 'goes', 'sh', '-c', 'while ! test -e /ready; do :; done');
      for (const container of ['ended', 'goes']) {
        const names = await listed(container);
        expect(names).toEqual(
          expect.arrayContaining([
            'bin/busybox',
            'new',
            'opt/kept',
            'data/',
            'etc/hosts',
            'proc/',
            '.dockerenv',
            'dev/console',
            'etc/mtab',
          ]),
        );
        expect(names).not.toContain('etc/removed');
        expect(names.filter((name) => /^(data|proc|sys)\/./.test(name))).toEqual([]);
      }
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(daemon.dataRoot);
      expect(await daemon.dockerOk('exec', 'goes', 'echo', 'alive')).toBe('alive');
    });

    it('mounts nothing over a layer that a running container writes, of which the kernel would warn', async () => {
      const warnings = (): string[] => {
        const lines = execFileSync('dmesg', { encoding: 'utf8', maxBuffer: 1 << 26 }).split('\n');
        return lines.filter((line) => line.includes('dir is in-use as'));
      };
      await daemon.dockerOk('run', '-d', '--network=none', '--name', 'goes', BASE, 'sleep', '1000');
      const before = warnings();
      expect(await listed('goes')).toContain('opt/kept');
      for (const path of ['goes:/opt/kept', 'goes:/etc']) await daemon.dockerOk('cp', path, dir);
      await daemon.dockerOk('cp', join(dir, 'kept'), 'goes:/opt/again');
      await daemon.dockerOk('diff', 'goes');
      expect(warnings()).toEqual(before);
    });

    it('is what import makes the same container of', async () => {
      await daemon.dockerOk('run', '--network=none', '--name', 'ended', BASE, 'sh', '-c', 'echo new > /new');
      await listed('ended');
      await daemon.dockerOk('import', join(dir, 'ended.tar'), 'imported:1');
      expect(await run('imported:1', '/bin/cat', '/new', '/opt/kept')).toBe('new\nkept');
    });

    it('fails for a container that is not there', async () => {
      expect((await daemon.http('GET', '/containers/nope/export')).status).toBe(404);
    });
  });
});
