/** `docker cp` and `docker diff` with the unmodified client: both ways, running and stopped, and under attack. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';
import { rounds } from '../helpers/rounds.ts';

const daemon = new TestDaemon();
const docker = (...args: string[]) => daemon.docker(args);
const ok = (...args: string[]): Promise<string> => daemon.dockerOk(...args);
const local = (name: string): string => join(daemon.dir, name);

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('copying files', () => {
  beforeAll(async () => {
    await daemon.start();
    // the class of CVE-2026-41567: programs that an engine might run, in an image that wants them to be run
    const trap = '#!/bin/sh\ntouch /trapped\n';
    await daemon.loadBusybox({ 'usr/bin/xz': trap, 'usr/bin/unpigz': trap, 'usr/bin/zstd': trap });
    mkdirSync(local('tree/sub'), { recursive: true });
    writeFileSync(local('tree/sub/file'), 'content\n');
    symlinkSync('sub/file', local('tree/link'));
    chownSync(local('tree/sub/file'), 1234, 5678);
  });
  afterAll(() => daemon[Symbol.asyncDispose]());
  afterEach(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
  });

  it.each(['running', 'created', 'ended'])(
    'goes both ways and through a volume of a container that is %s',
    async (state) => {
      await ok('create', '--name', 'box', '-v', '/volume', 'busybox', 'sleep', '1000');
      if (state !== 'created') await ok('start', 'box');
      if (state === 'ended') await ok('stop', '-t', '0', 'box');
      for (const place of ['/root', '/volume']) {
        await ok('cp', local('tree'), `box:${place}`);
        const out = local(`out-${state}${place.replace('/', '-')}`);
        await ok('cp', `box:${place}/tree`, out);
        expect(readFileSync(join(out, 'sub/file'), 'utf8')).toBe('content\n');
        expect(readlinkSync(join(out, 'link'))).toBe('sub/file');
        await ok('cp', '-L', `box:${place}/tree/link`, `${out}-followed`);
        expect(readFileSync(`${out}-followed`, 'utf8')).toBe('content\n');
      }
      await ok('start', 'box');
      expect(await ok('exec', 'box', 'stat', '-c', '%u:%g', '/root/tree/sub/file', '/volume/tree/sub/file')).toBe(
        '1234:5678\n1234:5678',
      );
    },
  );

  it('has the working directory before the first start', async () => {
    await ok('create', '--name', 'box', '-w', '/work/below', 'busybox', 'pwd');
    await ok('cp', local('tree'), 'box:/work/below');
    await ok('cp', 'box:/work', local('work'));
    expect(readFileSync(local('work/below/tree/sub/file'), 'utf8')).toBe('content\n');
    expect(await ok('start', '-a', 'box')).toBe('/work/below');
  });

  it.each(['docker', 'caisson'] as const)('%s copies a whole root under the name that is asked for', async (client) => {
    await ok('create', '--name', 'box', 'busybox', 'true');
    const name = `root-${client}`;
    expect(await daemon[client](['cp', 'box:/', local(name)])).toMatchObject({ code: 0 });
    expect(readdirSync(local(name))).toContain('bin');
    expect(readdirSync(local('.')).filter((one) => one.startsWith(name))).toEqual([name]);
  });

  it('takes an archive from stdin and gives one to stdout', async () => {
    await ok('run', '-d', '--name', 'box', 'busybox', 'sleep', '1000');
    const archive = spawnSync('tar', ['-C', local('tree'), '-c', '.']).stdout;
    expect((await daemon.docker(['cp', '-', 'box:/home'], { input: archive })).code).toBe(0);
    expect(await ok('exec', 'box', 'cat', '/home/link')).toBe('content');
    const stream = await daemon.http('GET', '/containers/box/archive?path=/home/sub');
    expect(spawnSync('tar', ['-t'], { input: Buffer.from(stream.body, 'latin1') }).stdout.toString()).toBe(
      'sub/\nsub/file\n',
    );
  });

  it('gives everything to the user of the container when asked', async () => {
    await ok('run', '-d', '--name', 'box', '-u', '33:44', 'busybox', 'sleep', '1000');
    await ok('cp', '-a', local('tree'), 'box:/tmp');
    expect(await ok('exec', 'box', 'stat', '-c', '%u:%g', '/tmp/tree/sub/file')).toBe('33:44');
  });

  it.each([
    [['cp', 'box:/nope', '-'], 'Could not find the file /nope in container box'],
    [['cp', 'nope:/x', '-'], 'No such container: nope'],
    [['cp', 'tree', 'box:/etc/passwd'], 'cannot copy directory'],
    [['cp', 'tree/sub/file', 'box:/nowhere/'], 'no such directory'],
    [['cp', 'tree', 'box:/readonly'], 'mounted volume is marked read-only'],
    [['cp', 'tree', 'sealed:/tmp'], 'container rootfs is marked read-only'],
  ])('says why it does not %j', async (command, message) => {
    await ok('run', '-d', '--name', 'box', '-v', 'ro:/readonly:ro', 'busybox', 'sleep', '1000');
    await ok('run', '-d', '--name', 'sealed', '--read-only', 'busybox', 'sleep', '1000');
    const result = await docker(...command.map((word) => word.replace(/^tree/, local('tree'))));
    expect(result.stderr + result.stdout).toContain(message);
    expect(result.code).toBe(1);
    await ok('rm', '-f', 'box');
    await ok('volume', 'rm', 'ro');
  });

  it('executes nothing of the container to unpack', async () => {
    await ok('run', '-d', '--name', 'box', 'busybox', 'sleep', '1000');
    const plain = spawnSync('tar', ['-C', local('tree'), '-c', 'sub']).stdout;
    for (const program of ['gzip', 'xz', 'bzip2']) {
      const packed = spawnSync(program, ['-c'], { input: plain }).stdout;
      expect((await daemon.http('PUT', '/containers/box/archive?path=/tmp', packed)).status).toBe(200);
    }
    expect(await ok('diff', 'box')).not.toContain('trapped');
    expect(existsSync('/trapped')).toBe(false);
  });

  it('stays inside while the container swaps directories for symlinks', async () => {
    const secret = local('secret');
    mkdirSync(secret);
    writeFileSync(join(secret, 'file'), 'of the host\n');
    const before = statSync(secret);
    const swap = `mkdir -p /a/real /b; echo inside > /a/real/file; ln -s ${secret} /b/real
      while :; do mv /a/real /a/t; mv /b/real /a/real; mv /a/t /b/real; mv /a/real /a/t; mv /b/real /a/real; mv /a/t /b/real; done`;
    await ok('run', '-d', '--name', 'box', 'busybox', 'sh', '-c', swap);
    const packed = spawnSync('tar', ['-C', local('tree/sub'), '-c', 'file']).stdout;
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
    let inside = 0;
    const all = rounds(100, 2000);
    for (let round = 0; round < all; round++) {
      const { body } = await daemon.http('GET', '/containers/box/archive?path=/a/real/file');
      expect(body).not.toContain('of the host');
      if (body.includes('inside') || body.includes('content')) inside++;
      await daemon.http('PUT', '/containers/box/archive?path=/a/real', packed);
    }
    // the race was on: the path led to the file at times, and to the symlink at others
    expect(inside).toBeGreaterThan(0);
    expect(inside).toBeLessThan(all);
    expect(readdirSync(secret)).toEqual(['file']);
    expect(readFileSync(join(secret, 'file'), 'utf8')).toBe('of the host\n');
    expect([statSync(secret).mode, statSync(secret).mtimeMs]).toEqual([before.mode, before.mtimeMs]);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(mounts);
  });

  it('breaks off when the client leaves, and goes on serving', async () => {
    await ok(
      'run',
      '-d',
      '--name',
      'box',
      'busybox',
      'sh',
      '-c',
      'dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; sleep 1000',
    );
    await ok('exec', 'box', 'sh', '-c', 'until [ $(stat -c %s /big) = 67108864 ]; do :; done');
    const child = spawn('docker', ['-H', `unix://${daemon.socket}`, 'cp', 'box:/big', '-'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(child.stdout, 'readable');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await ok('exec', 'box', 'stat', '-c', '%s', '/big')).toBe('67108864');
  });

  it('diff tells what was added, changed and deleted, and not what the engine makes', async () => {
    await ok(
      'run',
      '--name',
      'box',
      'busybox',
      'sh',
      '-c',
      'rm /etc/passwd; echo x > /etc/new; mkdir -p /x/y; chmod 700 /root',
    );
    expect((await ok('diff', 'box')).split('\n').sort()).toEqual([
      'A /etc/new',
      'A /x',
      'A /x/y',
      'C /etc',
      'C /root',
      'D /etc/passwd',
    ]);
    await ok('create', '--name', 'fresh', 'busybox', 'true');
    expect(await ok('diff', 'fresh')).toBe('');
  });
});
