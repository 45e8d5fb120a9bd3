/** A pull, a load and a commit onto a full disk: told by name, nothing left, and all goes on once there is room. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive, pushImage } from '../helpers/image.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

const MIB = 1 << 20;

describe.skipIf(missing('root', 'build', 'docker', 'registry', 'busybox'))('a full disk', () => {
  let daemon: TestDaemon;
  let registry: TestRegistry;
  let archive: Buffer;

  beforeAll(async () => {
    registry = await startRegistry();
    daemon = new TestDaemon();
    mkdirSync(daemon.dataRoot);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'caisson-test', daemon.dataRoot]);
    await daemon.start();
    const small = buildImage([await busyboxTar()], { Cmd: ['echo', 'small'] });
    // Does not compress: unpacked and compressed it takes 48 MiB.
    const noise = randomBytes(12 * MIB).toString('hex');
    const large = buildImage([await busyboxTar(), await busyboxTar({ 'opt/noise': noise, 'opt/more': noise })]);
    await pushImage(registry.url, 'test/small', 'latest', small);
    await pushImage(registry.url, 'test/large', 'latest', large);
    archive = await ociArchive(large, 'test/large:loaded');
    await daemon.dockerOk('pull', '-q', `${registry.host}/test/small:latest`);
    await daemon.dockerOk(
      'run',
      '-d',
      '--network=none',
      '--name',
      'goes',
      `${registry.host}/test/small:latest`,
      'sleep',
      '1000',
    );
  });
  afterAll(async () => {
    try {
      const { body } = await daemon.http('GET', '/containers/json?all=1');
      for (const { Id } of JSON.parse(body) as { Id: string }[])
        await daemon.http('DELETE', `/containers/${Id}?force=1`);
      await daemon.kill('SIGTERM');
    } finally {
      execFileSync('umount', ['-l', daemon.dataRoot]);
      await daemon[Symbol.asyncDispose]();
      await registry[Symbol.asyncDispose]();
    }
  });

  const used = (): number => {
    const { blocks, bfree, bsize } = statfsSync(daemon.dataRoot);
    return (blocks - bfree) * bsize;
  };

  it.each([
    ['pull', () => daemon.docker(['pull', `${registry.host}/test/large:latest`])],
    ['load', () => daemon.docker(['load'], { input: archive })],
    [
      'commit',
      async () => {
        await daemon.docker(['exec', 'goes', 'dd', 'if=/dev/urandom', 'of=/big', 'bs=1M', 'count=24']);
        return daemon.docker(['commit', 'goes', 'made:1']);
      },
    ],
  ])('fails a %s, which leaves nothing', async (what, act) => {
    const before = used();
    const failed = await act();
    expect(failed.code, failed.stdout).toBe(1);
    expect(failed.stderr + failed.stdout).toMatch(/no space left on device/i);
    if (what === 'commit') await daemon.dockerOk('exec', 'goes', 'rm', '/big');
    expect(used()).toBeLessThan(before + MIB);
    expect(await daemon.dockerOk('exec', 'goes', 'echo', 'alive')).toBe('alive');
    expect(await daemon.dockerOk('images', '-q')).not.toContain('\n');
  });

  it('is no obstacle any more once there is room', async () => {
    execFileSync('mount', ['-o', 'remount,size=200m', daemon.dataRoot]);
    await daemon.dockerOk('pull', '-q', `${registry.host}/test/large:latest`);
    // What `system df` says is what the disk says.
    const { LayersSize } = JSON.parse((await daemon.http('GET', '/system/df?type=image')).body) as {
      LayersSize: number;
    };
    const kept = ['overlay', 'content'].map((name) => join(daemon.dataRoot, name));
    const du = execFileSync('du', ['-sB1', '-c', '--exclude=upper', '--exclude=work', ...kept], { encoding: 'utf8' });
    const total = Number(du.trim().split('\n').at(-1)?.split('\t')[0]);
    expect(Math.abs(total - LayersSize) / total).toBeLessThan(0.01);
  });
});
