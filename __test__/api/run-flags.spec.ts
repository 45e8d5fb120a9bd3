/** Every flag of `docker run` has its effect, with docker's CLI and with ours; on dockerd as well, see helpers/subject.ts. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CONTAINER_FLAGS } from '../../ts/cli/containerFlags.ts';
import type { CommandResult } from '../helpers/daemon.ts';
import { missing } from '../helpers/requires.ts';
import { type Place, ROWS, type Row } from '../helpers/runFlags.ts';
import { type Cli, FOREIGN, Subject } from '../helpers/subject.ts';

const IMAGES = { plain: 'flags.test/plain:1', rich: 'flags.test/rich:1' };
/** The flags of the table are all, but for these, which have tests of their own below. */
const OWN_TESTS = ['detach', 'detach-keys', 'entrypoint', 'help', 'publish', 'publish-all', 'rm', 'sig-proxy'];

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'cgroup1'))('docker run', () => {
  const place: Place = { dir: '', cgroupParent: '/caisson-flags', bridge: 'docker0' };
  let subject: Subject;
  const cli = (name: Cli, args: string[], input = ''): Promise<CommandResult> => subject.cli(name, args, input);
  const ok = (...args: string[]): Promise<string> => subject.ok(...args);

  beforeAll(async () => {
    subject = await Subject.open({
      'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n',
      'etc/group': 'root:x:0:\naudio:x:63:\n',
      'shared/from-web': 'web\n',
    });
    const { dir, archive, daemon } = subject;
    place.dir = dir;
    if (daemon) place.bridge = daemon.bridge;
    writeFileSync(join(dir, 'file'), 'text\n');
    writeFileSync(join(dir, 'env'), '# comment\nONE=1\nTWO=x y\n');
    writeFileSync(join(dir, 'labels'), 'from.file=1\n');
    const chmod = { names: ['chmod', 'fchmod', 'fchmodat'], action: 'SCMP_ACT_ERRNO' };
    writeFileSync(join(dir, 'no-chmod.json'), JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [chmod] }));
    await ok('import', '-c', 'CMD ["sh"]', archive, IMAGES.plain);
    await ok(
      'import',
      '-c',
      'EXPOSE 90',
      '-c',
      'ENTRYPOINT ["echo", "entered"]',
      '-c',
      'HEALTHCHECK CMD true',
      archive,
      IMAGES.rich,
    );
    await ok('network', 'create', '--ipv6', '--subnet', '10.231.7.0/24', '--subnet', 'fd77::/64', 'flags');
    await ok('run', '-d', '--name', 'flags-web', '-v', '/shared', IMAGES.plain, 'sleep', '1000');
  });
  afterAll(async () => {
    const leave = [
      ['rm', '-fv', 'flags-web'],
      ['network', 'rm', 'flags'],
      ['volume', 'rm', 'flags-data', 'flags-driven'],
      ['rmi', IMAGES.plain, IMAGES.rich],
    ];
    expect(await subject.close(leave)).toEqual([]);
    // the parent that a row asked for belongs to whoever named it
    for (const hierarchy of ['', ...readdirSync('/sys/fs/cgroup')])
      for (const path of ['inner', '']) {
        const parent = join('/sys/fs/cgroup', hierarchy, place.cgroupParent, path);
        if (existsSync(parent)) rmdirSync(parent);
      }
  });

  const without = (dashes: string[]): string[] => dashes.map((flag) => flag.replace(/^--/, ''));

  it('has a row for every flag that the client has', async () => {
    const { stdout } = await cli('docker', ['run', '--help']);
    const all = without([...stdout.matchAll(/^ +(?:-., )?(--[\w-]+)/gm)].map(([, flag]) => flag ?? ''));
    expect(all.length).toBeGreaterThanOrEqual(100);
    const covered = new Set([...ROWS.flatMap(({ flags }) => flags.split(' ')), ...OWN_TESTS]);
    expect(all.filter((flag) => !covered.has(flag))).toEqual([]);
  });

  it('our own has them too', () => {
    const own = CONTAINER_FLAGS.map(([text]) => /--[\w-]+/.exec(text)?.[0] ?? '');
    const all = new Set([...without(own), 'detach', 'detach-keys', 'help', 'sig-proxy']);
    expect([...ROWS.flatMap(({ flags }) => flags.split(' ')), ...OWN_TESTS].filter((flag) => !all.has(flag))).toEqual(
      [],
    );
  });

  async function act(
    name: Cli,
    { args, script, inspect, image = 'plain', input, net }: Row,
  ): Promise<{ code: number; text: string }> {
    const given = args(place);
    const network = net || given.includes('--network') ? [] : ['--network', 'none'];
    const rest = [...network, ...given, IMAGES[image], 'sh', '-c', script];
    if (inspect === undefined) {
      const { code, stdout, stderr } = await cli(name, ['run', '--rm', ...rest], input);
      return { code, text: (stdout + stderr).replace(/\n$/, '') };
    }
    const created = await cli(name, ['create', ...rest]);
    const id = created.stdout.trim();
    if (created.code !== 0) return { code: created.code, text: created.stderr };
    const { stdout } = await cli(name, ['inspect', '-f', inspect, id]);
    await ok('rm', '-v', id);
    return { code: 0, text: stdout.replace(/\n$/, '') };
  }

  describe.each(FOREIGN === undefined ? (['docker', 'caisson'] as const) : (['docker'] as const))('%s', (name) => {
    const titled = ROWS.map((row) => ({
      row,
      title: `${row.flags}: ${row.args({ dir: '', cgroupParent: '', bridge: '' }).join(' ')}`,
    }));
    it.each(titled)('$title', async ({ row }) => {
      const { code, text } = await act(name, row);
      expect(text).toMatch(typeof row.shows === 'function' ? row.shows(place) : row.shows);
      expect([row.code ?? 0].flat(), text).toContain(code);
    });

    it('entrypoint: replaces that of the image, and its command', async () => {
      expect((await cli(name, ['run', '--rm', IMAGES.rich, 'x'])).stdout).toBe('entered x\n');
      const { stdout } = await cli(name, ['run', '--rm', '--entrypoint', 'sh', IMAGES.rich, '-c', 'echo in']);
      expect(stdout).toBe('in\n');
    });

    it('publish, publish-all: ports of the host lead inside', async () => {
      const flags = ['run', '-d', '-P', '-p', '127.0.0.1::70/udp', '-p', '127.0.0.1:0:71'];
      const { stdout: id } = await cli(name, [...flags, '--entrypoint', 'sleep', IMAGES.rich, '1000']);
      const ports = await ok('port', id.trim());
      await ok('rm', '-f', id.trim());
      expect(ports.split('\n').sort().join('\n')).toMatch(
        /^70\/udp -> 127\.0\.0\.1:\d+\n71\/tcp -> 127\.0\.0\.1:\d+\n90\/tcp -> 0\.0\.0\.0:\d+(\n90\/tcp -> \[::\]:\d+)?$/,
      );
    });

    it('detach, rm: prints the id; what has ended is gone with its volumes', async () => {
      const { stdout } = await cli(name, ['run', '-d', '--rm', '--network', 'none', '-v', '/v', IMAGES.plain, 'cat']);
      expect(stdout).toMatch(/^[0-9a-f]{64}\n$/);
      const volume = stdout.trim();
      await cli('docker', ['wait', volume]);
      while ((await cli('docker', ['inspect', volume])).code === 0);
    });

    it('cidfile: has the id, and must not be there', async () => {
      const file = join(subject.dir, `id-${name}`);
      const { stdout } = await cli(name, ['run', '-d', '--cidfile', file, '--network', 'none', IMAGES.plain, 'true']);
      expect(readFileSync(file, 'utf8')).toBe(stdout.trim());
      const again = await cli(name, ['run', '--cidfile', file, '--network', 'none', IMAGES.plain, 'true']);
      expect(again).toMatchObject({ code: 125, stdout: '' });
      await ok('rm', '-f', stdout.trim());
    });

    it('sig-proxy: a signal to the client reaches the process', async () => {
      const [program, ...before] = subject.command(name);
      const script = 'trap "echo caught; exit 7" TERM; echo ready; while :; do sleep 0.05; done';
      const args = [...before, 'run', '--rm', '--network', 'none', IMAGES.plain, 'sh', '-c', script];
      const client = spawn(program, args, { env: subject.env });
      const said: string[] = [];
      client.stdout.on('data', (chunk: Buffer) => {
        said.push(chunk.toString());
        if (chunk.toString().includes('ready')) client.kill('SIGTERM');
      });
      const [code] = await once(client, 'close');
      expect(said.join('')).toBe('ready\ncaught\n');
      expect(code).toBe(7);
    });

    it('detach-keys: the client leaves, the process stays', async () => {
      const command = [
        ...subject.command(name),
        'run',
        '-it',
        '--name',
        `keys-${name}`,
        '--network',
        'none',
        '--detach-keys',
        'ctrl-e,e',
      ];
      const line = [...command, IMAGES.plain, 'sh', '-c', '"echo ready; exec cat"'].join(' ');
      const client = spawn('script', ['-qec', line, '/dev/null'], { env: subject.env });
      client.stdout.on('data', (chunk: Buffer) => {
        if (chunk.toString().includes('ready')) client.stdin.write('\x05e');
      });
      const [code] = await once(client, 'close');
      expect(await ok('inspect', '-f', '{{.State.Running}}', `keys-${name}`)).toBe('true');
      expect(code).toBe(0);
      await ok('rm', '-f', `keys-${name}`);
    });

    it('stop-signal, stop-timeout: what stop sends, and how long it waits', async () => {
      const script = 'trap "exit 9" USR1; echo up; while :; do sleep 0.05; done';
      const flags = ['run', '-d', '--network', 'none', '--stop-signal', 'USR1', '--stop-timeout', '30'];
      const { stdout } = await cli(name, [...flags, IMAGES.plain, 'sh', '-c', script]);
      const id = stdout.trim();
      while ((await ok('logs', id)) !== 'up');
      await ok('stop', id);
      expect(await ok('inspect', '-f', '{{.State.ExitCode}}', id)).toBe('9');
      await ok('rm', id);
    });

    it('health-cmd: what it says is the state', async () => {
      const flags = [
        'run',
        '-d',
        '--network',
        'none',
        '--health-cmd',
        'exit 1',
        '--health-interval',
        '100ms',
        '--health-retries',
        '1',
      ];
      const { stdout } = await cli(name, [...flags, IMAGES.plain, 'sleep', '1000']);
      const id = stdout.trim();
      while ((await ok('inspect', '-f', '{{.State.Health.Status}}', id)) === 'starting');
      expect(await ok('inspect', '-f', '{{.State.Health.Status}}', id)).toBe('unhealthy');
      await ok('rm', '-f', id);
    });

    it('help: shows itself', async () => {
      const { code, stdout } = await cli(name, ['run', '--help']);
      expect({ code, usage: stdout.includes('run [OPTIONS] IMAGE [COMMAND] [ARG...]') }).toEqual({
        code: 0,
        usage: true,
      });
    });
  });
});
