import { describe, expect, it } from 'vitest';
import { checkConfig, inheritableLabels } from '../../ts/engine/images/config.ts';
import { applyChanges } from '../../ts/engine/images/instructions.ts';
import { parsePlatform, requirePlatform } from '../../ts/engine/images/platform.ts';
import { parseCredentials } from '../../ts/engine/images/pull.ts';
import { CaissonError } from '../../ts/errdefs.ts';

const DIFF = `sha256:${'a'.repeat(64)}`;
const GOOD = {
  architecture: 'amd64',
  os: 'linux',
  config: { Env: ['A=b'], Labels: { x: 'y' }, Cmd: null, Healthcheck: { Test: ['NONE'] } },
  rootfs: { type: 'layers', diff_ids: [DIFF] },
  history: [{ created_by: 'x', empty_layer: true }],
};
const bytes = (value: unknown): Buffer => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

describe('image configs', () => {
  it('takes what registries serve, also fields that nobody knows', () => {
    const text = JSON.stringify({ ...GOOD, 'moby.buildkit.cache.v0': { deep: [1] } });
    expect(checkConfig(bytes(text))).toMatchObject({ text, config: { rootfs: { diff_ids: [DIFF] } } });
  });

  it('takes nulls where Go writes them', () => {
    const checked = checkConfig(
      bytes({ ...GOOD, config: null, history: null, rootfs: { type: 'layers', diff_ids: null } }),
    );
    expect(checked.config).toMatchObject({ config: {}, history: [], rootfs: { diff_ids: [] } });
  });

  it.each([
    ['null', null],
    ['a list', []],
    ['no rootfs', { architecture: 'amd64', os: 'linux' }],
    ['rootfs null', { ...GOOD, rootfs: null }],
    ['a diffID that is a path', { ...GOOD, rootfs: { type: 'layers', diff_ids: ['sha256:../../x'] } }],
    ['a diffID of another type', { ...GOOD, rootfs: { type: 'layers', diff_ids: [7] } }],
    ['Env of numbers', { ...GOOD, config: { Env: [1] } }],
    ['Labels of objects', { ...GOOD, config: { Labels: { a: {} } } }],
    ['User of another type', { ...GOOD, config: { User: {} } }],
    ['too many layers', { ...GOOD, rootfs: { type: 'layers', diff_ids: Array(600).fill(DIFF) } }],
    ['a key twice', '{"rootfs":{"type":"layers","diff_ids":[]},"rootfs":{"type":"layers","diff_ids":[]}}'],
    ['more than the limit', `${JSON.stringify(GOOD)}${' '.repeat(5 << 20)}`],
    ['no JSON', 'x'],
  ])('refuses %s', (_name, value) => {
    expect(() => checkConfig(bytes(value))).toThrow(CaissonError);
  });

  it('survives nesting that would overflow a recursive reader', () => {
    const deep = `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`;
    const text = `${JSON.stringify(GOOD).slice(0, -1)},"x":${deep}}`;
    expect(checkConfig(bytes(text)).config.os).toBe('linux');
  });

  it('answers every mutation with a config or a CaissonError', () => {
    const text = JSON.stringify(GOOD);
    // A fixed sequence (linear congruential), so that a failure can be repeated.
    let seed = 1;
    const next = (below: number): number => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed % below;
    };
    const pieces = ['null', '1e999', '-1', '{}', '[]', '""', 'true', '"a":1,', '\u0000', '}', '"'];
    for (let i = 0; i < 5000; i++) {
      const at = next(text.length);
      const mutated = text.slice(0, at) + pieces[next(pieces.length)] + text.slice(at + next(12));
      try {
        expect(checkConfig(bytes(mutated)).id).toMatch(/^sha256:/);
      } catch (error) {
        expect(error).toBeInstanceOf(CaissonError);
      }
    }
  });

  it('lets no image claim the labels of control planes', () => {
    expect(
      inheritableLabels({ a: 'b', 'com.caisson.x': '1', 'containerd.io/gc': '2', 'io.cri-containerd.kind': '3' }),
    ).toEqual({ labels: { a: 'b' }, dropped: ['com.caisson.x', 'containerd.io/gc', 'io.cri-containerd.kind'] });
  });
});

describe('changes', () => {
  it('apply instructions', () => {
    expect(
      applyChanges({ Env: ['A=1', 'B=2'] }, [
        'CMD ["sh","-c"]',
        'entrypoint echo hi',
        'ENV A=3 "C=d e"',
        'ENV D rest of line',
        'LABEL a="b c" d=e',
        'EXPOSE 80 53/UDP',
        'VOLUME ["/a"]',
        'VOLUME /b /c',
        'USER me',
        'WORKDIR /w',
        'WORKDIR x',
        'STOPSIGNAL 9',
        'ONBUILD RUN x',
        'HEALTHCHECK --interval=1m30s --retries=2 CMD ["ok", "x"]',
      ]),
    ).toEqual({
      Env: ['A=3', 'B=2', 'C=d e', 'D=rest of line'],
      Cmd: ['sh', '-c'],
      Entrypoint: ['/bin/sh', '-c', 'echo hi'],
      Labels: { a: 'b c', d: 'e' },
      ExposedPorts: { '80/tcp': {}, '53/udp': {} },
      Volumes: { '/a': {}, '/b': {}, '/c': {} },
      User: 'me',
      WorkingDir: '/w/x',
      StopSignal: '9',
      OnBuild: ['RUN x'],
      Healthcheck: { Test: ['CMD', 'ok', 'x'], Interval: 90e9, Retries: 2 },
    });
  });

  it('resolve variables by what stood before, quotes and backslashes', () => {
    // % stands for $
    const lines = [
      'ENV PATH=/usr/bin:%PATH "BOTH=%{PATH}!" SINGLE=\'%PATH\' PLAIN=\\%PATH',
      'ENV OLD the %PATH "of" it',
      'LABEL given=%{EMPTY-x}%{EMPTY:-y}%{NONE:-"z z"} other=%{PATH:+set}%{NONE:+no}%NONE',
      'EXPOSE %PORTS',
      'USER %{USERNAME:-me}',
      'WORKDIR %PATH/..',
      'CMD echo %PATH',
    ].map((line) => line.replaceAll('%', '$'));
    const config = applyChanges({ Env: ['PATH=/bin', 'EMPTY=', 'PORTS=80 81/udp'] }, lines);
    expect(config).toMatchObject({
      Env: [
        'PATH=/usr/bin:/bin',
        'EMPTY=',
        'PORTS=80 81/udp',
        'BOTH=/bin!',
        'SINGLE=$PATH',
        'PLAIN=$PATH',
        'OLD=the /usr/bin:/bin of it',
      ],
      Labels: { given: 'yz z', other: 'set' },
      ExposedPorts: { '80/tcp': {}, '81/udp': {} },
      User: 'me',
      WorkingDir: '/usr/bin:',
      Cmd: ['/bin/sh', '-c', 'echo $PATH'],
    });
  });

  it.each([
    'RUN x',
    'CMD',
    'ENV A',
    'EXPOSE x',
    'ENV A=1 b',
    'HEALTHCHECK CMD',
    'HEALTHCHECK --timeout=1us CMD x',
    'HEALTHCHECK --x=1 NONE',
  ])('refuse %s', (line) => {
    expect(() => applyChanges({}, [line])).toThrow('invalid change');
  });
});

describe('platforms', () => {
  const host = { os: 'linux', architecture: 'amd64' };
  it.each([
    ['linux/amd64', { os: 'linux', architecture: 'amd64' }],
    ['linux/arm64/v8', { os: 'linux', architecture: 'arm64', variant: 'v8' }],
    ['arm64', { os: 'linux', architecture: 'arm64' }],
    ['aarch64', { os: 'linux', architecture: 'arm64' }],
    ['LINUX', host],
    ['macos', { ...host, os: 'darwin' }],
    ['macos/ARM64', { os: 'darwin', architecture: 'arm64' }],
    ['linux/aarch64', { os: 'linux', architecture: 'arm64' }],
    ['linux/armhf', { os: 'linux', architecture: 'arm', variant: 'v7' }],
    ['{"os":"linux","architecture":"arm64"}', { os: 'linux', architecture: 'arm64' }],
  ])('%s', (text, platform) => {
    expect(parsePlatform(text, host)).toEqual(platform);
  });

  it.each([
    ['linux/amd64', 'linux/amd64', true],
    ['linux/386', 'linux/amd64', true],
    ['linux/amd64', 'linux/386', false],
    ['linux/arm64', 'linux/arm64/v8', true],
    ['linux/arm/v7', 'linux/arm64', true],
    ['linux/arm', 'linux/arm/v7', true],
    ['linux/arm/v7', 'linux/arm/v6', false],
    ['linux/arm64', 'linux/amd64', false],
    ['windows/amd64', 'linux/amd64', false],
  ])('an image of %s runs on %s: %s', (image, wanted, runs) => {
    const [own, asked] = [parsePlatform(image, host), parsePlatform(wanted, host)];
    if (!own || !asked) throw new Error('not reached');
    const message = `image with reference x was found but its platform (${image}) does not match the specified platform (${wanted})`;
    const required = expect(() => requirePlatform('x', own, asked));
    if (runs) required.not.toThrow();
    else required.toThrow(message);
  });

  it.each([
    ['a/b/c/d', '"a/b/c/d": cannot parse platform specifier: invalid argument'],
    ['linux/', '"" is an invalid component of "linux/": platform specifier component must match'],
    ['/x', '"" is an invalid OS component of "/x"'],
    ['   ', '"   " is an invalid OS component'],
    ['linux/a b', '"a b" is an invalid component'],
    ['nintendo64', '"nintendo64": unknown operating system or architecture: invalid argument'],
    ['{"os":1}', 'both OS and Architecture must be provided'],
    ['{', 'failed to parse platform: "{" is no JSON'],
  ])('refuses %s', (text, reason) => {
    expect(() => parsePlatform(text, host)).toThrow(reason);
  });
});

describe('X-Registry-Auth', () => {
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  it('gives a login or a token', () => {
    expect(parseCredentials('')).toBeUndefined();
    expect(parseCredentials(encode({}))).toBeUndefined();
    expect(parseCredentials(encode({ username: 'u', password: 'p' }))).toEqual({ username: 'u', password: 'p' });
    expect(parseCredentials(encode({ auth: Buffer.from('u:p:q').toString('base64') }))).toEqual({
      username: 'u',
      password: 'p:q',
    });
    expect(parseCredentials(encode({ identitytoken: 't' }))).toEqual({ identityToken: 't' });
  });

  it.each(['x', encode(7), encode(null)])('gives nothing when it is %s, as with dockerd', (header) => {
    expect(parseCredentials(header)).toBeUndefined();
  });
});
