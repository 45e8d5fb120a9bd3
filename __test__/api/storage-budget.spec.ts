/** `--storage-budget`: what is used goes last, what is in use or pinned never. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('a storage budget', () => {
  let daemon: TestDaemon;
  let budget: number;

  /** Each as large as the others, and nothing of it shared. */
  const load = async (name: string): Promise<string> => {
    const image = buildImage([await busyboxTar({ noise: randomBytes(1 << 20).toString('hex') })], { Cmd: ['true'] });
    const loaded = await daemon.docker(['load'], { input: await ociArchive(image, `test/${name}:1`) });
    expect(loaded).toMatchObject({ code: 0 });
    return loaded.stdout;
  };
  const names = async (): Promise<string[]> =>
    (await daemon.dockerOk('images', '--format', '{{.Repository}}')).split('\n').sort();
  const used = async (): Promise<number> =>
    (JSON.parse((await daemon.http('GET', '/system/df?type=image')).body) as { LayersSize: number }).LayersSize;
  const restart = async (...flags: string[]): Promise<void> => {
    await daemon.kill();
    await daemon.start({}, flags);
  };

  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    await load('a');
    budget = Math.ceil((await used()) * 3.1);
    await restart('--storage-budget', `${budget}`);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  it('takes the image whose last use is longest ago', async () => {
    await load('b');
    await load('c');
    expect(await names()).toEqual(['test/a', 'test/b', 'test/c']);
    await daemon.dockerOk('run', '--rm', '--network', 'none', 'test/a:1');
    expect(await load('d')).toContain('Removed for the storage budget: test/b:1');
    expect(await names()).toEqual(['test/a', 'test/c', 'test/d']);
    expect(await used()).toBeLessThanOrEqual(budget);
  });

  it('leaves what a container has', async () => {
    const id = await daemon.dockerOk('create', 'test/c:1');
    await load('e');
    expect(await names()).toEqual(['test/c', 'test/d', 'test/e']);
    await daemon.dockerOk('rm', id.trim());
  });

  it('leaves what is pinned, by name or pattern', async () => {
    await restart('--storage-budget', `${budget}`, '--storage-pin', 'test/[d]', '--storage-pin', 'test/c:1');
    await load('f');
    expect(await names()).toEqual(['test/c', 'test/d', 'test/f']);
  });

  it('holds from the start of the daemon on, and leaves the one used last', async () => {
    await restart('--storage-budget', '1k');
    expect(await names()).toEqual(['test/f']);
    expect(await daemon.dockerOk('run', '--rm', '--network', 'none', 'test/f:1')).toBe('');
  });
});
