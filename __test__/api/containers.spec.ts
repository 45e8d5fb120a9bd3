/** Containers from end to end: the unmodified docker client, a real daemon, real shims, the real kernel. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const daemon = new TestDaemon();
const docker = (...args: string[]) => daemon.docker(args);
const ok = (...args: string[]): Promise<string> => daemon.dockerOk(...args);
const inspect = async (name: string) =>
  (
    JSON.parse(await ok('inspect', name)) as [
      {
        Id: string;
        State: { Status: string; ExitCode: number; Pid: number; Error: string };
        NetworkSettings: { IPAddress: string };
      },
    ]
  )[0];

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('containers', () => {
  beforeAll(async () => {
    await daemon.start();
    await daemon.loadBusybox({ 'data/file': 'from the image\n' });
  });

  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  afterEach(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
  });

  describe('run', () => {
    it('gives output, errors and the exit code of the program', async () => {
      const result = await docker('run', '--rm', 'busybox', 'sh', '-c', 'echo out; echo err >&2; exit 7');
      expect(result).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' });
    });

    it('loses no byte of a fast writer', async () => {
      const { stdout } = await docker('run', '--rm', 'busybox', 'seq', '1', '200000');
      expect(stdout.split('\n')).toHaveLength(200_001);
      expect(stdout.endsWith('\n200000\n')).toBe(true);
    });

    it('hands stdin over, also what comes before the start, up to its end', async () => {
      const input = Buffer.alloc(3_000_000, 'abcdefgh\n');
      const result = await daemon.docker(['run', '-i', '--rm', 'busybox', 'md5sum'], { input });
      expect(result.stdout.split(' ')[0]).toBe(createHash('md5').update(input).digest('hex'));
    });

    it.each([
      [['nope'], 127, 'exec: "nope": executable file not found in $PATH'],
      [['/etc'], 126, 'exec: "/etc": '],
      [['/etc/passwd'], 126, 'permission denied'],
    ])('of %j ends with %i and says why', async (command, code, message) => {
      const result = await docker('run', '--rm', 'busybox', ...command);
      expect(result.code).toBe(code);
      expect(result.stderr).toContain('failed to create task for container');
      expect(result.stderr).toContain(message);
    });

    it('of a missing image without a pull says so', async () => {
      const result = await docker('run', '--pull=never', 'nope');
      expect(result.code).toBe(125);
      expect(result.stderr).toContain('No such image: nope:latest');
    });

    it('sees environment, working directory, user, groups and host name', async () => {
      const script = 'echo $A; pwd; id -u; id -G; hostname; cat /etc/hosts';
      const args = [
        '-e',
        'A=b c',
        '-w',
        '/new/dir',
        '-u',
        'user',
        '--group-add',
        '33',
        '-h',
        'box',
        '--add-host',
        'db:10.9.8.7',
      ];
      const lines = (await ok('run', '--rm', ...args, 'busybox', 'sh', '-c', script)).split('\n');
      expect(lines.slice(0, 5)).toEqual(['b c', '/new/dir', '1000', '1000 33 2000', 'box']);
      expect(lines).toContain('10.9.8.7\tdb');
    });

    it('has the capabilities, filters and limits of Docker', async () => {
      const status = await ok('run', '--rm', 'busybox', 'sh', '-c', 'cat /proc/self/status; ulimit -n; ulimit -Hn');
      expect(status).toMatch(/^CapEff:\s+00000000a80425fb$/m);
      expect(status).toMatch(/^CapInh:\s+0000000000000000$/m);
      expect(status).toMatch(/^CapAmb:\s+0000000000000000$/m);
      expect(status).toMatch(/^Seccomp:\s+2$/m);
      expect(status).toMatch(/^SigBlk:\s+0+$/m);
      expect(status).toMatch(/^SigIgn:\s+0+$/m);
      expect(status.split('\n').at(-2)).toBe('1024');
    });

    it('has a terminal with -t', async () => {
      const result = await docker('run', '--rm', '-t', 'busybox', 'sh', '-c', 'tty; echo $TERM');
      expect(result.stdout).toBe('/dev/pts/0\r\nxterm\r\n');
    });

    it('obeys limits', async () => {
      const id = await ok('run', '-d', '-m', '64m', '--pids-limit', '40', 'busybox', 'sleep', '1d');
      const { State } = await inspect(id);
      const paths = readFileSync(`/proc/${State.Pid}/cgroup`, 'utf8');
      expect(paths).toContain(`${daemon.cgroupParent}/${id}`);
      const path = /memory:(\S+)/.exec(paths)?.[1];
      if (path)
        expect(readFileSync(`/sys/fs/cgroup/memory${path}/memory.limit_in_bytes`, 'utf8').trim()).toBe(
          String(64 << 20),
        );
    });
  });

  describe('running detached', () => {
    it('logs what it wrote, both streams, and follows to the end', async () => {
      const id = await ok('run', '-d', 'busybox', 'sh', '-c', 'echo one; echo two >&2; sleep 1d');
      expect(await docker('logs', id)).toEqual({ code: 0, stdout: 'one\n', stderr: 'two\n' });
      const ended = await ok('run', '-d', 'busybox', 'sh', '-c', 'for i in 1 2 3; do echo $i; done');
      expect((await docker('logs', '-f', ended)).stdout).toBe('1\n2\n3\n');
      expect((await docker('logs', '--tail', '1', ended)).stdout).toBe('3\n');
    });

    it('an exec that was not started goes with the run that it was created in', async () => {
      const id = await ok('run', '-d', 'busybox', 'sleep', '1d');
      const created = await daemon.http('POST', `/containers/${id}/exec`, { Cmd: ['true'] });
      const { Id: exec } = JSON.parse(created.body) as { Id: string };
      await ok('restart', '-t', '0', id);
      const message = `No such exec instance: ${exec}`;
      for (const [method, path] of [
        ['POST', 'start'],
        ['GET', 'json'],
      ] as const) {
        const { status, body } = await daemon.http(method, `/exec/${exec}/${path}`, method === 'POST' ? {} : undefined);
        expect([status, JSON.parse(body)]).toEqual([404, expect.objectContaining({ message })]);
      }
    });

    it('execs with its own streams, user, directory and exit code', async () => {
      const id = await ok('run', '-d', 'busybox', 'sleep', '1d');
      const result = await docker(
        'exec',
        '-e',
        'A=1',
        '-u',
        'user',
        '-w',
        '/tmp',
        id,
        'sh',
        '-c',
        'echo $A; id -u; pwd; echo e >&2; exit 4',
      );
      expect(result).toEqual({ code: 4, stdout: '1\n1000\n/tmp\n', stderr: 'e\n' });
      const input = await daemon.docker(['exec', '-i', id, 'cat'], { input: 'typed' });
      expect(input.stdout).toBe('typed');
      const absent = await docker('exec', id, 'nope');
      expect(absent.code).toBe(127);
      expect(absent.stdout + absent.stderr).toContain('exec: "nope": executable file not found in $PATH');
    });

    it('stops at once when PID 1 does not handle the signal, and waits when it does', async () => {
      const deaf = await ok('run', '-d', 'busybox', 'sleep', '1d');
      await ok('stop', '-t', '60', deaf);
      expect((await inspect(deaf)).State.ExitCode).toBe(137);
      const polite = await ok(
        'run',
        '-d',
        'busybox',
        'sh',
        '-c',
        'trap "sleep 1; exit 9" TERM; echo ready; while :; do sleep 0.1; done',
      );
      while (!(await docker('logs', polite)).stdout.includes('ready'));
      await ok('stop', '-t', '60', polite);
      expect((await inspect(polite)).State.ExitCode).toBe(9);
    });

    it.each([[['stop', '-t', '60']], [['kill', '-s', 'SIGRTMIN+3']]])(
      'has a signal for real time by %j',
      async (how) => {
        const script = 'trap "exit 9" 37; echo ready; while :; do sleep 0.1; done';
        const id = await ok('run', '-d', '--stop-signal', 'RTMIN+3', 'busybox', 'sh', '-c', script);
        while (!(await docker('logs', id)).stdout.includes('ready'));
        await ok(...how, id);
        expect(await ok('wait', id)).toBe('9');
      },
    );

    it('pauses, lists processes, is renamed, restarted and killed', async () => {
      const id = await ok('run', '-d', '--name', 'one', 'busybox', 'sleep', '1d');
      await ok('pause', 'one');
      expect((await inspect('one')).State.Status).toBe('paused');
      await ok('unpause', 'one');
      expect(await ok('top', 'one')).toContain('sleep 1d');
      await ok('rename', 'one', 'two');
      const before = (await inspect('two')).State.Pid;
      await ok('restart', '-t', '0', 'two');
      expect((await inspect('two')).State.Pid).not.toBe(before);
      await ok('kill', 'two');
      expect((await inspect(id)).State.ExitCode).toBe(137);
    });

    it('survives the SIGKILL of the daemon, with logs, exec and stop', async () => {
      const id = await ok('run', '-d', 'busybox', 'sh', '-c', 'echo before; sleep 1d');
      const ended = await ok('run', '-d', 'busybox', 'sh', '-c', 'sleep 0.3; exit 6');
      const { Pid } = (await inspect(id)).State;
      await daemon.kill('SIGKILL');
      await daemon.start();
      expect((await inspect(id)).State).toMatchObject({ Status: 'running', Pid });
      expect((await docker('logs', id)).stdout).toBe('before\n');
      expect(await ok('exec', id, 'echo', 'hi')).toBe('hi');
      expect(await ok('wait', ended)).toBe('6');
      await ok('stop', '-t', '0', id);
    });
  });

  describe('networks', () => {
    it('a container on the bridge reaches another and the published port is open on the host', async () => {
      const server = await ok(
        'run',
        '-d',
        '-p',
        '127.0.0.1::8000',
        'busybox',
        'httpd',
        '-f',
        '-p',
        '8000',
        '-h',
        '/data',
      );
      const { IPAddress } = (await inspect(server)).NetworkSettings;
      expect(await ok('run', '--rm', 'busybox', 'wget', '-qO-', `http://${IPAddress}:8000/file`)).toBe(
        'from the image',
      );
      const address = await ok('port', server, '8000');
      const response = await fetch(`http://${address}/file`);
      expect(await response.text()).toBe('from the image\n');
    });

    it('none has only a loopback, host shares the host, container:X shares another', async () => {
      const links = 'ls /sys/class/net';
      expect(await ok('run', '--rm', '--network', 'none', 'busybox', 'sh', '-c', links)).toBe('lo');
      const own = await ok('run', '-d', 'busybox', 'sleep', '1d');
      const address = (await inspect(own)).NetworkSettings.IPAddress;
      expect(await ok('run', '--rm', '--network', `container:${own}`, 'busybox', 'ip', 'addr')).toContain(address);
      const missingNetwork = await docker('run', '--rm', '--network', 'nope', 'busybox', 'true');
      expect(missingNetwork.stderr).toContain('network nope not found');
    });
  });

  describe('mounts', () => {
    it('binds, read-only where asked', async () => {
      const dir = join(daemon.dir, 'bind');
      mkdirSync(dir);
      await ok('run', '--rm', '-v', `${dir}:/b`, 'busybox', 'sh', '-c', 'echo written > /b/f');
      expect(readFileSync(join(dir, 'f'), 'utf8')).toBe('written\n');
      const refused = await docker('run', '--rm', '-v', `${dir}:/b:ro`, 'busybox', 'sh', '-c', 'echo x > /b/f');
      expect(refused.stderr).toContain('Read-only file system');
      expect((await docker('run', '--rm', '--read-only', 'busybox', 'touch', '/x')).code).toBe(1);
    });

    it('fills an empty volume from the image, keeps it, and removes anonymous ones', async () => {
      expect(
        await ok('run', '--rm', '-v', 'vol:/data', 'busybox', 'sh', '-c', 'cat /data/file; echo more > /data/file'),
      ).toBe('from the image');
      expect(await ok('run', '--rm', '-v', 'vol:/elsewhere', 'busybox', 'cat', '/elsewhere/file')).toBe('more');
      await ok('run', '--rm', '-v', '/anon', 'busybox', 'true');
      expect(await ok('volume', 'ls', '-q')).toBe('vol');
      await ok('volume', 'rm', 'vol');
    });

    it('makes a tmpfs with its options', async () => {
      const line = await ok('run', '--rm', '--tmpfs', '/t:size=1m', 'busybox', 'grep', ' /t ', '/proc/mounts');
      expect(line).toMatch(/^tmpfs \/t tmpfs rw,nosuid,nodev,noexec.*size=1024k/);
    });
  });
});
