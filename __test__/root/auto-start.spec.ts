/**
 * `caisson run` on a machine where no daemon runs: it starts one by itself. In namespaces of its own, where the default
 * paths (/run/caisson, /var/run/docker.sock, /var/lib/caisson, /etc/caisson) are nobody else's.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { type CommandResult, run } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'auto.test/busybox:latest';
const DOCKER = '/var/run/docker.sock';
const MACHINE = `
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/etc /run/work /var/lib/caisson
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work overlay /etc
mount --bind "$1/data" /var/lib/caisson
mkdir /etc/caisson
ip link set lo up
cp "$1/daemon.json" /etc/caisson/daemon.json
echo ready
exec sleep 1000`;

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'ip', 'nft'))('a command without a daemon', () => {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-auto-'));
  const parent = `ca${process.pid.toString(36)}`;
  let machine: ChildProcess;
  /** By a symbolic link, as a package manager installs it, from a directory that is no checkout. */
  const caisson = (...args: string[]): Promise<CommandResult> => inMachine(join(dir, 'caisson'), ...args);
  const inMachine = (...command: string[]): Promise<CommandResult> =>
    run('nsenter', ['-t', String(machine.pid), '-m', '-n', '--wd=/', ...command], {
      env: { PATH: process.env['PATH'] },
    });
  const daemons = async (): Promise<string[]> => {
    const { stdout } = await inMachine('cat', '/run/caisson/caisson.pid');
    return stdout.split('\n').filter(Boolean);
  };

  beforeAll(async () => {
    mkdirSync(join(dir, 'data'));
    symlinkSync(join(packageRoot, 'bin/caisson'), join(dir, 'caisson'));
    writeFileSync(join(dir, 'daemon.json'), JSON.stringify({ 'cgroup-parent': `/${parent}` }));
    writeFileSync(join(dir, 'image.tar'), await ociArchive(buildImage([await busyboxTar()]), IMAGE));
    machine = spawn('unshare', ['--mount', '--net', 'sh', '-ec', MACHINE, 'sh', dir]);
    await once(machine.stdout ?? machine, 'data');
  });
  afterAll(async () => {
    for (const pid of await daemons()) process.kill(Number(pid), 'SIGTERM');
    const { stdout } = await inMachine('sh', '-c', 'while [ -e /run/caisson/caisson.pid ]; do sleep 0.02; done');
    expect(stdout).toBe('');
    machine.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
    for (const hierarchy of ['', ...readdirSync('/sys/fs/cgroup')])
      for (const path of [
        join('/sys/fs/cgroup', hierarchy, parent, 'shims'),
        join('/sys/fs/cgroup', hierarchy, parent),
      ])
        if (existsSync(path)) rmdirSync(path);
  });

  test('says what is wrong when none can be started', async () => {
    await inMachine('sh', '-c', 'echo "{" >/etc/caisson/daemon.json');
    const result = await caisson('run', '--rm', IMAGE, 'true');
    expect(result.code).toBe(125);
    expect(result.stderr).toContain('no daemon runs: starting one');
    expect(result.stderr).toContain('the daemon could not be started: ');
    expect(result.stderr).toContain('daemon.json');
    await inMachine('cp', join(dir, 'daemon.json'), '/etc/caisson/daemon.json');
  });

  test('says how when the user may not', async () => {
    // may read the checkout, wherever it is
    const user = ['--reuid', '65534', '--clear-groups', '--inh-caps', '+dac_read_search'];
    const command = [join(dir, 'caisson'), 'run', IMAGE];
    const result = await inMachine('setpriv', ...user, '--ambient-caps', '+dac_read_search', ...command);
    expect(result.code).toBe(125);
    expect(result.stderr).toContain('start it as root: sudo caisson daemon');
  });

  test('starts one, however many ask at once, and it stays', async () => {
    const started = await Promise.all([1, 2, 3].map(() => caisson('load', '-i', join(dir, 'image.tar'))));
    expect(started.map(({ code, stderr }) => ({ code, stderr: code === 0 ? '' : stderr }))).toEqual(
      started.map(() => ({ code: 0, stderr: '' })),
    );
    const [pid, ...more] = await daemons();
    expect(more).toEqual([]);
    const { stdout, stderr } = await caisson('run', '--rm', IMAGE, 'echo', 'works');
    expect([stdout, stderr]).toEqual(['works\n', '']);
    expect(await daemons()).toEqual([pid]);
    expect(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3], 'a session of its own').toBe(pid);
  });

  test('serves docker at the usual path, also from within a container', async () => {
    const docker = execFileSync('sh', ['-c', 'command -v docker'], { encoding: 'utf8' }).trim();
    const listed = await inMachine('env', `DOCKER_HOST=unix://${DOCKER}`, docker, 'images', '-q');
    expect(listed).toMatchObject({ code: 0 });
    const inside = await caisson(
      'run',
      '--rm',
      '-v',
      `${DOCKER}:${DOCKER}`,
      '-v',
      `${docker}:/docker:ro`,
      IMAGE,
      '/docker',
      'ps',
      '--format',
      '{{.Image}}',
    );
    expect(inside).toMatchObject({ code: 0, stdout: `${IMAGE}\n` });
  });
});
