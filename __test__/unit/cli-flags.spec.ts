/** Flags of the command line: how they are read and what they become. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type CommandShape, parseArguments } from '../../ts/cli/arguments.ts';
import { CONTAINER_FLAGS, type ContainerFlags } from '../../ts/cli/containerFlags.ts';
import { createBody } from '../../ts/cli/createBody.ts';
import { ExitCode } from '../../ts/cli/failure.ts';
import { template } from '../../ts/cli/format.ts';
import { parseMount } from '../../ts/cli/mounts.ts';
import { parsePorts } from '../../ts/cli/ports.ts';
import { startFailure } from '../../ts/cli/runContainer.ts';
import { DetachWatch, parseDetachKeys } from '../../ts/cli/terminal.ts';
import { parseDuration, parseSize, showAge } from '../../ts/cli/units.ts';
import { CaissonError } from '../../ts/client/index.ts';
import { humanSize } from '../../ts/humanSize.ts';

const SHAPE: CommandShape = {
  name: 'run',
  usage: '',
  takes: [0],
  summary: '',
  examples: [],
  passThrough: true,
  flags: [['-d, --detach', ''], ['--no-sig-proxy', ''], ...CONTAINER_FLAGS],
};
const parse = (...argv: string[]) =>
  parseArguments<ContainerFlags & { detach?: boolean; sigProxy: boolean }>(SHAPE, argv);
const body = (...argv: string[]) => {
  const { flags, args } = parse(...argv, 'img');
  return createBody(flags, args[0] ?? '', args.slice(1));
};

describe('arguments', () => {
  it('end at the image', () => {
    const { flags, args } = parse('-ite', 'A=b', '--name=x', 'img', 'sh', '-c', 'echo', '--rm', '--', '-d=false');
    expect(flags).toMatchObject({ interactive: true, tty: true, env: ['A=b'], name: 'x' });
    expect(flags.rm).toBeUndefined();
    expect(args).toEqual(['img', 'sh', '-c', 'echo', '--rm', '--', '-d=false']);
  });

  it('take switches with values', () => {
    expect(parse('--rm=true', '--init=false', 'img').flags).toMatchObject({ rm: true });
    expect(parse('--init=false', 'img').flags.init).toBeUndefined();
    expect(parse('img').flags.sigProxy).toBe(true);
    expect(parse('--sig-proxy', 'img').flags.sigProxy).toBe(true);
    expect(parse('--sig-proxy=false', 'img').flags.sigProxy).toBe(false);
  });

  it.each([[['--nosuch', 'img']], [['--rm=maybe', 'img']], [['-e']]])('%j is wrong', (argv) => {
    expect(() => parse(...argv)).toThrow(ExitCode);
  });
});

describe('create', () => {
  it('sends only what was given', () => {
    expect(body()).toEqual({ Image: 'img', HostConfig: { NetworkMode: 'default' } });
  });

  it('sends limits', () => {
    const flags = [
      '-m',
      '64m',
      '--memory-swap=-1',
      '--cpus',
      '1.5',
      '-c',
      '512',
      '--cpuset-cpus',
      '0-1',
      '--pids-limit',
      '-1',
    ];
    expect(body(...flags, '--ulimit', 'nofile=10:20', '--shm-size=1g', '--oom-score-adj=-500').HostConfig).toEqual({
      Memory: 64 << 20,
      MemorySwap: -1,
      NanoCpus: 1_500_000_000,
      CpuShares: 512,
      CpusetCpus: '0-1',
      PidsLimit: -1,
      Ulimits: [{ Name: 'nofile', Soft: 10, Hard: 20 }],
      ShmSize: 1 << 30,
      OomScoreAdj: -500,
      NetworkMode: 'default',
    });
  });

  it('sends the rest', () => {
    const sent = body(
      ...['--cap-add', 'NET_ADMIN', '--cap-drop=ALL', '--privileged', '--read-only', '--init', '-P'],
      ...[
        '--device',
        '/dev/fuse',
        '--device=/dev/a:/dev/b:r',
        '--device=/dev/c:rm',
        '--dns',
        '1.1.1.1',
        '--add-host',
        'a=[::1]',
      ],
      ...['--restart', 'on-failure:3', '--log-driver', 'json-file', '--log-opt', 'max-size=1m', '--sysctl', 'net.a=1'],
      ...['--tmpfs', '/t:size=1m', '-v', '/a:/b:ro', '-v', '/anon', '--stop-signal', 'INT', '--stop-timeout', '3'],
      ...[
        '-u',
        '1:2',
        '-w',
        '/w',
        '-h',
        'host',
        '--entrypoint',
        '',
        '-l',
        'k=v=w',
        '--network',
        'n',
        '--network-alias',
        'x',
      ],
      ...['-p', '80', '--health-cmd', 'true', '--health-interval', '1m30s', '--security-opt', 'seccomp=unconfined'],
    );
    expect(sent).toEqual({
      Image: 'img',
      Hostname: 'host',
      User: '1:2',
      WorkingDir: '/w',
      Entrypoint: [''],
      StopSignal: 'INT',
      StopTimeout: 3,
      Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 90e9 },
      Labels: { k: 'v=w' },
      ExposedPorts: { '80/tcp': {} },
      Volumes: { '/anon': {} },
      NetworkingConfig: { EndpointsConfig: { n: { Aliases: ['x'] } } },
      HostConfig: {
        CapAdd: ['NET_ADMIN'],
        CapDrop: ['ALL'],
        Privileged: true,
        ReadonlyRootfs: true,
        Init: true,
        PublishAllPorts: true,
        Devices: [
          { PathOnHost: '/dev/fuse', PathInContainer: '/dev/fuse', CgroupPermissions: 'rwm' },
          { PathOnHost: '/dev/a', PathInContainer: '/dev/b', CgroupPermissions: 'r' },
          { PathOnHost: '/dev/c', PathInContainer: '/dev/c', CgroupPermissions: 'rm' },
        ],
        Dns: ['1.1.1.1'],
        ExtraHosts: ['a:::1'],
        RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 3 },
        LogConfig: { Type: 'json-file', Config: { 'max-size': '1m' } },
        Sysctls: { 'net.a': '1' },
        Tmpfs: { '/t': 'size=1m' },
        Binds: ['/a:/b:ro'],
        SecurityOpt: ['seccomp=unconfined'],
        PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '' }] },
        NetworkMode: 'n',
      },
    });
  });

  it('reads variables of files, then those of flags, and takes over bare names', () => {
    const dir = mkdtempSync(join(tmpdir(), 'caisson-cli-'));
    writeFileSync(join(dir, 'env'), '# comment\nA=from file\r\n\nCAISSON_TEST_OWN\nCAISSON_TEST_NONE\n');
    process.env['CAISSON_TEST_OWN'] = 'own';
    expect(body('-e', 'A=flag', '--env-file', join(dir, 'env')).Env).toEqual([
      'A=from file',
      'CAISSON_TEST_OWN=own',
      'A=flag',
    ]);
    delete process.env['CAISSON_TEST_OWN'];
    rmSync(dir, { recursive: true });
  });

  it.each([
    ['-m', '12x'],
    ['--cpus', 'two'],
    ['--ulimit', 'nofile'],
    ['--ulimit', 'nofile=3:2'],
    ['-p', '99999'],
    ['-p', '80/foo'],
    ['--mount', 'type=bind'],
    ['--add-host', 'a'],
    ['--device', '/dev/a:/b:x'],
    ['--restart', 'on-failure:x'],
    ['--env-file', '/nonexistent/file'],
    ['--pids-limit', '1.5'],
  ])('%s %s is refused by its name', (flag, value) => {
    expect(() => body(flag, value)).toThrow('invalid argument');
  });
});

it.each([
  ['80', { '80/tcp': [{ HostIp: '', HostPort: '' }] }],
  ['8080:80', { '80/tcp': [{ HostIp: '', HostPort: '8080' }] }],
  ['127.0.0.1:8080:80/udp', { '80/udp': [{ HostIp: '127.0.0.1', HostPort: '8080' }] }],
  ['127.0.0.1::80', { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] }],
  ['[::1]:8080:80', { '80/tcp': [{ HostIp: '::1', HostPort: '8080' }] }],
  ['8000-8001:80-81', { '80/tcp': [{ HostIp: '', HostPort: '8000' }], '81/tcp': [{ HostIp: '', HostPort: '8001' }] }],
  ['8000-8010:80', { '80/tcp': [{ HostIp: '', HostPort: '8000-8010' }] }],
])('-p %s is %j', (text, bindings) => {
  expect(parsePorts([text])).toEqual(bindings);
});

it.each([
  ['type=bind,src=/a,dst=/b,ro', { Type: 'bind', Source: '/a', Target: '/b', ReadOnly: true }],
  ['source=v,target=/b,readonly=false', { Type: 'volume', Source: 'v', Target: '/b', ReadOnly: false }],
  [
    'type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770',
    { Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 1 << 20, Mode: 0o1770 } },
  ],
  [
    'type=volume,dst=/t,volume-opt=o=a,"volume-opt=x=1,2"',
    { Type: 'volume', Target: '/t', VolumeOptions: { DriverConfig: { Options: { o: 'a', x: '1,2' } } } },
  ],
])('--mount %s is %j', (text, mount) => {
  expect(parseMount(text)).toEqual(mount);
});

describe('units', () => {
  it.each([
    ['0', 0],
    ['1024', 1024],
    ['1k', 1024],
    ['1.5g', 1.5 * 2 ** 30],
    ['2MiB', 2 << 20],
    ['2 mb', 2 << 20],
    ['7b', 7],
  ])('%s is %i bytes', (text, bytes) => expect(parseSize(text, '-m')).toBe(bytes));
  it.each(['', '-1', '1x', 'k', '1e3', '99999999p'])('%j is no size', (text) =>
    expect(() => parseSize(text, '-m')).toThrow(),
  );
  it.each([
    ['1h30m', 5400e9],
    ['500ms', 5e8],
    ['1.5s', 15e8],
    ['0', 0],
  ])('%s is %i ns', (text, ns) => expect(parseDuration(text, '-t')).toBe(ns));
  it.each(['', '5', '1x', 's', '1s2'])('%j is no duration', (text) =>
    expect(() => parseDuration(text, '-t')).toThrow(),
  );
  it.each([
    [0, '0B'],
    [999, '999B'],
    [1_980_000, '1.98MB'],
    [425_313_936, '425MB'],
  ])('%i bytes are shown as %s', (bytes, text) => expect(humanSize(bytes)).toBe(text));
  it.each([
    [0.5, 'Less than a second'],
    [59, '59 seconds'],
    [60, 'About a minute'],
    [7200, '2 hours'],
    [86400 * 3, '3 days'],
    [86400 * 365 * 3, '3 years'],
  ])('%d s are shown as %s', (seconds, text) => expect(showAge(seconds)).toBe(text));
});

// What they give beside docker's own: __test__/api/cli.spec.ts.
describe('templates', () => {
  const object = { Name: 'web', State: { Status: 'running', Pid: 5 }, List: ['a', 'b'], Map: { k: 'v' }, None: null };
  it.each([
    ['{{.Name}}', 'web'],
    ['{{ .State.Status }}\\t{{.State.Pid}}', 'running\t5'],
    ['json', JSON.stringify(object)],
    ['plain', 'plain'],
    ['{{range $i, $e := .List}}{{if $i}},{{end}}{{$i}}={{$e}}{{end}}', '0=a,1=b'],
    ['{{range .List}}{{if eq . "a"}}{{continue}}{{end}}{{.}}{{break}}{{end}}', 'b'],
    ['{{range .None}}x{{else}}none{{end}}', 'none'],
    ['{{with .State}}{{.Pid}}{{end}}{{with .None}}x{{else}}-{{end}}', '5-'],
    ['{{$n := 0}}{{range .List}}{{$n = .}}{{end}}{{$n}}', 'b'],
    ['a {{- /* said */ -}} b', 'ab'],
    ['{{(index .List 1) | printf "%-3s|%3s|%q" "x"}}', 'x  |  b|%!q(MISSING)'],
    ['{{and .Name .None}} {{or .None "x"}} {{not true}}', '<nil> x false'],
    ['{{.Map.nope}}', '<no value>'],
  ])('%s', (text, shown) => expect(template(text)(object)).toBe(shown));
  it.each(['{{', '{{}}', '{{.A[0]}}', '{{foo}}', '{{if .Name}}', '{{end}}', '{{$x}}', '{{template "x"}}', '{{break}}'])(
    '%s is refused',
    (text) => {
      expect(() => template(text)).toThrow('template');
    },
  );
  it.each(['{{.Nope}}', '{{.None.X}}', '{{index .List 7}}', '{{.Name "x"}}', '{{lt 1 "a"}}'])('%s fails', (text) => {
    expect(() => template(text)(object)).toThrow('template');
  });
});

describe('detaching', () => {
  const watch = () => new DetachWatch(parseDetachKeys('ctrl-p,ctrl-q') ?? Buffer.alloc(0));
  const feed = (...chunks: string[]) => {
    const watcher = watch();
    return chunks.map((chunk) => {
      const { pass, detach } = watcher.feed(Buffer.from(chunk));
      return Buffer.from(pass).toString() + (detach ? '!' : '');
    });
  };
  it.each([
    [['abc'], ['abc']],
    [['ab\x10\x11cd'], ['ab!']],
    [
      ['a\x10', '\x11'],
      ['a', '!'],
    ],
    [
      ['\x10', 'x'],
      ['', '\x10x'],
    ],
    [['\x10\x10\x11'], ['\x10!']],
  ])('%j passes %j', (chunks, passed) => expect(feed(...chunks)).toEqual(passed));
  it('takes letters and control keys', () => {
    expect(parseDetachKeys('a,ctrl-A,ctrl-@')).toEqual(Uint8Array.of(97, 1, 0));
    expect(parseDetachKeys('')).toBeUndefined();
    expect(() => parseDetachKeys('ctrl-')).toThrow('invalid detach keys');
  });
});

it.each([
  ['exec: "x": executable file not found in $PATH', 127],
  ['exec /x: no such file or directory', 127],
  ['exec: "/etc": permission denied', 126],
  ['exec: "/etc": is a directory', 126],
  ['port is already allocated', 125],
])('a start that fails with %s has the exit code %i', (message, code) => {
  expect(startFailure(new CaissonError('System', message), 'run').exitCode).toBe(code);
});
