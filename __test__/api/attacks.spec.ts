/**
 * A default container against its host: what Docker's defaults promise, and what other engines have fallen to, tried from
 * inside and by images and volumes made for it. The runtime alone is attacked in crates/libcontainer-sys/tests/runtime.
 */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive, packed } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

/** Masked by Docker's defaults, where the host has them. */
const MASKED = [
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/scsi',
  '/proc/timer_list',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READ_ONLY = ['/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper'];

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('attacks', () => {
  let daemon: TestDaemon;
  let base: Buffer;
  /** A directory of the host's that nobody may touch. */
  let sent: string;

  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    base = await busyboxTar();
    await daemon.loadBusybox();
    sent = mkdtempSync(join(tmpdir(), 'caisson-sent-'));
    await writeFile(join(sent, 'ptmx'), 'untouched');
  });

  afterEach(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
    expect(readdirSync(sent)).toEqual(['ptmx']);
    expect(readFileSync(join(sent, 'ptmx'), 'utf8')).toBe('untouched');
  });

  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    rmSync(sent, { recursive: true });
  });

  const inside = (script: string, ...options: string[]): Promise<string> =>
    daemon.dockerOk('run', '--rm', ...options, 'busybox', 'sh', '-c', script);

  /** An image whose last layer puts links over what is below. */
  async function loadLinks(name: string, links: Record<string, string>, config = {}): Promise<void> {
    const dir = mkdtempSync(join(tmpdir(), 'caisson-links-'));
    try {
      for (const [path, target] of Object.entries(links)) symlinkSync(target, join(dir, path));
      const image = buildImage([base, await packed({ cwd: dir, portable: true }, Object.keys(links))], config);
      const loaded = await daemon.docker(['load'], {
        input: await ociArchive(image, `docker.io/library/${name}:latest`),
      });
      expect(loaded).toMatchObject({ code: 0, stderr: '' });
    } finally {
      rmSync(dir, { recursive: true });
    }
  }

  describe('capabilities (CVE-2022-24769, CVE-2025-27612)', () => {
    it.each([
      [[], '00000000a80425fb'],
      [['-u', '1000'], '0000000000000000'],
      [['--cap-add', 'ALL', '-u', '1000'], '0000000000000000'],
      [['--cap-drop', 'ALL'], '0000000000000000'],
    ])('of run and exec with %j are permitted at most, never inherited', async (options, permitted) => {
      const id = await daemon.dockerOk('run', '-d', ...options, 'busybox', 'sleep', '1d');
      for (const exec of [[], ['--privileged=false'], ['-u', '0']]) {
        const status = await daemon.dockerOk('exec', ...exec, id, 'cat', '/proc/self/status');
        expect(status).toMatch(/^CapInh:\t0{16}$/m);
        expect(status).toMatch(/^CapAmb:\t0{16}$/m);
        if (exec[0] !== '-u') expect(status).toMatch(new RegExp(`^CapPrm:\t${permitted}$`, 'm'));
        if (options.includes('--cap-drop')) expect(status).toMatch(/^CapBnd:\t0{16}$/m);
      }
      const status = readFileSync(
        `/proc/${await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', id)}/status`,
        'utf8',
      );
      expect(status).toMatch(/^CapInh:\t0{16}$/m);
      expect(status).toMatch(/^CapAmb:\t0{16}$/m);
    });

    it('of a health check are the container’s', async () => {
      const check = 'grep -E "Cap(Inh|Prm|Bnd|Amb)" /proc/self/status';
      const options = ['--health-cmd', check, '--health-interval', '100ms', '--cap-drop', 'ALL', '--cap-add', 'KILL'];
      const id = await daemon.dockerOk('run', '-d', ...options, 'busybox', 'sleep', '1d');
      const deadline = Date.now() + 30_000;
      let output = '';
      while (output === '' && Date.now() < deadline)
        output = await daemon.dockerOk('inspect', '-f', '{{range .State.Health.Log}}{{.Output}}{{end}}', id);
      expect(output.split('\n').slice(0, 4).join(' ')).toBe(
        'CapInh:\t0000000000000000 CapPrm:\t0000000000000020 CapBnd:\t0000000000000020 CapAmb:\t0000000000000000',
      );
    });
  });

  describe('descriptors (CVE-2024-21626)', () => {
    it('of the host are none', async () => {
      // the fourth is the directory that ls reads
      expect(await inside('ls /proc/self/fd')).toBe('0\n1\n2\n3');
      const id = await daemon.dockerOk('run', '-d', 'busybox', 'sleep', '1d');
      expect(await daemon.dockerOk('exec', id, 'ls', '/proc/self/fd')).toBe('0\n1\n2\n3');
      const pid = await daemon.dockerOk('inspect', '-f', '{{.State.Pid}}', id);
      expect(readdirSync(`/proc/${pid}/fd`)).toEqual(['0', '1', '2']);
    });

    it('are no working directory', async () => {
      const id = await daemon.dockerOk('run', '-d', 'busybox', 'sleep', '1d');
      for (let number = 3; number <= 32; number++) {
        for (const suffix of ['', '/../../..']) {
          const place = `/proc/self/fd/${number}${suffix}`;
          for (const args of [
            ['exec', '-w', place, id],
            ['run', '--rm', '-w', place, 'busybox'],
          ]) {
            const result = await daemon.docker([
              ...args,
              'sh',
              '-c',
              'pwd; ls -d /etc/machine-id ../../../etc/machine-id',
            ]);
            expect(result.code, `${args.join(' ')}: ${result.stdout}`).not.toBe(0);
            expect(result.stdout, args.join(' ')).not.toContain('machine-id');
          }
        }
      }
    });

    it('are none by a link of the image either', async () => {
      await loadLinks('fdlink', { place: '/proc/self/fd/7' }, { WorkingDir: '/place' });
      const result = await daemon.docker(['run', '--rm', 'fdlink', 'pwd']);
      expect(result.stdout).toBe('');
      expect(result.code).toBe(127);
    });
  });

  it('finds the host’s secrets covered, and cannot uncover them', async () => {
    for (const path of MASKED) {
      const script = `[ -e ${path} ] || exit 0; [ -d ${path} ] && ls -A ${path} || cat ${path}; umount ${path} 2>&1`;
      const result = await daemon.docker(['run', '--rm', 'busybox', 'sh', '-c', script]);
      expect(result.stdout, path).toMatch(/^(umount: can't unmount \S+: Operation not permitted\n)?$/);
    }
    for (const path of READ_ONLY) {
      const result = await daemon.docker(['run', '--rm', 'busybox', 'sh', '-c', `echo x > ${path}`]);
      expect(result.stderr, path).toMatch(/Read-only file system|nonexistent|Permission denied/);
      expect(result.code, path).toBe(1);
    }
  });

  it('reaches no socket of ours through the host’s network (CVE-2020-15257)', async () => {
    const id = await daemon.dockerOk('run', '-d', '--network', 'host', 'busybox', 'sleep', '1d');
    const ours = [String(daemon.pid)];
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      if (commandOf(pid).includes('caisson-shim') && commandOf(pid).includes(daemon.dir)) ours.push(pid);
    }
    expect(ours.length).toBeGreaterThan(1);
    const inodes = new Set(ours.flatMap(socketsOf));
    const listed = (await daemon.dockerOk('exec', id, 'cat', '/proc/net/unix'))
      .split('\n')
      .map((line) => line.split(/\s+/));
    const own = listed.filter(([, , , , , , inode = '']) => inodes.has(inode));
    expect(own.length, 'the container sees the sockets’ names').toBeGreaterThan(0);
    expect(own.filter((fields) => fields[7]?.startsWith('@'))).toEqual([]);
    // it is bound by the descriptor of its directory
    const control = join(daemon.execRoot, 'c', id, 'shim.sock');
    expect([statSync(dirname(control)).mode & 0o077, statSync(control).mode & 0o077]).toEqual([0, 0]);
    expect(statSync(daemon.socket).mode & 0o007).toBe(0);
  });

  describe('volumes and images with traps', () => {
    let evil: string;
    beforeAll(() => {
      evil = join(daemon.dir, 'evil');
      mkdirSync(evil);
      symlinkSync('/proc/uptime', join(evil, 'null'));
      for (let number = 0; number < 10; number++) symlinkSync('/proc/uptime', join(evil, String(number)));
    });

    it('mask nothing by a false /dev/null (CVE-2025-31133)', async () => {
      const result = await daemon.docker([
        'run',
        '--rm',
        '-v',
        `${evil}:/dev`,
        'busybox',
        'cat',
        '/proc/self/mountinfo',
      ]);
      expect(`${result.stdout}`).not.toContain('/uptime');
    });

    it('give no false terminal (CVE-2025-52565)', async () => {
      const script = 'grep -c uptime /proc/self/mountinfo; stat -c %t /dev/console';
      const result = await daemon.docker([
        'run',
        '--rm',
        '-t',
        '-v',
        `${evil}:/dev/pts`,
        'busybox',
        'sh',
        '-c',
        script,
      ]);
      expect(result.stdout.replaceAll('\r', '')).toMatch(result.code === 0 ? /^0\n88\n$/ : /^$/);
    });

    it.each([
      ['dev', 'a /dev that leads to the host (CVE-2026-41579)'],
      ['proc', 'a /proc that is a link (CVE-2019-19921)'],
      ['sys', 'a /sys that is a link (CVE-2023-27561)'],
    ])('cannot have %s as %s', async (path) => {
      await loadLinks(`link-${path}`, { [path]: sent });
      const result = await daemon.docker([
        'run',
        '--rm',
        `link-${path}`,
        'sh',
        '-c',
        'ls /proc/self/attr; ls /dev/null',
      ]);
      // The link is followed inside the root, where it leads nowhere; sent is looked at after each test.
      if (path !== 'dev') expect(result.stderr).toContain('must be mounted on ordinary directory');
      expect(result.stdout).not.toContain('untouched');
    });

    it.each([[['-v', 'trap:/proc']], [['-v', '/tmp:/proc/self']]])(
      'cannot be mounted over /proc by %j',
      async (options) => {
        const result = await daemon.docker(['run', '--rm', ...options, 'busybox', 'true']);
        expect(result.code).toBeGreaterThan(124);
        expect(result.stderr).toMatch(/cannot be mounted because it is (inside \/proc|not of type proc)/);
      },
    );
  });
});

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // it has ended
  }
}

const socketsOf = (pid: string): string[] =>
  readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
    } catch {
      return []; // closed meanwhile
    }
  });
