/** `system df` against du(1): images, containers and volumes, with small, large, sparse and linked files. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run, TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

/** Into the directory of the first argument. */
const FILL = `cd $1 && mkdir -p a/b && i=0 && while [ $i -lt 300 ]; do echo $i >a/b/small$i; i=$((i + 1)); done &&
  dd if=/dev/urandom of=large bs=1M count=4 && ln large a/linked && dd if=/dev/zero of=sparse bs=1 count=1 seek=100M && sync`;

interface Usage {
  LayersSize: number;
  Containers: { Id: string; SizeRw: number }[];
  Volumes: { Name: string; UsageData: { Size: number } }[];
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('system df', () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    const many = Array.from({ length: 500 }, (_, i) => [`opt/${i % 7}/file${i}`, randomBytes(i * 7).toString('hex')]);
    await daemon.loadBusybox(Object.fromEntries(many) as Record<string, string>);
    const fill = ['--network', 'none', 'busybox', 'sh', '-c', FILL, 'fill'];
    await daemon.dockerOk('run', '-v', 'one:/data', ...fill, '/data');
    await daemon.dockerOk('run', '--name', 'filled', ...fill, '/root');
    await daemon.dockerOk('run', '--rm', '-v', 'two:/data', ...fill, '/data');
    await daemon.dockerOk('commit', 'filled', 'test/committed');
  });
  afterAll(async () => {
    expect(await oracle(daemon)).toEqual([]);
    await daemon[Symbol.asyncDispose]();
  });

  const df = async (): Promise<Usage> => JSON.parse((await daemon.http('GET', '/system/df')).body) as Usage;
  const du = async (...paths: string[]): Promise<number> => {
    const { stdout } = await run('du', ['-scB1', ...paths.map((path) => join(daemon.dataRoot, path))]);
    return Number.parseInt(stdout.trim().split('\n').at(-1) ?? '', 10);
  };
  const isNear = (told: number, used: number): void =>
    expect(Math.abs(told / used - 1), `df tells ${told}, du ${used}`).toBeLessThan(0.01);

  it('tells what du tells, of each kind and of all together', async () => {
    const { LayersSize, Containers, Volumes } = await df();
    expect(Containers).toHaveLength(2);
    const own = Containers.map(({ Id }) => `overlay/${Id}`);
    isNear(
      Containers.reduce((sum, { SizeRw }) => sum + SizeRw, 0),
      await du(...own),
    );
    expect(Volumes.map(({ Name }) => Name).sort()).toEqual(['one', 'two']);
    for (const { Name, UsageData } of Volumes) isNear(UsageData.Size, await du(`volumes/${Name}/_data`));
    const all = await du('overlay', 'content', 'volumes');
    const told = Volumes.map(({ UsageData }) => UsageData.Size).reduce((sum, size) => sum + size, LayersSize);
    isNear(
      Containers.reduce((sum, { SizeRw }) => sum + SizeRw, told),
      all,
    );
  });
});
