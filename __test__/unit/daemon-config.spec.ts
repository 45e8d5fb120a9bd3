import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { levelOf, loadConfig, reloadConfig } from '../../ts/engine/config.ts';
import { byteSize } from '../../ts/engine/configValues.ts';
import { helpText } from '../../ts/engine/help.ts';

const dir = mkdtempSync(join(tmpdir(), 'caisson-config-'));
afterAll(() => rmSync(dir, { recursive: true }));

let counter = 0;
function file(content: unknown): string {
  const path = join(dir, `daemon-${counter++}.json`);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

describe('flags', () => {
  it('have defaults', () => {
    const config = loadConfig(['--config-file', file({})]);
    expect(config).toMatchObject({
      hosts: [],
      dataRoot: '/var/lib/caisson',
      execRoot: '/run/caisson',
      pidfile: '/run/caisson/caisson.pid',
      cgroupParent: '/caisson',
      icc: true,
      logLevel: 'info',
    });
  });

  it.each([
    ['--no-new-privileges', true],
    ['--no-new-privileges=true', true],
    ['--no-new-privileges=false', false],
  ])('%s is no negation', (given, expected) => {
    expect(loadConfig([given, '--config-file', file({})]).noNewPrivileges).toBe(expected);
  });

  it("take dockerd's forms", () => {
    const config = loadConfig(
      [
        '-H',
        'unix:///a',
        '-H=unix:///b',
        '-D',
        '-b',
        'br9',
        '--icc=false',
        '--fixed-cidr',
        '10.0.0.0/24',
        '--dns=1.1.1.1',
        '--config-file',
        file(''),
      ].map((flag) => flag.replace('-H=', '--host=')),
    );
    expect(config).toMatchObject({
      hosts: ['unix:///a', 'unix:///b'],
      debug: true,
      bridge: 'br9',
      icc: false,
      fixedCidr: '10.0.0.0/24',
      dns: ['1.1.1.1'],
    });
    expect(levelOf(config)).toBe('debug');
  });

  it.each([
    [['--nope'], "Unknown option '--nope'"],
    [['--ip6tables=false'], 'one table has the rules of both families'],
    [
      ['--swarm-default-advertise-addr', 'lo'],
      'swarm-default-advertise-addr is not supported by caisson: it has no swarm',
    ],
    [['--userland-proxy-path', '/x'], 'userland-proxy-path is not supported by caisson'],
    [['--add-runtime', 'x'], 'invalid runtime argument: x'],
    [['--add-runtime', 'runc=/x'], "runtime name 'runc' is reserved"],
    [['--add-runtime', 'x=/x', '--add-runtime', 'X=/y'], "runtime 'x' was already defined"],
    [['--rootless'], 'rootless is not supported by caisson: its daemon needs root'],
    [['--default-runtime', 'nvidia'], "specified default runtime 'nvidia' does not exist"],
    [['--metrics-addr', '9323'], 'metrics-addr: not of the form address:port'],
    [['--log-format', 'text'], 'log-format: it is one of json'],
    [['--default-network-opt', 'bridge'], 'not driver=option=value'],
    [['--default-gateway', 'fd00::1'], 'default-gateway: not of IPv4'],
    [['--ip', 'localhost'], 'ip: not an IP address'],
    [['positional'], 'positional'],
    [['--mtu', 'x'], 'mtu: not a number'],
    [['--bip', '10.0.0.1'], 'bip'],
    [['-b', 'br9', '--bip', '10.0.0.1/24'], 'bridge and bip exclude each other'],
    [['--icc=false', '--iptables=false', '--ip6tables=false'], 'icc=false needs the rules'],
    [['--fixed-cidr-v6', '10.0.0.0/24'], 'fixed-cidr-v6: not an IPv6 subnet'],
    [['--default-address-pool', 'base=10.0.0.0/16,size=8'], 'default-address-pool'],
    [['--log-level', 'loud'], 'log-level'],
    [['--registry-mirror', 'ftp://x'], 'registry mirror'],
    [['--data-root', 'relative'], 'not an absolute path'],
    [['--cgroup-parent', '/a/../b'], 'cgroup-parent'],
    [['--config-file', '/nonexistent/daemon.json'], 'ENOENT'],
  ])('refuses %j', (flags, expected) => {
    expect(() => loadConfig(flags.includes('--config-file') ? flags : [...flags, '--config-file', file({})])).toThrow(
      expected,
    );
  });
});

describe('help', () => {
  it('names every flag that is taken, and none that is refused', () => {
    const named = [...helpText().matchAll(/^ {2}.{4}--([a-z0-9-]+)/gm)].map(([, name]) => name);
    expect(named).toEqual(expect.arrayContaining(['bip', 'config-file', 'host', 'log-opt', 'registry', 'tlsverify']));
    for (const name of named) {
      const value = name === 'validate' ? [] : ['never-a-value'];
      const message = (() => {
        try {
          loadConfig([`--${name}`, ...value, '--config-file', file({})]);
        } catch (error) {
          return (error as Error).message;
        }
        return '';
      })();
      expect(message, name).not.toMatch(/Unknown option|is not supported by caisson: it has no/);
    }
    expect(named).not.toContain('node-generic-resource');
  });
});

describe('config file', () => {
  it('takes what caisson has not where it is off', () => {
    const config = loadConfig(['--config-file', file({ 'selinux-enabled': false, 'max-download-attempts': 0 })]);
    expect(config).toMatchObject({ maxDownloadAttempts: 5, noNewPrivileges: false });
  });

  it("takes dockerd's keys", () => {
    const path = file({
      hosts: ['unix:///x'],
      'registry-mirrors': ['http://m'],
      'log-opts': { 'max-size': '1m' },
      debug: true,
    });
    const config = loadConfig(['--config-file', path]);
    expect(config).toMatchObject({
      hosts: ['unix:///x'],
      registryMirrors: ['http://m/'],
      logOpts: { 'max-size': '1m' },
    });
    expect(levelOf(config)).toBe('debug');
  });

  it.each([
    [{ nope: 1 }, 'unknown key "nope"'],
    [{ runtimes: ['nvidia=/x'] }, 'the value of "runtimes" is not an object'],
    [{ runtimes: { x: {} } }, 'runtime x: either a runtimeType or a path must be configured'],
    [{ 'userns-remap': 'default' }, 'userns-remap is not supported by caisson: the users of containers are those of'],
    [{ debug: 'yes' }, '"debug"'],
    [{ dns: '1.1.1.1' }, '"dns"'],
    [{ dns: [1] }, '"dns"'],
    [[], 'not a JSON object'],
    ['{', 'JSON'],
  ])('refuses %j', (content, expected) => {
    expect(() => loadConfig(['--config-file', file(content)])).toThrow(expected);
  });

  it('refuses a setting given twice', () => {
    expect(() => loadConfig(['--mtu', '1400', '--config-file', file({ mtu: 1300 })])).toThrow(
      'given both by a flag and',
    );
  });

  it('reloads what may change, and nothing else', async () => {
    const path = file({ debug: false, mtu: 1300 });
    const config = loadConfig(['--config-file', path]);
    const transfers = { 'max-concurrent-downloads': 7, 'max-concurrent-uploads': 0 };
    writeFileSync(path, JSON.stringify({ debug: true, mtu: 1200, 'registry-mirrors': ['http://n'], ...transfers }));
    expect((await reloadConfig(config)).sort()).toEqual(['debug', ...Object.keys(transfers), 'registry-mirrors']);
    expect(config).toMatchObject({ debug: true, mtu: 1300, registryMirrors: ['http://n/'] });
    expect(config).toMatchObject({ maxConcurrentDownloads: 7, maxConcurrentUploads: 1 });
    writeFileSync(path, '{}');
    await reloadConfig(config);
    const dropped = { debug: true, registryMirrors: ['http://n/'], maxConcurrentDownloads: 3, maxConcurrentUploads: 5 };
    expect(config).toMatchObject(dropped);
  });

  it('takes over runtimes with the default one, or neither', async () => {
    const path = file({ runtimes: { crun: { path: 'crun' } }, 'default-runtime': 'crun' });
    const config = loadConfig(['--config-file', path]);
    expect(config).toMatchObject({ runtimes: { crun: { path: 'crun', args: [] } }, defaultRuntime: 'crun' });
    writeFileSync(path, JSON.stringify({ runtimes: { other: { path: 'other' } } }));
    await expect(reloadConfig(config)).rejects.toThrow("specified default runtime 'crun' does not exist");
    expect(config.defaultRuntime).toBe('crun');
    writeFileSync(path, JSON.stringify({ runtimes: { other: { path: 'other' } }, 'default-runtime': 'other' }));
    await reloadConfig(config);
    expect(config).toMatchObject({ runtimes: { other: { path: 'other', args: [] } }, defaultRuntime: 'other' });
  });

  it('brings back the level of a daemon that was started to debug', async () => {
    const path = file({ debug: true, 'log-level': 'warn' });
    const config = loadConfig(['--config-file', path]);
    expect(levelOf(config)).toBe('debug');
    writeFileSync(path, JSON.stringify({ debug: false, 'log-level': 'warn' }));
    await reloadConfig(config);
    expect(levelOf(config)).toBe('warn');
  });

  it.each([
    [{ debug: true, nope: 1 }, 'unknown key'],
    [{ debug: true, 'registry-mirrors': ['nope'] }, 'invalid registry mirror'],
    [{ debug: true, labels: ['b=2'] }, 'the setting labels is given both by a flag and in'],
  ])('keeps all settings when the new file is wrong: %j', async (wrong, why) => {
    const path = file({ debug: false });
    const config = loadConfig(['--config-file', path, '--label', 'a=1']);
    writeFileSync(path, JSON.stringify(wrong));
    await expect(reloadConfig(config)).rejects.toThrow(why);
    expect(config).toMatchObject({ debug: false, labels: ['a=1'] });
  });
});

describe('sizes', () => {
  it.each([
    ['10', 10],
    ['1k', 1024],
    ['64M', 64 * 1024 ** 2],
    ['1.5g', 1.5 * 1024 ** 3],
    ['2GiB', 2 * 1024 ** 3],
  ])('%s', (text, bytes) => {
    expect(byteSize('x', text)).toBe(bytes);
  });
});

describe('proxies', () => {
  it('come from the file or from flags', () => {
    const proxies = { 'http-proxy': 'http://a:1', 'https-proxy': 'http://b:2', 'no-proxy': 'c,d' };
    const wanted = { httpProxy: 'http://a:1', httpsProxy: 'http://b:2', noProxy: 'c,d' };
    expect(loadConfig(['--config-file', file({ proxies })]).proxies).toEqual(wanted);
    const flags = Object.entries(proxies).flatMap(([name, value]) => [`--${name}`, value]);
    expect(loadConfig(['--config-file', file({}), ...flags]).proxies).toEqual(wanted);
  });

  it.each([
    [{ proxies: { 'ftp-proxy': 'x' } }, 'proxies may only have'],
    [{ proxies: { 'http-proxy': 1 } }, 'proxies may only have'],
    [{ 'http-proxy': 'http://a:1' }, 'unknown key'],
  ])('refuse %j', (content, message) => {
    expect(() => loadConfig(['--config-file', file(content)])).toThrow(message);
  });

  it('are not given in both places', () => {
    const path = file({ proxies: { 'http-proxy': 'http://a:1' } });
    expect(() => loadConfig(['--config-file', path, '--http-proxy', 'http://b:2'])).toThrow('given both');
  });
});

describe("settings that stand for one of dockerd's choices", () => {
  it.each([
    [['--storage-driver', 'overlay2', '--live-restore', '--exec-opt', 'native.cgroupdriver=cgroupfs'], {}],
    [['--containerd', '/run/containerd/containerd.sock', '--containerd-namespace', 'moby'], {}],
    [['--feature', 'cdi=false'], { cdiSpecDirs: [] }],
    [['--feature', 'buildkit'], { features: { buildkit: true } }],
    [['--cdi-spec-dir', ''], { cdiSpecDirs: [] }],
    [['--default-ipc-mode=shareable'], { defaultIpcMode: 'shareable' }],
    [['--default-cgroupns-mode', 'private'], { defaultCgroupnsMode: 'private' }],
  ])('%j', (flags, expected) => {
    expect(loadConfig(['--config-file', file({}), ...flags])).toMatchObject(expected);
  });

  it.each([
    [['--storage-driver', 'vfs'], 'it is one of overlay2'],
    [['--live-restore=false'], 'containers outlive their daemon'],
    [['--exec-opt', 'native.cgroupdriver=systemd'], 'the only one is native.cgroupdriver=cgroupfs'],
    [['--feature', 'containerd-snapshotter'], 'the feature containerd-snapshotter is not supported'],
    [['--default-ipc-mode', 'host'], 'it is one of private, shareable'],
    [['--host-gateway-ip', 'x'], 'not an IP address'],
  ])('%j is refused', (flags, message) => {
    expect(() => loadConfig(['--config-file', file({}), ...flags])).toThrow(message);
  });
});
