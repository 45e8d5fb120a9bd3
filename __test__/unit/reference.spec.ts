import { describe, expect, it } from 'vitest';
import { chainIds, checkDigest, isDigest } from '../../ts/digest.ts';
import { familiarString, parseReference, referenceString, withDefaultTag } from '../../ts/reference.ts';

const HEX = 'a'.repeat(64);

describe('references', () => {
  it.each([
    ['busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['busybox:1', 'docker.io/library/busybox:1', 'busybox:1'],
    ['user/app', 'docker.io/user/app:latest', 'user/app:latest'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['index.docker.io/library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
    [
      '127.0.0.1:5000/library/busybox',
      '127.0.0.1:5000/library/busybox:latest',
      '127.0.0.1:5000/library/busybox:latest',
    ],
    ['[::1]:5000/app:x', '[::1]:5000/app:x', '[::1]:5000/app:x'],
    [`app@sha256:${HEX}`, `docker.io/library/app@sha256:${HEX}`, `app@sha256:${HEX}`],
    [`app:1@sha256:${HEX}`, `docker.io/library/app:1@sha256:${HEX}`, `app:1@sha256:${HEX}`],
    ['a__b/c-d.e', 'docker.io/a__b/c-d.e:latest', 'a__b/c-d.e:latest'],
  ])('%s is %s and shown as %s', (text, normalised, familiar) => {
    const reference = withDefaultTag(parseReference(text));
    expect(referenceString(reference)).toBe(normalised);
    expect(familiarString(reference)).toBe(familiar);
  });

  it.each([
    '',
    'a:',
    ':x',
    'a@',
    'a//b',
    '/a',
    'a/',
    'a b',
    '-a',
    'a_',
    'a___b',
    'a:x/y:',
    'a@sha256:12',
    `a:${'x'.repeat(129)}`,
    'h:x/a',
    '../a',
    'a\0',
  ])('refuses %j', (text) => {
    expect(() => parseReference(text)).toThrow(/^invalid reference format/);
  });

  it('says that a name must be lower case', () => {
    expect(() => parseReference('Busybox')).toThrow(
      'invalid reference format: repository name (library/Busybox) must be lowercase',
    );
  });

  it('does not take an image id for a name', () => {
    expect(() => parseReference(HEX)).toThrow('cannot specify 64-byte hexadecimal strings');
  });

  it('limits the length of a name', () => {
    expect(() => parseReference('a/'.repeat(130))).toThrow();
    expect(() => parseReference('a'.repeat(260))).toThrow('must not be more than 255');
  });
});

describe('digests', () => {
  it.each([`sha256:${HEX}`, `sha512:${HEX}${HEX}`])('takes %s', (digest) => {
    expect(checkDigest(digest)).toBe(digest);
  });

  it.each([
    'sha256:../../x',
    `sha256:${HEX.toUpperCase()}`,
    `sha256:${HEX}a`,
    `sha256:${HEX.slice(1)}`,
    `sha512:${HEX}`,
    `md5:${'a'.repeat(32)}`,
    `sha256:${HEX}\n`,
    HEX,
    '',
    null,
    7,
  ])('refuses %j', (value) => {
    expect(isDigest(value)).toBe(false);
    expect(() => checkDigest(value)).toThrow('invalid digest');
  });

  it('chains as the image specification says', () => {
    const [a, b] = chainIds([`sha256:${HEX}`, `sha256:${'b'.repeat(64)}`]);
    expect(a).toBe(`sha256:${HEX}`);
    // printf 'sha256:aaa… sha256:bbb…' | sha256sum
    expect(b).toBe('sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c');
  });
});
