/** Container logs: both formats written by the shim and served by the addon, rotation, and what goes wrong around them. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  constants as fs,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ContainerConfig, LogRequest } from '../../ts/engine/native/containers.ts';
import { loadNative } from '../../ts/engine/native/index.ts';
import { missing } from '../helpers/requires.ts';
import { Connection, frames, type LogRecord, ShimLab } from '../helpers/shim.ts';

type Log = Partial<ContainerConfig['log']>;
const DRIVERS = ['json-file', 'local'] as const;
const HEAD = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';

/** The body of a chunked answer. */
function dechunk(body: Buffer): Buffer {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = body.indexOf('\r\n', at);
    const length = Number.parseInt(body.toString('latin1', at, end), 16);
    if (length === 0) return Buffer.concat(chunks);
    chunks.push(body.subarray(end + 2, end + 2 + length));
    at = end + 2 + length + 2;
  }
}

const count = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, index) => `${from + index}\n`).join('');

/** Numbers, one a line, without a gap up to the last. */
function expectNumbers(text: string, last: number): number {
  const numbers = text.trimEnd().split('\n').map(Number);
  expect(numbers).toEqual(numbers.map((_, index) => last + 1 - numbers.length + index));
  return numbers.length;
}

describe.skipIf(missing('root', 'build', 'busybox'))('logs', () => {
  let lab: ShimLab;
  let handles = 0;

  beforeAll(async () => {
    lab = await ShimLab.open(loadNative());
  });

  afterAll(async () => {
    await lab[Symbol.asyncDispose]();
  });

  async function serve(path: string, options: Partial<LogRequest> = {}) {
    const client = await Connection.open(lab.native, lab.dir);
    const handle = ++handles;
    const served = lab.native.serveLog({
      driver: 'json-file',
      path,
      stdout: true,
      stderr: true,
      timestamps: false,
      details: false,
      follow: false,
      raw: true,
      ...options,
      handle,
      fd: client.fd,
      head: HEAD,
      chunked: true,
    });
    return { client, handle, served };
  }

  async function read(path: string, options: Partial<LogRequest> = {}): Promise<Buffer> {
    const { client, served } = await serve(path, options);
    const body = await client.rest();
    await served;
    return dechunk(body);
  }

  /** A directory for each log: rotated files lie beside it. */
  function logIn(name: string, log: Log = {}): Log & { path: string } {
    const dir = join(lab.dir, `logs-${name}`);
    mkdirSync(dir, { recursive: true });
    return { ...log, path: join(dir, 'log') };
  }

  describe.each(DRIVERS)('%s', (driver) => {
    test('streams, partial lines, times and tails come back', async () => {
      const log = logIn(`plain-${driver}`, { driver });
      const before = new Date().toISOString();
      await lab.exit(await lab.run(['sh', '-c', 'echo out; echo err >&2; printf tail'], {}, log));
      const all = frames(await read(log.path, { driver, raw: false }));
      expect(all).toEqual({ stdout: 'out\ntail', stderr: 'err\n' });
      expect((await read(log.path, { driver, tail: 1 })).toString()).toBe('tail');
      expect((await read(log.path, { driver, stderr: false })).toString()).toBe('out\ntail');
      const timed = (await read(log.path, { driver, timestamps: true, stderr: false })).toString();
      const [line = ''] = timed.split('\n');
      expect(line).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z out$/);
      expect(line.slice(0, 23) >= before.slice(0, 23)).toBe(true);
      const end = String(BigInt(Date.parse(before)) * 1_000_000n - 1n);
      expect((await read(log.path, { driver, until: end })).toString()).toBe('');
      expect((await read(log.path, { driver, since: end })).toString()).toContain('out\n');
    });

    test('rotated files are compressed beside the container and read with the rest', async () => {
      const log = logIn(`rotate-${driver}`, { driver, maxSizeBytes: 100_000, maxFiles: 4, compress: true });
      // the pauses let the compressor finish: it never holds the container up
      const id = await lab.run(
        ['sh', '-c', 'for i in 0 1 2 3 4 5 6 7 8 9; do seq $i"0000" $i"9999"; sleep 0.1; done; read x'],
        { openStdin: true },
        log,
      );
      const { client, handle, served } = await serve(log.path, { driver, follow: true });
      const followed = await client.until((received) => received.includes('99999\n'));
      lab.native.endLog(handle);
      await served;
      expect(followed.length).toBeGreaterThan(0);
      const names = (): string[] => readdirSync(join(log.path, '..'));
      await expect.poll(() => names().some((name) => name.endsWith('.gz')), { timeout: 10_000 }).toBe(true);
      const kept = expectNumbers((await read(log.path, { driver })).toString(), 99_999);
      expect(kept).toBeGreaterThan(1000);
      for (const tail of [1, 100, kept]) {
        expect(expectNumbers((await read(log.path, { driver, tail })).toString(), 99_999)).toBe(tail);
      }
      await lab.destroy(id);
    });

    test.each([false, true])(
      'a follower sees each line at once, across rotations, compressed: %j',
      async (compress) => {
        const log = logIn(`follow-${driver}-${compress}`, { driver, maxSizeBytes: 200, maxFiles: 9, compress });
        const id = await lab.run(['cat'], { openStdin: true, stdinOnce: true }, log);
        const input = await Connection.open(lab.native, lab.dir);
        await lab.native.attach(id, input.stream({ stdin: true, stdout: false, stderr: false }));
        const { client, handle, served } = await serve(log.path, { driver, follow: true });
        for (let number = 1; number <= 40; number++) {
          input.socket.write(`line ${number}.\n`);
          await client.until((received) => received.includes(`line ${number}.\n`));
          if (compress && number % 10 === 0) await expect.poll(() => existsSync(`${log.path}.1.gz`)).toBe(true);
        }
        input.socket.end();
        await lab.exit(id);
        lab.native.endLog(handle);
        await served;
        const expected = Array.from({ length: 40 }, (_, index) => `line ${index + 1}.\n`).join('');
        expect(dechunk(await client.rest()).toString()).toBe(expected);
      },
    );

    test('a full disk costs records, which are counted, and not the container', async () => {
      const log = logIn(`full-${driver}`, { driver });
      const dir = join(log.path, '..');
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', dir]);
      try {
        writeFileSync(join(dir, 'filler'), Buffer.alloc(128 << 10));
        const program = 'seq 1 100000; echo full >&2; read x; echo after; seq 1 3';
        const id = await lab.run(['sh', '-c', program], { openStdin: true, stdinOnce: true }, log);
        const input = await Connection.open(lab.native, lab.dir);
        await lab.native.attach(id, input.stream({ stdin: true, stdout: false, stderr: true }));
        await input.until((received) => received.includes('full\n'));
        rmSync(join(dir, 'filler'));
        input.socket.end('go\n');
        expect(await lab.exit(id)).toMatchObject({ exitCode: 0 });
        const text = (await read(log.path, { driver })).toString();
        const notices = [...text.matchAll(/^(\d+) bytes lost\n/gm)];
        const lost = notices.reduce((sum, [, bytes]) => sum + Number(bytes), 0);
        const kept = text.replaceAll(/^\d+ bytes lost\n/gm, '');
        expect(lost).toBeGreaterThan(0);
        expect(kept.endsWith('after\n1\n2\n3\n')).toBe(true);
        expect(kept.length + lost).toBe(`${count(1, 100_000)}full\nafter\n1\n2\n3\n`.length);
      } finally {
        execFileSync('umount', [dir]);
      }
    });

    test('truncated or deleted from outside, it goes on', async () => {
      const log = logIn(`outside-${driver}`, { driver });
      const id = await lab.run(['cat'], { openStdin: true, stdinOnce: true }, log);
      const input = await Connection.open(lab.native, lab.dir);
      await lab.native.attach(id, input.stream({ stdin: true, stdout: false, stderr: false }));
      const { client, handle, served } = await serve(log.path, { driver, follow: true });
      input.socket.write(`${'one'.repeat(100)}\n`);
      await client.until((received) => received.includes('one\n'));
      truncateSync(log.path, 0);
      input.socket.write('two\n');
      await client.until((received) => received.includes('two\n'));
      rmSync(log.path);
      // the writer looks once a second whether its file is still there
      for (let number = 0; !existsSync(log.path); number++) {
        input.socket.write(`lost ${number}\n`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      input.socket.write('three\n');
      await client.until((received) => received.includes('three\n'));
      lab.native.endLog(handle);
      await served;
      input.socket.end();
      await lab.exit(id);
      expect((await read(log.path, { driver })).toString()).toMatch(/^(lost \d+\n)*three\n$/);
    });

    test('a shim killed while it rotates leaves whole records in order', async () => {
      for (let round = 0; round < 5; round++) {
        const log = logIn(`killed-${driver}-${round}`, { driver, maxSizeBytes: 3000, maxFiles: 4, compress: true });
        const options = lab.options(
          ['sh', '-c', 'i=0; while true; do seq $i"0000" $i"9999"; i=$((i+1)); done'],
          {},
          log,
        );
        const { shimPid } = await lab.native.spawnShim(options);
        await lab.native.startContainer(options.id);
        while (!existsSync(`${log.path}.3`) && !existsSync(`${log.path}.3.gz`)) {
          await new Promise((resolve) => setTimeout(resolve, 1 + round));
        }
        process.kill(shimPid, 'SIGKILL');
        await lab.event(options.id, 'shimGone');
        const text = (await read(log.path, { driver })).toString();
        const last = Number(text.trimEnd().split('\n').at(-1));
        expect(expectNumbers(text, last)).toBeGreaterThan(50);
        await lab.destroy(options.id);
      }
    });
  });

  test('mode=non-blocking: a log that hangs drops output and does not stop the container', async () => {
    const log = logIn('queue', { driver: 'json-file', maxBufferBytes: 64 << 10 });
    execFileSync('mkfifo', [log.path]);
    // a file that takes 64 KiB and then hangs, until somebody reads it
    const fifo = openSync(log.path, fs.O_RDWR | fs.O_NONBLOCK);
    const id = await lab.run(['sh', '-c', 'seq 1 200000; echo end >&2'], {}, log);
    expect(await lab.exit(id)).toMatchObject({ exitCode: 0 });
    let text = '';
    const taken = () => {
      const records = text
        .slice(0, text.lastIndexOf('\n') + 1)
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as LogRecord);
      const bytes = records.map(({ log: line }) => Number(/^(\d+) bytes lost\n$/.exec(line)?.[1] ?? 0));
      const kept = records.filter((_, index) => bytes[index] === 0).map(({ log: line }) => line);
      // a line that a gap cuts is given an end
      const cuts = bytes.filter(Boolean).length;
      return { kept: kept.join(''), lost: bytes.reduce((sum, lost) => sum + lost, 0), cuts };
    };
    // both streams share the queue: what finds it full is lost, `end` too
    const total = `${count(1, 200_000)}end\n`.length;
    const buffer = Buffer.alloc(64 << 10);
    for (let all = false; !all; ) {
      try {
        text += buffer.toString('utf8', 0, readSync(fifo, buffer));
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('EAGAIN');
        const { kept, lost, cuts } = taken();
        all = kept.length + lost >= total && kept.length + lost <= total + cuts;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    const { kept, lost } = taken();
    expect(lost).toBeGreaterThan(total / 2);
    expect(kept.startsWith(count(1, 1000))).toBe(true);
    // whole lines only
    expect(
      kept
        .trimEnd()
        .split('\n')
        .every((line) => /^(\d{1,6}|end)$/.test(line)),
    ).toBe(true);
  });

  test('attributes stand in each record and are shown as details', async () => {
    const log = logIn('attrs', { attrs: { tag: 'a b/<c>', env: 'x' } });
    await lab.exit(await lab.run(['echo', 'hi'], {}, log));
    const record = JSON.parse(readFileSync(log.path, 'utf8'));
    expect(record).toMatchObject({ log: 'hi\n', attrs: { tag: 'a b/<c>', env: 'x' } });
    expect((await read(log.path, { details: true })).toString()).toBe('env=x,tag=a+b%2F%3Cc%3E hi\n');
  });

  test('stalled followers hold up nobody, and go when their clients go', async () => {
    const log = logIn('stalled');
    const threads = () => readdirSync('/proc/self/task').length;
    const id = await lab.run(['sh', '-c', 'read x; seq 1 200000'], { openStdin: true, stdinOnce: true }, log);
    const baseline = threads();
    const memory = process.memoryUsage.rss();
    const followers = await Promise.all(Array.from({ length: 20 }, () => serve(log.path, { follow: true })));
    for (const { client } of followers) client.socket.pause();
    const input = await Connection.open(lab.native, lab.dir);
    await lab.native.attach(id, input.stream({ stdin: true, stdout: false, stderr: false }));
    input.socket.end('go\n');
    expect(await lab.exit(id)).toMatchObject({ exitCode: 0 });
    expect((process.memoryUsage.rss() - memory) / followers.length).toBeLessThan(1 << 20);
    for (const { client } of followers) client.socket.destroy();
    await Promise.all(followers.map(({ served }) => served));
    // a thread ends after its promise
    while (threads() > baseline) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(statSync(log.path).size).toBeGreaterThan(5_000_000);
  });
});
