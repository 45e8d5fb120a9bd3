import { describe, expect, it } from 'vitest';
import type { CreateBody } from '../../ts/engine/api/schemas/containers.ts';
import { fillConfig, fillHostConfig } from '../../ts/engine/containers/defaults.ts';
import { programOf } from '../../ts/engine/containers/record.ts';
import { type ValidationHost, validate } from '../../ts/engine/containers/validate.ts';
import { boundingSet } from '../../ts/engine/runtime/capabilities.ts';
import { parseSecurityOptions } from '../../ts/engine/runtime/security.ts';
import { buildSpec, type SpecHost } from '../../ts/engine/runtime/spec.ts';
import { collectMountPoints } from '../../ts/engine/volumes/mountPoints.ts';

import type { ImageRunConfig, RuntimeSpec } from '../../ts/oci.ts';

const ID = 'ab'.repeat(32);
const host: SpecHost & ValidationHost = {
  memoryLimit: true,
  swapLimit: true,
  oomKillDisable: true,
  blkioWeight: true,
  blkioWeightDevice: true,
  cpuCfsQuota: true,
  cpuShares: true,
  cpuSet: true,
  pidsLimit: true,
  cpus: 2,
  cgroupVersion: 1,
  controllers: ['memory', 'pids', 'cpu', 'cpuset'],
  cpusetCpus: '0-1',
  cpusetMems: '0',
  thermalThrottlePaths: ['/sys/devices/system/cpu/cpu0/thermal_throttle'],
  bounded: boundingSet('1ffffffffff'),
  apparmor: false,
  seccomp: true,
  selinux: false,
  runtimes: {},
};
const image: ImageRunConfig = { Env: ['PATH=/bin', 'A=image'], Cmd: ['sh'], WorkingDir: '/srv', User: '7' };

function specOf(body: CreateBody, own: Partial<SpecHost> = {}, from: ImageRunConfig = image): RuntimeSpec {
  const here = { ...host, ...own };
  const config = fillConfig(body, from, ID, 'busybox');
  const hostConfig = fillHostConfig(body.HostConfig ?? {}, {
    cgroupVersion: here.cgroupVersion,
    logDriver: 'json-file',
    logOptions: {},
    shmSizeBytes: 67108864,
    init: false,
    runtime: 'caisson',
    ipcMode: 'private',
    cgroupnsMode: '',
  });
  validate(config, hostConfig, here);
  const lookup = {
    dataRoot: '/data',
    directory: (name: string) => `/volumes/${name}/_data`,
    image: () => ({ id: 'sha256:1', chainId: 'sha256:2' }),
    mountsOf: () => [],
    source: () => undefined,
    driver: () => undefined,
  };
  return buildSpec(
    {
      config,
      hostConfig,
      args: programOf(config),
      mountPoints: collectMountPoints(config, hostConfig, lookup),
      files: { resolvConf: '/c/resolv.conf', hostname: '/c/hostname', hosts: '/c/hosts' },
      security: parseSecurityOptions(hostConfig.SecurityOpt, here),
      seccomp: { seccompFile: '/exec/seccomp/x.bpf' },
      apparmorProfile: '',
      namespaces: { network: 'private', pid: 'private', ipc: 'private' },
      devices: { devices: [], rules: [] },
      cgroupsPath: `/caisson/${ID}`,
      ipcOwner: undefined,
      layersOf: () => ['/layers/top', '/layers/base'],
    },
    here,
  );
}

const mount = (spec: RuntimeSpec, destination: string) => spec.mounts.find((one) => one.destination === destination);
const refusal = (body: CreateBody): string => {
  try {
    specOf(body);
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
};

it.each([
  [null, true],
  [['no-new-privileges=false'], false],
] as const)('new privileges that the daemon withholds: %j', (options, expected) => {
  const parsed = parseSecurityOptions(options && [...options], host, { noNewPrivileges: true });
  expect(parsed.noNewPrivileges).toBe(expected);
});

it('takes the path of an anonymous volume as it is', () => {
  const spec = specOf({ Volumes: { '/anon:rw': {}, '/data': {}, 'relative/': {}, '../above': {} } });
  for (const place of ['/anon:rw', '/data', '/relative', '/above']) expect(mount(spec, place)).toBeDefined();
  for (const path of ['/', '.', '', 'x/..'])
    expect(() => specOf({ Volumes: { [path]: {} } })).toThrow('hides the whole root filesystem');
});

describe('a container without any option', () => {
  const spec = specOf({});

  it('has the 14 capabilities of Docker and nothing inheritable or ambient', () => {
    const { bounding, effective, permitted, inheritable, ambient } = spec.process.capabilities ?? {};
    expect(bounding).toHaveLength(14);
    expect(bounding).toContain('CAP_MKNOD');
    expect(bounding).not.toContain('CAP_SYS_ADMIN');
    expect([effective, permitted]).toEqual([bounding, bounding]);
    expect([inheritable, ambient]).toEqual([[], []]);
  });

  it('mounts what Docker mounts', () => {
    expect(spec.mounts.map(({ destination }) => destination)).toEqual([
      '/proc',
      '/dev',
      '/dev/pts',
      '/sys',
      '/sys/fs/cgroup',
      '/dev/mqueue',
      '/dev/shm',
      '/etc/resolv.conf',
      '/etc/hostname',
      '/etc/hosts',
    ]);
    expect(mount(spec, '/sys')?.options).toContain('ro');
    expect(mount(spec, '/sys/fs/cgroup')?.options).toContain('ro');
    expect(mount(spec, '/dev/shm')?.options).toContain('size=67108864');
  });

  it('masks and protects what leaks, with the throttle counters that exist', () => {
    expect(spec.linux.maskedPaths).toContain('/proc/kcore');
    expect(spec.linux.maskedPaths).toContain('/proc/interrupts');
    expect(spec.linux.maskedPaths).toContain('/sys/devices/system/cpu/cpu0/thermal_throttle');
    expect(spec.linux.readonlyPaths).toEqual([
      '/proc/bus',
      '/proc/fs',
      '/proc/irq',
      '/proc/sys',
      '/proc/sysrq-trigger',
    ]);
  });

  it('denies every device but the six, and fuse even then', () => {
    expect(spec.linux.resources.devices?.[0]).toEqual({ allow: false, access: 'rwm' });
    expect(spec.linux.resources.devices?.filter(({ allow }) => allow)).toHaveLength(6);
    expect(spec.linux.resources.devices?.at(-1)).toMatchObject({ allow: false, major: 10, minor: 229 });
  });

  it('keeps the host cgroup namespace on v1 and gets its own on v2', () => {
    const types = (one: RuntimeSpec) => one.linux.namespaces.map(({ type }) => type).sort();
    expect(types(spec)).toEqual(['ipc', 'mount', 'network', 'pid', 'uts']);
    expect(types(specOf({}, { cgroupVersion: 2 }))).toEqual(['cgroup', 'ipc', 'mount', 'network', 'pid', 'uts']);
  });

  it('sets the two harmless sysctls, no limit and no new privileges off', () => {
    expect(spec.linux.sysctl).toEqual({
      'net.ipv4.ip_unprivileged_port_start': '0',
      'net.ipv4.ping_group_range': '0 2147483647',
    });
    expect(Object.keys(spec.linux.resources)).toEqual(['devices']);
    expect(spec.process.noNewPrivileges).toBe(false);
    expect(spec.process.rlimits).toBeUndefined();
  });

  it('runs the image: command, directory, environment, host name', () => {
    expect(spec.process.args).toEqual(['sh']);
    expect(spec.process.cwd).toBe('/srv');
    expect(spec.process.env).toEqual(['PATH=/bin', `HOSTNAME=${ID.slice(0, 12)}`, 'A=image']);
    expect(spec.hostname).toBe(ID.slice(0, 12));
  });
});

describe('options', () => {
  it('an entrypoint of the user makes the command of the image void', () => {
    expect(specOf({ Entrypoint: ['/x'] }).process.args).toEqual(['/x']);
    expect(specOf({ Entrypoint: [''], Cmd: ['c'] }).process.args).toEqual(['c']);
    expect(specOf({ Entrypoint: [] }, {}, { Entrypoint: ['/e'], Cmd: ['c'] }).process.args).toEqual(['c']);
    expect(specOf({ Cmd: ['a', 'b'] }, {}, { Entrypoint: ['/e'], Cmd: ['c'] }).process.args).toEqual(['/e', 'a', 'b']);
  });

  it('the environment of the user wins, and a bare name removes', () => {
    expect(specOf({ Env: ['A=mine'] }).process.env).toContain('A=mine');
    expect(specOf({ Env: ['A=mine'] }).process.env).not.toContain('A=image');
    expect(specOf({ Env: ['A'] }).process.env.some((entry) => entry.startsWith('A'))).toBe(false);
  });

  it.each([
    [{ CapAdd: ['net_admin'] }, 15, 'CAP_NET_ADMIN'],
    [{ CapDrop: ['ALL'] }, 0, undefined],
    [{ CapDrop: ['ALL'], CapAdd: ['CAP_KILL'] }, 1, 'CAP_KILL'],
    [{ CapAdd: ['ALL'] }, 41, 'CAP_BPF'],
    [{ CapAdd: ['ALL'], CapDrop: ['SYS_ADMIN'] }, 40, 'CAP_BPF'],
    [{ Privileged: true }, 41, 'CAP_SYS_ADMIN'],
  ])('%j gives %i capabilities', (HostConfig, count, included) => {
    const list = specOf({ HostConfig }).process.capabilities?.bounding ?? [];
    expect(list).toHaveLength(count);
    if (included) expect(list).toContain(included);
  });

  it('privileged opens what is closed by default', () => {
    const spec = specOf({ HostConfig: { Privileged: true } });
    expect(spec.linux.maskedPaths).toEqual([]);
    expect(spec.linux.readonlyPaths).toEqual([]);
    expect(spec.linux.resources.devices).toEqual([{ allow: true, access: 'rwm' }]);
    expect(mount(spec, '/sys')?.options).toContain('rw');
  });

  it('empty masked paths mean none (systempaths=unconfined)', () => {
    expect(specOf({ HostConfig: { MaskedPaths: [], ReadonlyPaths: [] } }).linux.maskedPaths).toEqual([]);
  });

  it('limits come out in the units of the specification', () => {
    const HostConfig = { Memory: 64 << 20, NanoCpus: 500_000_000, PidsLimit: 50, CpuShares: 512, CpusetCpus: '0' };
    const { memory, cpu, pids } = specOf({ HostConfig }).linux.resources;
    expect(memory).toEqual({ limit: 64 << 20, swap: 128 << 20 });
    expect(cpu).toEqual({ shares: 512, period: 100_000, quota: 50_000, cpus: '0' });
    expect(pids).toEqual({ limit: 50 });
    expect(specOf({ HostConfig: { Memory: 64 << 20, MemorySwap: -1 } }).linux.resources.memory?.swap).toBe(-1);
  });

  it('a user mount replaces a default one and parents come before children', () => {
    const HostConfig = { Binds: ['/a/b:/x/y/z', '/a:/x:ro', '/shm:/dev/shm'], Tmpfs: { '/x/y': 'size=1m,exec' } };
    const spec = specOf({ HostConfig });
    const order = spec.mounts.map(({ destination }) => destination).filter((path) => path.startsWith('/x'));
    expect(order).toEqual(['/x', '/x/y', '/x/y/z']);
    expect(spec.mounts.filter(({ destination }) => destination === '/dev/shm')).toHaveLength(1);
    expect(mount(spec, '/x')?.options).toEqual(['rbind', 'rro', 'rprivate']);
    expect(mount(spec, '/x/y')?.options).toEqual(['nosuid', 'nodev', 'size=1m', 'exec']);
  });

  it('a read-only container has a read-only root and read-only files of the engine', () => {
    const spec = specOf({ HostConfig: { ReadonlyRootfs: true } });
    expect(spec.root?.readonly).toBe(true);
    expect(mount(spec, '/etc/hosts')?.options).toContain('ro');
  });

  it.each([
    [{ Memory: 1000 }, 'Minimum memory limit allowed is 6MB'],
    [{ NanoCpus: 3e9 }, 'range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available'],
    [{ MemorySwap: 1 << 24 }, 'You should always set the Memory limit when using Memoryswap limit, see usage'],
    [{ CpusetCpus: '77' }, 'Requested CPUs are not available - requested 77, available: 0-1'],
    [{ BlkioWeight: 7 }, 'Range of blkio weight is from 10 to 1000'],
    [{ CapAdd: ['FOO'] }, 'invalid CapAdd: unknown capability: "CAP_FOO"'],
    [{ PidMode: 'xx' }, 'invalid PID mode: xx'],
    [{ IpcMode: 'xx' }, 'invalid IPC mode: xx'],
    [{ UTSMode: 'xx' }, 'invalid UTS mode: xx'],
    [{ CgroupnsMode: 'xx' }, 'invalid cgroup namespace mode: xx'],
    [{ Isolation: 'xx' }, "invalid isolation (xx): linux only supports 'default'"],
    [{ Runtime: 'xx' }, 'unknown or invalid runtime name: xx'],
    [
      { RestartPolicy: { Name: 'foo' } },
      "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ],
    [
      { AutoRemove: true, RestartPolicy: { Name: 'always' } },
      "can't create 'AutoRemove' container with restart policy",
    ],
    [{ LogConfig: { Type: 'xx' } }, 'error looking up logging plugin xx: plugin "xx" not found'],
    [{ ExtraHosts: ['foo'] }, 'bad format for add-host: "foo"'],
    [
      { Binds: ['/tmp:rel'] },
      `invalid volume specification: '/tmp:rel': invalid mount config for type "bind": invalid mount path: 'rel' mount path must be absolute`,
    ],
    [
      { Binds: ['/tmp:/'] },
      `invalid volume specification: '/tmp:/': invalid mount config for type "bind": invalid specification: destination can't be '/'`,
    ],
    [{ Binds: ['/tmp:rw'] }, "invalid volume specification: '/tmp:rw'"],
    [{ Binds: ['/tmp:/x', '/var:/x'] }, 'Duplicate mount point: /x'],
    [{ Binds: ['/nope:/x:xx'] }, 'invalid mode: xx'],
    [{ Sysctls: { 'kernel.core_pattern': 'x' } }, "sysctl 'kernel.core_pattern' is not allowed"],
    [
      { Sysctls: { 'kernel.shm_rmid_forced': '1\nkernel.core_pattern=x' } },
      "sysctl 'kernel.shm_rmid_forced': the value must be a single line",
    ],
    [
      { NetworkMode: 'host', Sysctls: { 'net.ipv4.ip_forward': '1' } },
      "sysctl 'net.ipv4.ip_forward' is not allowed with host net namespace",
    ],
    [{ SecurityOpt: ['foo'] }, 'invalid --security-opt 1: "foo"'],
    [
      { SecurityOpt: ['apparmor=docker-default'] },
      '--security-opt apparmor=docker-default: AppArmor is not enabled on this host, so the profile cannot be applied',
    ],
    [{ Tmpfs: { '/x': 'foo' } }, 'Invalid tmpfs option ["foo"]'],
    [
      { Ulimits: [{ Name: 'nofile', Soft: 10, Hard: 1 }] },
      'ulimit soft limit must be less than or equal to hard limit: 10 > 1',
    ],
  ])('%j is refused with the text of Docker', (HostConfig, message) => {
    expect(refusal({ HostConfig } as CreateBody)).toBe(message);
  });

  it.each([
    [{ WorkingDir: 'rel' }, "the working directory 'rel' is invalid, it needs to be an absolute path"],
    [{ Env: ['=x'] }, 'invalid environment variable: =x'],
    [{ StopSignal: 'FOO' }, 'invalid signal: FOO'],
    [{ User: '4294967296' }, 'invalid user 4294967296: uids and gids must be in range 0-2147483647'],
    [{ User: '-1' }, 'invalid user -1: uids and gids must be in range 0-2147483647'],
    [{ User: '0:4294967295' }, 'invalid user 0:4294967295: uids and gids must be in range 0-2147483647'],
  ])('%j is refused', (body, message) => {
    expect(refusal(body)).toBe(message);
  });
});
