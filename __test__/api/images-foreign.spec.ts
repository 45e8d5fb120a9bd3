/** Images that other tools make and carry: buildah, umoci and skopeo, as archives and through a registry. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

const skip = missing('root', 'build', 'docker', 'registry', 'busybox', 'buildah', 'umoci', 'skopeo');

describe.skipIf(skip)('images of other tools', () => {
  let dir: string;
  let daemon: TestDaemon;
  let registry: TestRegistry;

  const tool = (program: string, ...args: string[]): string =>
    execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], cwd: dir }).trim();
  const buildah = (...args: string[]): string =>
    tool('buildah', '--root', join(dir, 'storage'), '--runroot', join(dir, 'run'), '--storage-driver', 'vfs', ...args);

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-foreign-'));
    const rootfs = join(dir, 'rootfs');
    mkdirSync(join(rootfs, 'bin'), { recursive: true });
    copyFileSync(existsSync('/bin/busybox') ? '/bin/busybox' : '/usr/bin/busybox', join(rootfs, 'bin/busybox'));
    for (const applet of ['sh', 'cat', 'echo', 'ls']) symlinkSync('busybox', join(rootfs, 'bin', applet));
    const container = buildah('from', 'scratch');
    buildah('copy', container, rootfs, '/');
    buildah('config', '--cmd', '["cat", "/by"]', '--env', 'MAKER=buildah', '--label', 'maker=buildah', container);
    // A second layer that removes a file of the first and adds one: whiteouts as buildah writes them.
    buildah('commit', '-q', container, 'base');
    const second = buildah('from', 'base');
    const mounted = buildah('mount', second);
    rmSync(join(mounted, 'bin/ls'));
    execFileSync('sh', ['-c', `echo buildah > ${mounted}/by`]);
    buildah('umount', second);
    buildah('commit', '-q', '--format', 'oci', second, 'made');
    buildah('commit', '-q', '--format', 'docker', second, 'made-docker');

    tool('umoci', 'init', '--layout', 'layout');
    tool('umoci', 'new', '--image', 'layout:made');
    tool('umoci', 'unpack', '--image', 'layout:made', 'bundle');
    execFileSync('cp', ['-a', `${rootfs}/.`, join(dir, 'bundle/rootfs')]);
    execFileSync('sh', ['-c', `echo umoci > ${dir}/bundle/rootfs/by`]);
    tool('umoci', 'repack', '--image', 'layout:made', 'bundle');
    tool('umoci', 'config', '--image', 'layout:made', '--config.cmd', 'cat', '--config.cmd', '/by');
    registry = await startRegistry();
    daemon = await new TestDaemon().start();
  });

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  /** Each is written to `archive.tar` and names itself `test.local/made:1`, or `to` where the format has no names. */
  const archives: [string, string, () => void][] = [
    ['buildah: oci-archive', 'buildah', () => buildah('push', 'made', 'oci-archive:archive.tar:test.local/made:1')],
    [
      'buildah: docker-archive',
      'buildah',
      () => buildah('push', 'made-docker', 'docker-archive:archive.tar:test.local/made:1'),
    ],
    [
      'umoci, by skopeo: oci-archive',
      'umoci',
      () => tool('skopeo', 'copy', 'oci:layout:made', 'oci-archive:archive.tar:test.local/made:1'),
    ],
    [
      'umoci, by skopeo: docker-archive',
      'umoci',
      () => tool('skopeo', 'copy', 'oci:layout:made', 'docker-archive:archive.tar:test.local/made:1'),
    ],
    [
      'umoci: its layout as a tar',
      'umoci',
      () => {
        execFileSync('tar', ['-C', join(dir, 'layout'), '-cf', join(dir, 'archive.tar'), '.']);
      },
    ],
  ];

  it.each(archives)('load and run: %s', async (_what, maker, write) => {
    rmSync(join(dir, 'archive.tar'), { force: true });
    write();
    const loaded = await daemon.docker(['load'], { input: readFileSync(join(dir, 'archive.tar')) });
    expect(loaded).toMatchObject({ code: 0, stderr: '' });
    const name = /Loaded image(?: ID)?: (\S+)/.exec(loaded.stdout)?.[1] ?? '';
    expect(await daemon.dockerOk('run', '--rm', '--network=none', name)).toBe(maker);
    await daemon.dockerOk('rmi', '-f', name);
  });

  it.each([
    ['buildah, OCI', 'buildah', () => buildah('push', '--tls-verify=false', 'made', `${registry.host}/f/a:1`)],
    [
      'buildah, Docker v2s2',
      'buildah',
      () => buildah('push', '--tls-verify=false', '--format', 'v2s2', 'made-docker', `${registry.host}/f/a:1`),
    ],
    [
      'umoci, zstd layers by skopeo',
      'umoci',
      () =>
        tool(
          'skopeo',
          'copy',
          '--dest-tls-verify=false',
          '--dest-compress-format=zstd',
          'oci:layout:made',
          `docker://${registry.host}/f/a:1`,
        ),
    ],
  ])('pull and run: %s', async (_what, maker, push) => {
    push();
    const name = `${registry.host}/f/a:1`;
    await daemon.dockerOk('pull', '-q', name);
    expect(await daemon.dockerOk('run', '--rm', '--network=none', name)).toBe(maker);
    // What the second layer removed is not there, although the first has it.
    const listed = await daemon.docker(['run', '--rm', '--network=none', name, 'ls']);
    expect(listed.code).toBe(maker === 'buildah' ? 127 : 0);
    await daemon.dockerOk('rmi', '-f', name);
  });
});
