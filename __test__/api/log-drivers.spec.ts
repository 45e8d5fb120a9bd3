/** Logs that go elsewhere, through the real client to real receivers; on dockerd as well, see helpers/subject.ts. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, inflateSync } from 'node:zlib';
import { Decoder, decodeMulti, encode } from '@msgpack/msgpack';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestAuthority } from '../helpers/certificates.ts';
import { Receiver } from '../helpers/logReceivers.ts';
import { missing } from '../helpers/requires.ts';
import { FOREIGN, Subject } from '../helpers/subject.ts';

const IMAGE = 'log-drivers.test/busybox:latest';
const PROGRAM = 'echo out; echo; echo err >&2; printf last';
const HOST = hostname();

const options = (...list: string[]): string[] => list.flatMap((option) => ['--log-opt', option]);
/** In the order of their last words: stdout and stderr come as they like. */
const linesOf = (messages: Buffer[]): string[] => {
  const last = (line: string) => line.slice(line.lastIndexOf(' '));
  const lines = Buffer.concat(messages).toString().split('\n').filter(Boolean);
  return lines.sort((a, b) => last(a).localeCompare(last(b)));
};
const count = (text: string, wanted: RegExp): number => text.match(wanted)?.length ?? 0;

describe.skipIf(missing('root', 'build', 'docker', 'busybox', 'openssl', 'perl'))('log drivers', () => {
  let subject: Subject;
  let leaked: string[] = [];

  beforeAll(async () => {
    subject = await Subject.open();
    await subject.ok('import', '-c', 'CMD ["sh"]', subject.archive, IMAGE);
  });
  afterAll(async () => {
    leaked = await subject.close([['rmi', '-f', IMAGE]]);
    expect(leaked).toEqual([]);
  });

  /** Runs it to its end; gives its id. */
  const run = async (...args: string[]): Promise<string> => {
    const id = await subject.ok('run', '-d', '--network', 'none', ...args);
    await subject.ok('wait', id);
    return id;
  };

  describe('syslog', () => {
    const stamp = '[A-Z][a-z]{2} [ \\d]\\d \\d\\d:\\d\\d:\\d\\d';
    const rfc3339 = '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d';
    const zone = '(?:Z|[+-]\\d\\d:\\d\\d)';
    test.each([
      ['tcp', '', 30, (tag: string) => `${stamp} ${tag}\\[\\d+\\]: `],
      ['udp', 'rfc3164', 30, (tag: string) => `${stamp} ${HOST} ${tag}\\[\\d+\\]: `],
      ['unix', 'rfc5424', 30, (tag: string) => `1 ${rfc3339}${zone} ${HOST} ${tag} \\d+ ${tag} - `],
      ['unixgram', 'rfc5424micro', 158, (tag: string) => `1 ${rfc3339}\\.\\d{6}${zone} ${HOST} ${tag} \\d+ ${tag} - `],
    ] as const)('over %s in format "%s"', async (network, format, priority, head) => {
      await using receiver = new Receiver();
      const path = join(subject.dir, `${network}.sock`);
      if (network === 'unix' || network === 'unixgram') await receiver[network](path);
      const address = network === 'tcp' || network === 'udp' ? `127.0.0.1:${await receiver[network]()}` : path;
      const id = await run(
        ...['--log-driver', 'syslog', '--name', 'named'],
        ...options(`syslog-address=${network}://${address}`, `syslog-format=${format}`),
        ...(priority === 158 ? options('syslog-facility=local3', 'tag={{.Name}}/{{.FullID}}') : []),
        ...[IMAGE, 'sh', '-c', PROGRAM],
      );
      await receiver.untilText((text) => count(text, /(out|err|last)\n/g) === 3);
      const tag = priority === 158 ? `named/${id}` : id.slice(0, 12);
      const message = (level: number, text: string) => new RegExp(`^<${level}>${head(tag)}${text}$`);
      expect(linesOf(receiver.messages)).toEqual([
        expect.stringMatching(message(priority - 3, 'err')),
        ...['last', 'out'].map((text) => expect.stringMatching(message(priority, text))),
      ]);
      const { stdout, stderr } = await subject.docker('logs', id);
      expect({ stdout, stderr }).toEqual({ stdout: 'out\n\nlast', stderr: 'err\n' });
      await subject.ok('rm', id);
    });

    test('over TLS, each message behind its length', async () => {
      const authority = new TestAuthority(join(subject.dir, 'ca'));
      const { certificate, key } = authority.issue('localhost');
      await using receiver = new Receiver();
      const port = await receiver.tls(readFileSync(key), readFileSync(certificate));
      const driver = ['--log-driver', 'syslog', ...options(`syslog-address=tcp+tls://localhost:${port}`)];
      const refused = await subject.docker('run', '--rm', '--network', 'none', ...driver, IMAGE, 'true');
      expect(refused.stderr).toMatch(/failed to initialize logging driver: .*certificate/);
      const trusted = options('syslog-format=rfc5424', `syslog-tls-ca-cert=${authority.certificate}`, 'tag=t');
      await subject.ok('rm', await run(...driver, ...trusted, IMAGE, 'echo', 'one'));
      const text = await receiver.untilText((all) => all.includes('one'));
      const [, length, message = ''] = /^(\d+) (<30>1 \S+ \S+ t \d+ t - one\n)$/.exec(text) ?? [];
      expect(Number(length)).toBe(message.length);
    });
  });

  describe('fluentd', () => {
    test('a record for each line, with times to the second', async () => {
      await using receiver = new Receiver();
      const port = await receiver.tcp();
      const id = await run(
        ...['--log-driver', 'fluentd', '--name', 'recorded', '--label', 'team=a', '-e', 'E=5', '-e', 'F=6'],
        ...options(`fluentd-address=127.0.0.1:${port}`, 'labels=team', 'env-regex=^E', 'tag=docker.{{.Name}}'),
        ...[IMAGE, 'sh', '-c', 'echo out; echo err >&2; printf last'],
      );
      await receiver.until((all) => [...decodeMulti(Buffer.concat(all))].length === 3);
      const about = { container_id: id, container_name: '/recorded', team: 'a', E: '5' };
      const partial = { partial_message: 'true', partial_ordinal: '1', partial_last: 'false' };
      const message = (more: object) => ['docker.recorded', expect.any(Number), { ...about, ...more }, {}];
      const found = [...decodeMulti(Buffer.concat(receiver.messages))] as [string, number, { log: string }, object][];
      expect(found.sort((a, b) => a[2].log.localeCompare(b[2].log))).toEqual([
        message({ source: 'stderr', log: 'err' }),
        message({ source: 'stdout', log: 'last', ...partial, partial_id: expect.stringMatching(/^[0-9a-f]{64}$/) }),
        message({ source: 'stdout', log: 'out' }),
      ]);
      await subject.ok('rm', id);
    });

    test('the pieces of a long line, with times to the nanosecond and acknowledged', async () => {
      const decoder = new Decoder();
      await using receiver = new Receiver();
      let pending = Buffer.alloc(0);
      // each message is acknowledged when all of it is there
      const port = await receiver.tcp(0, (chunk) => {
        pending = Buffer.concat([pending, chunk]);
        try {
          const [, , , { chunk: ack }] = decoder.decode(pending) as [string, object, object, { chunk: string }];
          pending = Buffer.alloc(0);
          return Buffer.from(encode({ ack }));
        } catch {
          return undefined;
        }
      });
      const id = await run(
        ...['--log-driver', 'fluentd'],
        ...options(
          `fluentd-address=tcp://localhost:${port}`,
          'fluentd-sub-second-precision=true',
          'fluentd-request-ack=1',
        ),
        ...[IMAGE, 'sh', '-c', 'head -c 20000 /dev/zero | tr "\\0" x; echo; echo end'],
      );
      await receiver.until((all) => Buffer.concat(all).includes('end'));
      const found = [...decodeMulti(Buffer.concat(receiver.messages))] as [
        string,
        object,
        { log: string } & Record<string, string>,
        object,
      ][];
      expect(found.map(([, time]) => time)).toEqual(Array(3).fill(expect.objectContaining({ type: 0 })));
      expect(found.map(([, , { log, partial_ordinal: at, partial_last: last }]) => [log.length, at, last])).toEqual([
        [16_384, '1', 'false'],
        [3616, '2', 'true'],
        [3, undefined, undefined],
      ]);
      expect(found[0]?.[2]['partial_id']).toBe(found[1]?.[2]['partial_id']);
      await subject.ok('rm', id);
    });
  });

  describe('gelf', () => {
    const about = (id: string) => ({
      version: '1.1',
      host: HOST,
      timestamp: expect.any(Number),
      _command: expect.stringContaining('echo out'),
      _container_id: id,
      _container_name: 'graylogged',
      _created: expect.stringMatching(/^\d{4}-.*Z$/),
      _image_id: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      _image_name: IMAGE,
      _tag: id.slice(0, 12),
      _own: 'é"<',
    });
    const driver = ['--log-driver', 'gelf', '--name', 'graylogged', '-e', 'own=é"<'];

    test.each([
      ['gzip', (message: Buffer) => gunzipSync(message)],
      ['zlib', (message: Buffer) => inflateSync(message)],
      ['none', (message: Buffer) => message],
    ])('over UDP, compression %s', async (type, unpack) => {
      await using receiver = new Receiver();
      const address = `gelf-address=udp://127.0.0.1:${await receiver.udp()}`;
      const compression = options(`gelf-compression-type=${type}`, 'gelf-compression-level=9');
      const id = await run(...driver, ...options(address, 'env=own'), ...compression, IMAGE, 'sh', '-c', PROGRAM);
      const messages = (await receiver.until((all) => all.length === 3)).map(
        (message) => JSON.parse(unpack(message).toString()) as { short_message: string },
      );
      expect(messages.sort((a, b) => a.short_message.localeCompare(b.short_message))).toEqual([
        { ...about(id), short_message: 'err', level: 3 },
        { ...about(id), short_message: 'last', level: 6 },
        { ...about(id), short_message: 'out', level: 6 },
      ]);
      await subject.ok('rm', id);
    });

    test('over UDP in chunks, and over TCP with a NUL behind each message', async () => {
      const line = 'head -c 9000 /dev/zero | tr "\\0" x; echo; : echo out';
      const parsed = (message: Buffer) => JSON.parse(message.toString()) as { short_message: string };
      await using udp = new Receiver();
      const port = await udp.udp();
      const plain = options('gelf-compression-type=none', 'env=own');
      const id = await run(
        ...driver,
        ...options(`gelf-address=udp://127.0.0.1:${port}`),
        ...plain,
        IMAGE,
        'sh',
        '-c',
        line,
      );
      const chunks = await udp.until(([first, ...more]) => first !== undefined && more.length + 1 === first[11]);
      const ordered = chunks.sort((a, b) => (a[10] ?? 0) - (b[10] ?? 0));
      expect(new Set(ordered.map((chunk) => chunk.toString('hex', 0, 10))).size).toBe(1);
      const whole = Buffer.concat(ordered.map((chunk) => chunk.subarray(12)));
      expect(parsed(whole)).toEqual({ ...about(id), short_message: 'x'.repeat(9000), level: 6 });
      await subject.ok('rm', id);

      await using tcp = new Receiver();
      const address = options(`gelf-address=tcp://127.0.0.1:${await tcp.tcp()}`, 'env=own');
      const other = await run(...driver, ...address, IMAGE, 'sh', '-c', line);
      const text = await tcp.untilText((all) => all.endsWith('\0'));
      expect(parsed(Buffer.from(text.slice(0, -1)))).toEqual({
        ...about(other),
        short_message: 'x'.repeat(9000),
        level: 6,
      });
      await subject.ok('rm', other);
    });
  });

  test.each([
    ['syslog', ['syslog-address=tcp://127.0.0.1:1'], 'dial tcp 127.0.0.1:1: connect: connection refused'],
    ['syslog', ['syslog-address=unix:///etc/passwd'], 'dial unix /etc/passwd: connect: connection refused'],
    ['syslog', ['syslog-address=unixgram:///etc/passwd'], 'dial unixgram /etc/passwd: connect: connection refused'],
    [
      'syslog',
      ['syslog-address=tcp+tls://127.0.0.1:1', 'syslog-tls-ca-cert=/nowhere'],
      'could not read CA certificate "/nowhere": open /nowhere: no such file or directory',
    ],
    ['fluentd', ['fluentd-address=127.0.0.1:1'], 'dial tcp 127.0.0.1:1: connect: connection refused'],
    ['fluentd', ['fluentd-address=unix:///nowhere'], 'dial unix /nowhere: connect: no such file or directory'],
    [
      'gelf',
      ['gelf-address=tcp://127.0.0.1:1'],
      'gelf: cannot connect to GELF endpoint: 127.0.0.1:1 dial tcp 127.0.0.1:1: connect: connection refused',
    ],
  ])('%s %j: no start without the receiver', async (driver, list, message) => {
    const { code, stderr } = await subject.docker(
      ...['run', '--rm', '--network', 'none', '--log-driver', driver, ...options(...list), IMAGE, 'true'],
    );
    expect(stderr).toContain(`failed to create task for container: failed to initialize logging driver: ${message}\n`);
    // docker's client reads it out of the message
    expect(code).toBe(message.endsWith('no such file or directory') ? 127 : 125);
  });

  test('who does not need the receiver starts without it; the cache may be off', async () => {
    const nobody = 'fluentd-address=127.0.0.1:1';
    const { stdout } = await subject.docker(
      ...['run', '--rm', '--network', 'none', '--log-driver', 'fluentd', ...options(nobody, 'fluentd-async=true')],
      ...[IMAGE, 'echo', 'ran'],
    );
    expect(stdout).toBe('ran\n');
    const id = await run(
      ...['--log-driver', 'gelf', ...options('gelf-address=udp://127.0.0.1:1', 'cache-disabled=true')],
      ...[IMAGE, 'echo', 'unread'],
    );
    expect((await subject.docker('logs', id)).stderr).toContain('configured logging driver does not support reading');
    await subject.ok('rm', id);
  });

  // what follows dockerd does not do
  test.skipIf(FOREIGN)('a daemon killed in the middle: every line arrives', async () => {
    const { daemon } = subject;
    if (!daemon) return;
    await using syslog = new Receiver();
    await using fluentd = new Receiver();
    const addresses = {
      syslog: `syslog-address=tcp://127.0.0.1:${await syslog.tcp()}`,
      fluentd: `fluentd-address=127.0.0.1:${await fluentd.tcp()}`,
    };
    const program = 'for i in $(seq 10000); do echo "line $i."; [ $((i % 50)) = 0 ] && usleep 5000; done';
    const flags = [
      'run',
      '-d',
      '--network',
      'none',
      '--log-opt',
      'cache-max-size=20k',
      '--log-opt',
      'cache-max-file=200',
    ];
    const ids: string[] = [];
    for (const [driver, address] of Object.entries(addresses)) {
      ids.push(await subject.ok(...flags, '--log-driver', driver, '--log-opt', address, IMAGE, 'sh', '-c', program));
    }
    for (const line of ['line 1000.', 'line 3000.']) {
      await Promise.all([syslog, fluentd].map((receiver) => receiver.untilText((text) => text.includes(line))));
      await daemon.kill('SIGKILL');
      await daemon.start();
    }
    for (const receiver of [syslog, fluentd]) {
      const text = await receiver.untilText((all) => all.includes('line 10000.'));
      const numbers = new Set([...text.matchAll(/line (\d+)\./g)].map(([, number]) => Number(number)));
      expect(numbers.size).toBe(10_000);
    }
    for (const id of ids) await subject.ok('wait', id);
    await subject.ok('rm', ...ids);
  });

  test.skipIf(FOREIGN)('a receiver that goes away misses nothing, nor does one whose daemon was away', async () => {
    const { daemon } = subject;
    if (!daemon) return;
    const first = new Receiver();
    const port = await first.tcp();
    const address = options(`syslog-address=tcp://127.0.0.1:${port}`);
    const program = 'echo one; while [ ! -e /go ]; do usleep 10000; done; echo two; echo three';
    const id = await subject.ok(
      'run',
      '-d',
      '--network',
      'none',
      '--log-driver',
      'syslog',
      ...address,
      IMAGE,
      'sh',
      '-c',
      program,
    );
    await first.untilText((text) => text.includes('one'));
    await first[Symbol.asyncDispose]();
    await subject.ok('exec', id, 'touch', '/go');
    await subject.ok('wait', id);
    await daemon.kill('SIGKILL');
    await daemon.start();
    await using second = new Receiver();
    await second.tcp(port);
    const text = await second.untilText((all) => all.includes('three'));
    expect(text.replace(/<30>.*?: /g, '')).toBe('two\nthree\n');
    expect(await subject.ok('logs', id)).toBe('one\ntwo\nthree');
    await subject.ok('rm', id);
  });
});
