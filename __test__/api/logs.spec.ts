/** `docker logs` through the real client: drivers, options and attributes, and a daemon that is killed while a log rotates. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { buildImage, busyboxTar, ociArchive } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';

const IMAGE = 'logs.test/busybox:latest';

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('docker logs', () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = new TestDaemon();
    await daemon.start();
    await daemon.docker(['load'], { input: await ociArchive(buildImage([await busyboxTar()]), IMAGE) });
  });
  afterAll(() => daemon[Symbol.asyncDispose]());

  const create = (...args: string[]) => daemon.docker(['create', '--network', 'none', ...args]);
  const run = async (...args: string[]): Promise<string> => {
    const id = await daemon.dockerOk('run', '-d', '--network', 'none', ...args);
    await daemon.dockerOk('wait', id);
    return id;
  };

  test('the local driver: its own directory, no path for others, all of its log', async () => {
    const id = await run('--log-driver', 'local', IMAGE, 'sh', '-c', 'echo out; echo err >&2; printf tail');
    const { stdout, stderr } = await daemon.docker(['logs', id]);
    expect({ stdout, stderr }).toEqual({ stdout: 'out\ntail', stderr: 'err\n' });
    expect(await daemon.dockerOk('logs', '--tail', '1', id)).toBe('tail');
    expect(await daemon.dockerOk('inspect', '-f', '{{.LogPath}}{{json .HostConfig.LogConfig}}', id)).toBe(
      '{"Type":"local","Config":{}}',
    );
    expect(existsSync(join(daemon.dataRoot, 'containers', id, 'local-logs/container.log'))).toBe(true);
    await daemon.dockerOk('rm', id);
    expect(JSON.parse(await daemon.dockerOk('info', '-f', '{{json .Plugins.Log}}'))).toContain('local');
  });

  test('a restarted container goes on in the same log', async () => {
    for (const driver of ['json-file', 'local']) {
      const id = await run('--log-driver', driver, IMAGE, 'sh', '-c', 'echo once more');
      await daemon.dockerOk('start', id);
      await daemon.dockerOk('wait', id);
      expect(await daemon.dockerOk('logs', id)).toBe('once more\nonce more');
    }
  });

  test('labels, variables and the tag are details', async () => {
    const options = ['labels=team,other', 'labels-regex=^x', 'env=E', 'tag={{.Name}}/{{.ImageName}}'];
    const flags = options.flatMap((option) => ['--log-opt', option]);
    const labels = ['--label', 'team=a b', '--label', 'xy=1', '--label', 'no=2'];
    const id = await run('--name', 'tagged', ...labels, '-e', 'E=5', ...flags, IMAGE, 'echo', 'hi');
    expect(await daemon.dockerOk('logs', '--details', id)).toBe(
      'E=5,tag=tagged%2Flogs.test%2Fbusybox%3Alatest,team=a+b,xy=1 hi',
    );
    const path = await daemon.dockerOk('inspect', '-f', '{{.LogPath}}', id);
    expect(JSON.parse(readFileSync(path, 'utf8')).attrs).toEqual({
      E: '5',
      tag: `tagged/${IMAGE}`,
      team: 'a b',
      xy: '1',
    });
  });

  test('an option that cannot be is refused when the container is created', async () => {
    for (const [option, message] of [
      ['compress=true', 'compress cannot be true when max-file is less than 2 or max-size is not set'],
      ['nothing=1', "unknown log opt 'nothing' for json-file log driver"],
      ['mode=never', 'logger: logging mode not supported: never'],
      ['tag={{upper .Name}}', '--log-opt tag: {{upper .Name}} is not supported'],
    ] as const) {
      const { code, stderr } = await create('--log-opt', option, IMAGE, 'true');
      expect(code).not.toBe(0);
      expect(stderr).toContain(message);
    }
    const { stderr } = await create('--log-opt', 'max-file=2', IMAGE, 'true');
    expect(stderr).toContain('max-file has no effect without max-size');
  });

  test('mode=non-blocking: the log is complete when the container has ended', async () => {
    const id = await run('--log-opt', 'mode=non-blocking', IMAGE, 'seq', '1', '20000');
    const numbers = (await daemon.dockerOk('logs', id)).split('\n').map(Number);
    expect(numbers).toEqual(Array.from({ length: 20_000 }, (_, index) => index + 1));
  });

  test('a daemon killed while logs rotate: no gap, and the files stay within their number', async () => {
    const program = 'i=0; while :; do seq $i"000" $i"999"; i=$((i+1)); usleep 2000; done';
    const limits = ['--log-opt', 'max-size=20k', '--log-opt', 'max-file=4', '--log-opt', 'compress=true'];
    const ids = await Promise.all(
      ['json-file', 'local'].map((driver) =>
        daemon.dockerOk(
          'run',
          '-d',
          '--network',
          'none',
          '--log-driver',
          driver,
          ...limits,
          IMAGE,
          'sh',
          '-c',
          program,
        ),
      ),
    );
    const files = (id: string) => {
      const dir = join(daemon.dataRoot, 'containers', id);
      const local = join(dir, 'local-logs');
      return readdirSync(existsSync(local) ? local : dir).filter((name) => /\.log(\.\d+)?(\.gz)?$/.test(name));
    };
    for (const id of ids) while (files(id).length < 4) await sleep(5);
    await daemon.kill('SIGKILL');
    await daemon.start();
    for (const id of ids) {
      await daemon.dockerOk('kill', id);
      await daemon.dockerOk('wait', id);
      const { stdout, stderr } = await daemon.docker(['logs', id]);
      expect(stderr).toBe('');
      const numbers = stdout.trim().split('\n').map(Number);
      expect(numbers.length).toBeGreaterThan(100);
      // the kill may have cut the last one
      const whole = numbers.slice(0, -1);
      const gap = whole.findIndex((number, index) => index > 0 && number !== (whole[index - 1] as number) + 1);
      expect(gap < 0 ? [] : whole.slice(Math.max(0, gap - 2), gap + 2), files(id).join()).toEqual([]);
      expect(new Set(files(id).map((name) => name.replace('.gz', ''))).size).toBeLessThanOrEqual(4);
    }
  });
});
