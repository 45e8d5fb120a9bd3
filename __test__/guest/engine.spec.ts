import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const daemon = new TestDaemon();
const ok = (...args: string[]): Promise<string> => daemon.dockerOk(...args);
/** Output and exit code of a shell line in a new container. */
const inside = async (line: string, ...flags: string[]): Promise<string> => {
  const { stdout, stderr, code } = await daemon.docker(['run', '--rm', ...flags, 'busybox', 'sh', '-c', line]);
  return `${stdout}${stderr}${code}`;
};

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'cgroup2', 'apparmor'))('on another kernel', () => {
  beforeAll(async () => {
    await daemon.start();
    await daemon.loadBusybox();
  });
  afterAll(() => daemon[Symbol.asyncDispose]());
  afterEach(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
  });

  it('says what it found', async () => {
    const info = JSON.parse(await ok('info', '--format', 'json')) as Record<string, unknown>;
    expect(info).toMatchObject({
      CgroupVersion: '2',
      CgroupDriver: 'cgroupfs',
      SecurityOptions: expect.arrayContaining(['name=apparmor', 'name=cgroupns']) as unknown,
    });
  });

  describe('cgroup v2', () => {
    it.each([
      ['memory.max', ['-m', '64m'], '67108864'],
      ['memory.swap.max', ['-m', '64m', '--memory-swap', '96m'], '33554432'],
      ['memory.low', ['-m', '64m', '--memory-reservation', '32m'], '33554432'],
      ['cpu.max', ['--cpus', '0.5'], '50000 100000'],
      ['cpu.max', ['--cpu-period', '50000', '--cpu-quota', '10000'], '10000 50000'],
      ['cpu.weight', ['--cpu-shares', '512'], '59'],
      ['cpuset.cpus', ['--cpuset-cpus', '1'], '1'],
      ['cpuset.mems', ['--cpuset-mems', '0'], '0'],
      ['pids.max', ['--pids-limit', '50'], '50'],
      ['pids.max', [], 'max'],
      ['memory.max', [], 'max'],
    ])('%s of %j is %s', async (file, flags, value) => {
      expect(await inside(`cat /sys/fs/cgroup/${file}`, ...flags)).toBe(`${value}\n0`);
    });

    it('is a namespace of its own, mounted read-only', async () => {
      expect(await inside('cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>/dev/null || echo no')).toBe('0::/\nno\n0');
      expect(await inside('mkdir /sys/fs/cgroup/x && echo yes', '--security-opt', 'writable-cgroups=true')).toBe(
        'yes\n0',
      );
    });

    it('takes an exec beside init where the container has handed its controllers to groups below', async () => {
      const group = '/sys/fs/cgroup';
      const split = `mkdir ${group}/below; echo 1 > ${group}/below/cgroup.procs; echo $$ > ${group}/below/cgroup.procs`;
      const line = `${split}; echo +memory > ${group}/cgroup.subtree_control && touch /ready; exec sleep 1000`;
      await ok('run', '-d', '--name', 'nested', '--security-opt', 'writable-cgroups=true', 'busybox', 'sh', '-c', line);
      await vi.waitFor(() => ok('exec', 'nested', 'test', '-e', '/ready'), 60_000);
      expect(await ok('exec', 'nested', 'cat', '/proc/self/cgroup')).toBe('0::/below');
    });

    it('lets in listed devices alone', async () => {
      const open = 'cat /dev/null && head -c 1 /dev/zero >/dev/null && echo usual';
      expect(await inside(`${open}; mknod /d c 1 1 && head -c 1 /d; mknod /b b 254 0 && cat /b`)).toBe(
        "usual\nhead: /d: Operation not permitted\ncat: can't open '/b': Operation not permitted\n1",
      );
      expect(await inside('echo x >/dev/kmsg && echo written', '--device', '/dev/kmsg')).toBe('written\n0');
      expect(await inside('echo x >/dev/kmsg', '--device', '/dev/kmsg:/dev/kmsg:r')).toMatch(/not permitted\n1$/);
    });

    it('counts, freezes and changes what runs', async () => {
      await ok('run', '-d', '--name', 'busy', '-m', '64m', 'busybox', 'sh', '-c', 'while :; do :; done');
      const stats = JSON.parse((await daemon.http('GET', '/containers/busy/stats?stream=0')).body) as {
        cpu_stats: { cpu_usage: { total_usage: number } };
        memory_stats: { limit: number; usage: number };
        pids_stats: { current: number };
      };
      expect(stats.memory_stats.limit).toBe(64 * 1024 * 1024);
      expect(stats.memory_stats.usage).toBeGreaterThan(0);
      expect(stats.cpu_stats.cpu_usage.total_usage).toBeGreaterThan(0);
      expect(stats.pids_stats.current).toBe(1);
      const used = async (): Promise<string> => {
        const { body } = await daemon.http('GET', '/containers/busy/stats?stream=0&one-shot=1');
        return JSON.stringify((JSON.parse(body) as typeof stats).cpu_stats.cpu_usage);
      };
      await ok('pause', 'busy');
      expect(await used()).toBe(await used());
      await ok('unpause', 'busy');
      await ok('update', '-m', '80m', '--memory-swap', '160m', '--cpus', '1', '--pids-limit', '9', 'busy');
      const files = 'cd /sys/fs/cgroup && cat memory.max memory.swap.max cpu.max pids.max';
      expect(await ok('exec', 'busy', 'sh', '-c', files)).toBe('83886080\n83886080\n100000 100000\n9');
    });

    it('tells of a container without memory', async () => {
      const hungry = 'head -c 100m /dev/zero | tail -c 90m >/dev/null';
      await daemon.docker([
        'run',
        '--name',
        'hungry',
        '-m',
        '16m',
        '--memory-swap',
        '16m',
        'busybox',
        'sh',
        '-c',
        hungry,
      ]);
      expect(await ok('inspect', '-f', '{{.State.OOMKilled}} {{.State.ExitCode}}', 'hungry')).toBe('true 137');
    });

    it('keeps containers over the death of the daemon', async () => {
      await ok(
        'run',
        '-d',
        '--name',
        'kept',
        '--pids-limit',
        '20',
        '-p',
        '127.0.0.1:8088:80',
        'busybox',
        'httpd',
        '-f',
        '-p',
        '80',
      );
      await daemon.kill();
      await daemon.start();
      expect(await ok('exec', 'kept', 'cat', '/sys/fs/cgroup/pids.max')).toBe('20');
      expect(await ok('ps', '--format', '{{.Names}} {{.Ports}}')).toBe('kept 127.0.0.1:8088->80/tcp');
      await ok('stop', '-t', '0', 'kept');
    });
  });

  describe('AppArmor', () => {
    const profile = 'cat /proc/self/attr/current';

    it('is docker-default, for init and for exec, and what is asked for', async () => {
      expect(await inside(profile)).toBe('docker-default (enforce)\n0');
      expect(await inside(profile, '--privileged')).toBe('unconfined\n0');
      expect(await inside(profile, '--security-opt', 'apparmor=unconfined')).toBe('unconfined\n0');
      expect(await inside('true', '--security-opt', 'apparmor=absent')).toMatch(
        /"absent" is not loaded[\s\S]*12[567]$/,
      );
      await ok('run', '-d', '--name', 'held', 'busybox', 'sleep', '1000');
      expect(await ok('exec', '--privileged', 'held', 'sh', '-c', profile)).toBe('docker-default (enforce)');
      expect(await ok('inspect', '-f', '{{.AppArmorProfile}}', 'held')).toBe('docker-default');
    });

    it('denies what capabilities would allow', async () => {
      // all capabilities, writable /proc and no seccomp: the profile stands alone
      const bare = [
        '--cap-add',
        'ALL',
        '--security-opt',
        'seccomp=unconfined',
        '--security-opt',
        'systempaths=unconfined',
        // a program that can open such a socket
        ...['/usr/lib:/usr/lib', '/usr/lib:/lib', '/lib64:/lib64', '/usr/bin/python3:/python3'].flatMap((bind) => [
          '-v',
          `${bind}:ro`,
        ]),
      ];
      const attacks = [
        'mkdir /m && mount -t tmpfs x /m',
        'head -c 1 /proc/kcore >/dev/null',
        'echo core >/proc/sys/kernel/core_pattern',
        "/python3 -c 'import socket; socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)'",
      ];
      for (const attack of attacks) {
        expect(await inside(attack, ...bare), attack).toMatch(/(denied|not permitted|read-only)\.?\n\d+$/i);
        // without the profile it succeeds
        expect(await inside(attack, ...bare, '--security-opt', 'apparmor=unconfined'), attack).toBe('0');
      }
      expect(await inside('echo x >/proc/sysrq-trigger', ...bare)).toMatch(/denied\n1$/);
    });
  });
});
