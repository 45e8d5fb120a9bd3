/** `--gpus` with the vendors' programs: no GPU is needed for what the engine has to do with them. dockerd 28.5.2 does the same. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'gpus.test/busybox:latest';
/**
 * What NVIDIA's hook does, in short: reads who is visible out of the bundle that its stdin names, and puts files into the
 * container's root, in the container's mount namespace.
 */
const HOOK = `#!/bin/sh
set -e
state=$(cat)
field() { echo "$state" | grep -o "\\"$1\\": *[^,}]*" | head -1 | cut -d: -f2- | tr -d ' "'; }
config=$(field bundle)/config.json
root=$(grep -o '"root": *{[^}]*}' "$config" | grep -o '"path": *"[^"]*"' | cut -d: -f2- | tr -d ' "')
case $root in /*) ;; *) root=$(field bundle)/$root ;; esac
visible=$(grep -o '"NVIDIA_VISIBLE_DEVICES=[^"]*"' "$config" | tail -1)
nsenter -t "$(field pid)" -m sh -c "echo $1 $visible > $root/gpu"
`;

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('GPUs', () => {
  const daemon = new TestDaemon();
  const programs = join(daemon.dir, 'programs');
  const run = (...args: string[]) => daemon.docker(['run', '--rm', '--network', 'none', ...args]);
  const restart = async (name: string, content: string): Promise<void> => {
    const path = join(programs, name);
    writeFileSync(path, content);
    chmodSync(path, 0o755);
    await daemon.kill('SIGTERM');
    await daemon.start({ PATH: `${programs}:${process.env['PATH']}` });
  };

  beforeAll(async () => {
    mkdirSync(programs);
    await daemon.start();
    // as images for GPUs have it
    const image = buildImage([await busyboxTar()], { Env: ['NVIDIA_VISIBLE_DEVICES=all', 'PATH=/bin'], Cmd: ['sh'] });
    await daemon.docker(['load'], { input: await ociArchive(image, IMAGE) });
  });
  afterAll(() => daemon[Symbol.asyncDispose]());

  test('need a program of their vendor', async () => {
    const { code, stderr } = await run('--gpus', 'all', IMAGE, 'true');
    expect(code).toBe(125);
    expect(stderr).toContain('could not select device driver "" with capabilities: [[gpu]]');
  });

  test('of AMD are a variable for its runtime', async () => {
    await restart('amd-container-runtime', '#!/bin/sh\n');
    expect((await run('--gpus', '3', IMAGE, 'sh', '-c', 'echo $AMD_VISIBLE_DEVICES')).stdout).toBe('0,1,2\n');
  });

  test('of NVIDIA are put into the container by its hook', async () => {
    await restart('nvidia-container-runtime-hook', HOOK);
    const show = 'cat /gpu; echo $NVIDIA_VISIBLE_DEVICES $NVIDIA_DRIVER_CAPABILITIES; env | grep -c ^NVIDIA_VISIBLE';
    const shown = async (...gpus: string[]) => (await run('--gpus', ...gpus, IMAGE, 'sh', '-c', show)).stdout;
    expect(await shown('2')).toBe('prestart NVIDIA_VISIBLE_DEVICES=0,1\n0,1\n1\n');
    expect(await shown('all,capabilities=utility')).toBe('prestart NVIDIA_VISIBLE_DEVICES=all\nall utility\n1\n');
    expect(await shown('"device=0,GPU-3a"')).toBe('prestart NVIDIA_VISIBLE_DEVICES=0,GPU-3a\n0,GPU-3a\n1\n');
    const other = await run('--gpus', 'driver=amd', IMAGE, 'true');
    expect(other.stderr).toContain('could not select device driver "amd" with capabilities: [[gpu]]');
  });

  test('whose hook fails keep the container from its start', async () => {
    await restart('nvidia-container-runtime-hook', '#!/bin/sh\necho "nvidia-container-cli: no adapters" >&2\nexit 1\n');
    const { code, stderr } = await run('--gpus', 'all', IMAGE, 'true');
    expect(code).toBe(125);
    expect(stderr).toMatch(/error running prestart hook #0: .*nvidia-container-cli: no adapters/);
  });
});
