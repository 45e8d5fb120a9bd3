/**
 * SIGKILL of the daemon while the image's files are copied into an empty volume: whoever sees the volume afterwards finds all
 * of them or none, also without a further copy.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { leaks } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'copied.test/busybox:latest';
const COUNT = 3000;
const COUNT_FILES = 'ls /data | wc -l; cat /data/* | sort -n | uniq | wc -l';

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('a daemon killed while a volume is filled', () => {
  let daemon: TestDaemon;
  beforeAll(async () => {
    daemon = new TestDaemon();
    await daemon.start();
    const files = Object.fromEntries(Array.from({ length: COUNT }, (_, index) => [`data/${index}`, `${index}\n`]));
    await daemon.docker(['load'], { input: await ociArchive(buildImage([await busyboxTar(files)]), IMAGE) });
  });
  afterAll(() => daemon[Symbol.asyncDispose]());

  const entries = (dir: string): number => (existsSync(dir) ? readdirSync(dir).length : 0);
  const moments: Record<string, (volume: string) => boolean> = {
    'the copy begins': (volume) => existsSync(join(volume, '.copying')),
    'half is copied': (volume) => entries(join(volume, '.copying')) > COUNT / 2,
    'the copy is complete': (volume) => existsSync(join(volume, '.copied')),
    'half has moved in': (volume) => entries(join(volume, '_data')) > COUNT / 2,
  };
  for (const [moment, reached] of Object.entries(moments)) {
    test(`as ${moment}`, async () => {
      const name = moment.replaceAll(' ', '-');
      await daemon.dockerOk('volume', 'create', name);
      const volume = join(daemon.dataRoot, 'volumes', name);
      const create = daemon.docker(['create', '-v', `${name}:/data`, IMAGE]);
      await new Promise(setImmediate);
      const deadline = Date.now() + 20_000;
      while (!reached(volume) && Date.now() < deadline) await new Promise(setImmediate);
      await daemon.kill('SIGKILL');
      await create;
      await daemon.start();
      const seen = async (mode: string) =>
        (await daemon.dockerOk('run', '--rm', '-v', `${name}:/data:${mode}`, IMAGE, 'sh', '-c', COUNT_FILES)).split(
          '\n',
        );
      expect([
        ['0', '0'],
        [String(COUNT), String(COUNT)],
      ]).toContainEqual(await seen('nocopy'));
      expect(await seen('rw')).toEqual([String(COUNT), String(COUNT)]);
      expect(readdirSync(volume)).toEqual(['_data']);
    });
  }

  test('and nothing is left', async () => {
    const ids = (await daemon.dockerOk('ps', '-aq')).split('\n').filter(Boolean);
    if (ids.length > 0) await daemon.dockerOk('rm', '-f', ...ids);
    expect(leaks(daemon, [], [])).toEqual([]);
  });
});
