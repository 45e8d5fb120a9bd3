/** What drivers that send logs elsewhere may be told, with dockerd's texts, and what is sent to a journal. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseLogOptions } from '../../ts/engine/logs/options.ts';
import { parseFluentd } from '../../ts/engine/logs/remote/fluentdOptions.ts';
import { datagrams } from '../../ts/engine/logs/remote/gelf.ts';
import { parseGelf } from '../../ts/engine/logs/remote/gelfOptions.ts';
import { JournaldSender } from '../../ts/engine/logs/remote/journald.ts';
import { syslogHead } from '../../ts/engine/logs/remote/syslog.ts';
import { parseSyslog } from '../../ts/engine/logs/remote/syslogOptions.ts';
import type { Native } from '../../ts/engine/native/index.ts';

describe('options', () => {
  test.each([
    ['syslog', { 'syslog-address': 'foo://x' }, "unsupported scheme: 'foo'"],
    ['syslog', { 'syslog-address': 'nothing' }, "unsupported scheme: ''"],
    ['syslog', { 'syslog-address': 'unix:///nope' }, 'stat /nope: no such file or directory'],
    ['syslog', { 'syslog-address': 'unixgram:///nope' }, 'stat /nope: no such file or directory'],
    ['syslog', { 'syslog-address': 'tcp://[::1' }, 'parse "tcp://[::1": missing \']\' in host'],
    ['syslog', { 'syslog-address': 'tcp://1.2.3.4:5:6' }, 'address 1.2.3.4:5:6: too many colons in address'],
    ['syslog', { 'syslog-facility': 'x' }, 'invalid syslog facility'],
    ['syslog', { 'syslog-facility': '24' }, 'invalid syslog facility'],
    ['syslog', { 'syslog-format': 'x' }, 'Invalid syslog format'],
    ['syslog', { 'max-size': '1m' }, "unknown log opt 'max-size' for syslog log driver"],
    ['syslog', { 'cache-disabled': 'x' }, 'invalid value for option cache-disabled: x'],
    ['syslog', { 'cache-max-size': 'x' }, "invalid value for max-size: x: invalid size: 'x'"],
    ['fluentd', { 'fluentd-address': 'foo://x' }, "invalid fluentd-address (foo://x): unsupported scheme: 'foo'"],
    ['fluentd', { 'fluentd-address': 'unix:///' }, 'invalid fluentd-address (unix:///): path is empty'],
    [
      'fluentd',
      { 'fluentd-address': 'localhost:99999' },
      'invalid fluentd-address (localhost:99999): invalid port: strconv.ParseUint: parsing "99999": value out of range',
    ],
    [
      'fluentd',
      { 'fluentd-address': 'localhost:12/x' },
      'invalid fluentd-address (localhost:12/x): should not contain a path element',
    ],
    ['fluentd', { 'fluentd-buffer-limit': 'x' }, "invalid size: 'x'"],
    ['fluentd', { 'fluentd-retry-wait': 'x' }, 'time: invalid duration "x"'],
    ['fluentd', { 'fluentd-max-retries': '-1' }, 'strconv.ParseUint: parsing "-1": invalid syntax'],
    ['fluentd', { 'fluentd-max-retries': '4000000000' }, 'invalid fluentd-max-retries: value out of range'],
    [
      'fluentd',
      { 'fluentd-max-retries': '99999999999' },
      'strconv.ParseUint: parsing "99999999999": value out of range',
    ],
    ['fluentd', { 'fluentd-async': 'x' }, 'strconv.ParseBool: parsing "x": invalid syntax'],
    [
      'fluentd',
      { 'fluentd-async-reconnect-interval': 'x' },
      'invalid value for fluentd-async-reconnect-interval: time: invalid duration "x"',
    ],
    [
      'fluentd',
      { 'fluentd-async-reconnect-interval': '20s' },
      'invalid value for fluentd-async-reconnect-interval: value ("20s") must be between 100ms and 10s',
    ],
    ['fluentd', { 'fluentd-request-ack': 'x' }, 'strconv.ParseBool: parsing "x": invalid syntax'],
    [
      'fluentd',
      { 'fluentd-write-timeout': 'x' },
      'invalid value for fluentd-write-timeout: value must be a duration: time: invalid duration "x"',
    ],
    [
      'fluentd',
      { 'fluentd-write-timeout': '-1s' },
      'invalid value for fluentd-write-timeout: value must be a duration that is non-negative',
    ],
    ['fluentd', { x: '1' }, "unknown log opt 'x' for fluentd log driver"],
    ['gelf', {}, 'gelf-address is a required parameter'],
    ['gelf', { 'gelf-address': 'foo://x' }, 'gelf: endpoint needs to be TCP or UDP'],
    ['gelf', { 'gelf-address': 'udp://x' }, 'gelf: please provide gelf-address as proto://host:port'],
    [
      'gelf',
      { 'gelf-address': 'udp://x:1', 'gelf-compression-level': '11' },
      'unknown value "11" for log opt "gelf-compression-level" for gelf log driver',
    ],
    [
      'gelf',
      { 'gelf-address': 'udp://x:1', 'gelf-compression-type': 'lz' },
      'unknown value "lz" for log opt "gelf-compression-type" for gelf log driver',
    ],
    ['gelf', { 'gelf-address': 'tcp://x:1', 'gelf-compression-type': 'gzip' }, 'compression is only supported on UDP'],
    [
      'gelf',
      { 'gelf-address': 'udp://x:1', 'gelf-tcp-max-reconnect': '1' },
      '"gelf-tcp-max-reconnect" is only valid for TCP',
    ],
    [
      'gelf',
      { 'gelf-address': 'tcp://x:1', 'gelf-tcp-max-reconnect': '-1' },
      '"gelf-tcp-max-reconnect" must be a positive integer',
    ],
    ['gelf', { 'gelf-address': 'tcp://x:1', x: '1' }, 'unknown log opt "x" for gelf log driver'],
    ['journald', { x: '1' }, "unknown log opt 'x' for journald log driver"],
  ] as [string, Record<string, string>, string][])('%s %j is refused', (driver, options, message) => {
    expect(() => parseLogOptions(driver, options)).toThrow(
      expect.objectContaining({ kind: 'InvalidParameter', message }),
    );
  });

  test('what is not given is as with dockerd', () => {
    expect(parseLogOptions('journald', { 'cache-max-file': '2' })).toEqual({
      maxSizeBytes: 20_000_000,
      maxFiles: 2,
      compress: true,
    });
    expect(parseSyslog({ 'syslog-address': 'udp://[::1]', 'syslog-facility': 'local7' })).toEqual({
      address: { network: 'udp', host: '::1', port: 514 },
      facility: 23,
      format: '',
      tls: { skipVerify: false },
    });
    expect(parseFluentd({ 'fluentd-retry-wait': '1m0.5s', 'fluentd-max-retries': '0' })).toEqual({
      address: { network: 'tcp', host: '127.0.0.1', port: 24_224 },
      async: false,
      reconnectMs: 0,
      retryWaitMs: 60_500,
      maxRetries: 13,
      subSecond: false,
      requestAck: false,
      writeTimeoutMs: 0,
    });
    expect(parseGelf({ 'gelf-address': 'tcp://x:12201', 'gelf-tcp-reconnect-delay': '5' })).toEqual({
      network: 'tcp',
      host: 'x',
      port: 12_201,
      compression: 'gzip',
      level: 1,
      maxReconnects: undefined,
      reconnectDelayMs: 5000,
    });
  });
});

test('a journal gets fields, and texts with line ends behind their lengths', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-journal-'));
  const fd = openSync(join(dir, 'socket'), 'w');
  const subject = {
    id: 'abcdef0123456789',
    name: 'web',
    imageId: 'sha256:1',
    imageName: 'busybox',
    command: 'sh',
    created: '',
    tag: 'mine',
    extra: { '_app.kind': 'x' },
  };
  const sender = new JournaldSender(subject, { connectDatagram: async () => fd } as unknown as Native);
  const piece = { id: 'p', ordinal: 1, last: false };
  await sender.send([{ stream: 'stderr', timeNs: 1_500_000_000n, text: Buffer.from('a\nb'), piece }]);
  const sent = readFileSync(join(dir, 'socket'), 'latin1');
  expect(sent).toMatch(
    new RegExp(
      `^PRIORITY=3\nMESSAGE\n\x03\0{7}a\nb\nCONTAINER_ID=abcdef012345\nCONTAINER_ID_FULL=${subject.id}\n` +
        'CONTAINER_NAME=web\nCONTAINER_TAG=mine\nIMAGE_NAME=busybox\nSYSLOG_IDENTIFIER=mine\n' +
        'CONTAINER_LOG_EPOCH=[0-9a-f]{64}\nAPP_KIND=x\nSYSLOG_TIMESTAMP=1970-01-01T00:00:01.5Z\n' +
        'CONTAINER_LOG_ORDINAL=1\nCONTAINER_PARTIAL_ID=p\nCONTAINER_PARTIAL_ORDINAL=1\n' +
        'CONTAINER_PARTIAL_LAST=false\nCONTAINER_PARTIAL_MESSAGE=true\n$',
    ),
  );
  sender.close();
  expect(() => closeSync(fd)).toThrow('EBADF');
  rmSync(dir, { recursive: true });
});

test('days of one digit have a space in syslog, fractions of a second their zeros', () => {
  const record = { stream: 'stdout', timeNs: 1_714_546_800_000_042_000n, text: Buffer.from('x') } as const;
  const head = { facility: 3, host: 'h', tag: 't', pid: 7 };
  expect(syslogHead({ ...head, format: '' }, record)).toMatch(/^<30>(May {2}1|Apr 30) \d\d:\d\d:00 t\[7\]: $/);
  expect(syslogHead({ ...head, format: 'rfc5424micro' }, record)).toMatch(/:00\.000042(Z|[+-]\d\d:\d\d) h t 7 t - $/);
});

test('a message that GELF cannot hold in 128 chunks is not sent', () => {
  expect(datagrams(Buffer.alloc(1420))).toHaveLength(1);
  expect(datagrams(Buffer.alloc(1421))).toHaveLength(2);
  expect(datagrams(Buffer.alloc(128 * 1408))).toHaveLength(128);
  expect(datagrams(Buffer.alloc(128 * 1408 + 1))).toEqual([]);
});
