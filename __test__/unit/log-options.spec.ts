/** Log options with Docker's defaults and texts, and what the records of a json-file log say of their container. */
import { describe, expect, test } from 'vitest';
import { checkLogAttributes, type LoggedContainer, logAttributes, renderTag } from '../../ts/engine/logs/attributes.ts';
import { parseLogOptions } from '../../ts/engine/logs/options.ts';

describe('log options', () => {
  test.each([
    ['json-file', {}, { maxFiles: 1, compress: false }],
    ['json-file', { 'max-size': '1m' }, { maxSizeBytes: 1_000_000, maxFiles: 1, compress: false }],
    [
      'json-file',
      { 'max-size': '1.5 KiB', 'max-file': '3', compress: 'T' },
      { maxSizeBytes: 1500, maxFiles: 3, compress: true },
    ],
    ['local', {}, { maxSizeBytes: 20_000_000, maxFiles: 5, compress: true }],
    ['local', { 'max-file': '1', compress: 'false' }, { maxSizeBytes: 20_000_000, maxFiles: 1, compress: false }],
    ['json-file', { mode: 'non-blocking' }, { maxFiles: 1, compress: false, maxBufferBytes: 1 << 20 }],
    [
      'json-file',
      { mode: 'non-blocking', 'max-buffer-size': '4k' },
      { maxFiles: 1, compress: false, maxBufferBytes: 4096 },
    ],
    ['json-file', { mode: 'blocking' }, { maxFiles: 1, compress: false }],
    ['none', {}, undefined],
  ] as const)('%s %j', (driver, options, expected) => {
    expect(parseLogOptions(driver, options)).toEqual(expected);
  });

  test.each([
    ['json-file', { compress: 'true' }, 'compress cannot be true when max-file is less than 2 or max-size is not set'],
    [
      'json-file',
      { compress: 'true', 'max-size': '1m' },
      'compress cannot be true when max-file is less than 2 or max-size is not set',
    ],
    ['json-file', { compress: 'xx' }, 'strconv.ParseBool: parsing "xx": invalid syntax'],
    ['json-file', { 'max-file': '0' }, 'max-file cannot be less than 1'],
    ['json-file', { 'max-file': 'x' }, 'strconv.Atoi: parsing "x": invalid syntax'],
    ['json-file', { 'max-size': '-1' }, "invalid size: '-1'"],
    ['json-file', { 'max-size': '0' }, 'max-size must be a positive number'],
    ['json-file', { foo: '1' }, "unknown log opt 'foo' for json-file log driver"],
    ['local', { labels: 'a' }, "unknown log opt 'labels' for log driver local"],
    ['local', { 'max-file': '1' }, 'compression cannot be enabled when max file count is 1'],
    ['local', { 'max-file': 'x' }, 'invalid value for max-file: x: strconv.Atoi: parsing "x": invalid syntax'],
    ['local', { 'max-size': 'x' }, "invalid value for max-size: x: invalid size: 'x'"],
    ['local', { compress: 'xx' }, 'error reading compress log option: strconv.ParseBool: parsing "xx": invalid syntax'],
    ['json-file', { mode: 'bad' }, 'logger: logging mode not supported: bad'],
    [
      'json-file',
      { 'max-buffer-size': '1m' },
      "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ],
    [
      'json-file',
      { mode: 'non-blocking', 'max-buffer-size': 'xx' },
      "error parsing option max-buffer-size: invalid size: 'xx'",
    ],
    ['foo', {}, 'error looking up logging plugin foo: plugin "foo" not found'],
  ] as const)('%s %j is refused', (driver, options, message) => {
    expect(() => parseLogOptions(driver, options)).toThrow(
      expect.objectContaining({ kind: 'InvalidParameter', message }),
    );
  });

  test('a driver of Docker that is not ours is named', () => {
    expect(() => parseLogOptions('splunk', {})).toThrow(
      expect.objectContaining({ kind: 'NotImplemented', message: expect.stringContaining('splunk') }),
    );
  });
});

describe('log attributes', () => {
  const container: LoggedContainer = {
    id: '58325f261d89b892217ee4235442812543583a6f43535a2437e6663e89144d1c',
    name: 'za',
    imageId: 'sha256:72467e9f59d74c8c703193e7cbe68648f74b46713efeb82fd9eec6d5730c1bcf',
    imageName: 'busybox',
    program: ['sh', '-c', 'echo hi'],
    labels: { a: '1', b: '2', ab: '3' },
    env: ['E=5', 'EE=6=7', 'BARE'],
  };

  test('labels and variables by name and by expression', () => {
    const options = { labels: 'a,zz', 'labels-regex': '^b', env: 'E', 'env-regex': '(?i)^ee$' };
    expect(logAttributes(options, container)).toEqual({ a: '1', b: '2', E: '5', EE: '6=7' });
    expect(logAttributes({}, container)).toEqual({});
  });

  test('the tag', () => {
    const tag = '{{.Name}}/{{ .ID }}/{{.ImageName}}/{{.ImageID}} - {{- .Command -}} !';
    expect(renderTag(tag, container)).toBe('za/58325f261d89/busybox/sha256:72467 -sh -c echo hi!');
    expect(logAttributes({ tag: 'x' }, container)).toEqual({ tag: 'x' });
  });

  test.each([
    [{ tag: '{{.Foo' }, 'InvalidParameter', 'template: log-tag:1: unclosed action'],
    [{ tag: '{{.Foo}}' }, 'InvalidParameter', "can't evaluate field Foo"],
    [{ tag: '{{upper .Name}}' }, 'NotImplemented', 'upper .Name'],
    [{ 'labels-regex': '(' }, 'InvalidParameter', 'error parsing regexp'],
  ])('%j is refused', (options, kind, message) => {
    expect(() => checkLogAttributes(options)).toThrow(
      expect.objectContaining({ kind, message: expect.stringContaining(message) }),
    );
  });
});
