/**
 * The SDKs that people use, as their registries give them, against our socket: dockerode and testcontainers of npm,
 * docker and testcontainers of PyPI, the command line of dev containers. They are fetched at the first run and kept in
 * node_modules/.cache; a machine whose registries do not answer skips them, except where CAISSON_REQUIRE is set.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../ts/packageRoot.ts';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'sdk.test/busybox:1';
const NPM = ['dockerode@5.0.1', 'testcontainers@12.0.4', '@devcontainers/cli@0.89.0'];
const PYPI = ['docker==7.2.0', 'testcontainers==4.15.0'];
const CACHE = join(packageRoot, 'node_modules/.cache/caisson-sdks');
const NODE = join(packageRoot, 'node_modules/node/bin/node');

/** False where its registry does not answer. */
function install(name: string, command: string, args: string[]): boolean {
  const done = join(CACHE, `${name}.installed`);
  if (existsSync(done)) return true;
  mkdirSync(CACHE, { recursive: true });
  const { status } = spawnSync(command, args, { stdio: 'ignore', timeout: 240_000 });
  if (status === 0) writeFileSync(done, '');
  return status === 0;
}

function lacks(name: string, command: string, args: string[]): boolean {
  if (missing('root', 'build', 'docker', 'busybox')) return true;
  if (install(name, command, args)) return false;
  if (process.env['CAISSON_REQUIRE']) throw new Error(`${command} ${args.join(' ')} failed`);
  return true;
}

const npm = lacks('npm', 'npm', [
  'install',
  '--silent',
  '--no-audit',
  '--no-fund',
  '--prefix',
  join(CACHE, 'npm'),
  ...NPM,
]);
const pypi = lacks('pypi', 'python3', ['-m', 'pip', 'install', '-q', '--target', join(CACHE, 'pypi'), ...PYPI]);

describe.skipIf(npm && pypi)('SDKs', () => {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-sdks-'));
  let daemon: TestDaemon;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    await daemon.docker(['load'], { input: await ociArchive(buildImage([await busyboxTar()]), IMAGE) });
    // where the packages of the scripts are looked for
    symlinkSync(join(packageRoot, '__test__/sdks'), join(dir, 'sdks'));
    symlinkSync(join(CACHE, 'npm/node_modules'), join(dir, 'node_modules'));
    env = {
      ...process.env,
      SOCKET: daemon.socket,
      IMAGE,
      DOCKER_HOST: `unix://${daemon.socket}`,
      DOCKER_CONFIG: join(daemon.dir, 'docker-config'),
      PYTHONPATH: join(CACHE, 'pypi'),
      // its reaper is an image of Docker Hub
      TESTCONTAINERS_RYUK_DISABLED: 'true',
      HOME: dir,
    };
  });
  afterAll(async () => {
    const leaked = await oracle(daemon);
    await daemon[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
    expect(leaked).toEqual([]);
  });

  const answer = async (command: string, args: string[]): Promise<unknown> => {
    const { code, stdout, stderr } = await run(command, args, { env, timeoutMs: 120_000 });
    if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${code}\n${stderr}${stdout}`);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
  };
  const script = (name: string): Promise<unknown> =>
    answer(NODE, ['--preserve-symlinks', '--preserve-symlinks-main', join(dir, 'sdks', name)]);

  it.skipIf(npm)('dockerode', { timeout: 120_000 }, async () => {
    expect(await script('dockerode.mjs')).toEqual({
      run: [3, 'out\n'],
      exec: 'typed',
      logs: 0,
      stats: true,
      listed: 1,
      archive: true,
      events: true,
      state: ['exited', 137],
      missing: [404, 'No such container: nope'],
    });
  });

  it.skipIf(npm)('testcontainers for Node', { timeout: 120_000 }, async () => {
    expect(await script('testcontainers.mjs')).toEqual({ inside: [0, 'hello'], outside: 'hello' });
  });

  it.skipIf(pypi)('docker-py', { timeout: 120_000 }, async () => {
    expect(await answer('python3', [join(packageRoot, '__test__/sdks/docker_py.py')])).toEqual({
      run: 'out\n',
      failed: [3, 'bad\n'],
      exec: [4, 'in\n', 'err\n'],
      archive: 'data',
      limit: 64 << 20,
      listed: 1,
      stats: true,
      names: [true, true],
      missing: 'No such image: nope:nope',
      version: '1.51',
    });
  });

  it.skipIf(pypi)('testcontainers for Python', { timeout: 120_000 }, async () => {
    expect(await answer('python3', [join(packageRoot, '__test__/sdks/testcontainers_py.py')])).toEqual({
      page: 'hello',
      exec: [0, 'in\n'],
    });
  });

  it.skipIf(npm)('dev containers', { timeout: 120_000 }, async () => {
    const workspace = join(dir, 'workspace');
    mkdirSync(join(workspace, '.devcontainer'), { recursive: true });
    writeFileSync(join(workspace, 'file'), 'of the workspace');
    const config = {
      image: IMAGE,
      remoteUser: 'root',
      updateRemoteUserUID: false,
      postCreateCommand: 'echo made > /made',
    };
    writeFileSync(join(workspace, '.devcontainer/devcontainer.json'), JSON.stringify(config));
    const cli = join(CACHE, 'npm/node_modules/@devcontainers/cli/devcontainer.js');
    const up = await answer(NODE, [cli, 'up', '--workspace-folder', workspace]);
    expect(up).toMatchObject({ outcome: 'success', remoteUser: 'root' });
    const { containerId } = up as { containerId: string };
    const inside = ['exec', '--workspace-folder', workspace, 'sh', '-c', 'cat /made file'];
    const { stdout } = await run(NODE, [cli, ...inside], { env, timeoutMs: 60_000 });
    expect(stdout).toBe('made\nof the workspace');
    await daemon.dockerOk('rm', '-f', containerId);
  });
});
