/**
 * The OCI runtime spec of a container, with all of Docker's defaults. Pure: what it needs of the host comes in, so that
 * the same input gives the same spec on every machine. User names, groups and the working directory are resolved by the
 * shim in the container's own files.
 */
import type { Capabilities, Device, DeviceRule, LinuxSpec, RuntimeProcess, RuntimeSpec } from '../../oci.ts';
import type { ContainerConfig, HostConfig, MountPoint } from '../containers/config.ts';
import { confinement } from './apparmor.ts';
import { effectiveCapabilities } from './capabilities.ts';
import { DEFAULT_DEVICE_RULES, parseDeviceRule } from './devices.ts';
import { buildMounts, type ContainerFiles } from './mounts.ts';
import { type ResourceHost, toResources } from './resources.ts';
import type { SecurityOptions } from './security.ts';

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export const DEFAULT_MASKED_PATHS = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];

export const DEFAULT_READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** A namespace of the container: its own, the host's, or the one at a path. */
export type NamespaceChoice = 'private' | 'host' | { path: string };

export interface SpecHost extends ResourceHost {
  /** `/sys/devices/system/cpu/cpuN/thermal_throttle` that exist: masked too (they leak what neighbours do). */
  thermalThrottlePaths: string[];
  bounded: (capability: string) => boolean;
}

export interface SpecInput {
  config: ContainerConfig;
  hostConfig: HostConfig;
  /** The program with its arguments, entrypoint and command already joined. */
  args: string[];
  mountPoints: MountPoint[];
  files: ContainerFiles | undefined;
  security: SecurityOptions;
  /** Empty: none. */
  seccomp: Pick<LinuxSpec, 'seccomp' | 'seccompFile'>;
  /** As `apparmorProfile` gives it. */
  apparmorProfile: string;
  namespaces: { network: NamespaceChoice; pid: NamespaceChoice; ipc: NamespaceChoice };
  devices: { devices: Device[]; rules: DeviceRule[] };
  cgroupsPath: string;
  /** See `MountInput`. */
  ipcOwner: number | undefined;
  layersOf(chainId: string): string[];
}

export function capabilitiesOf(hostConfig: HostConfig, bounded: SpecHost['bounded']): string[] {
  return effectiveCapabilities(
    { add: hostConfig.CapAdd ?? [], drop: hostConfig.CapDrop ?? [], privileged: hostConfig.Privileged },
    bounded,
  );
}

/** Inheritable and ambient stay empty whatever is added (CVE-2022-24769). */
export const capabilitySets = (list: string[]): Capabilities => ({
  bounding: list,
  effective: list,
  permitted: list,
  inheritable: [],
  ambient: [],
});

/** The environment: PATH and the engine's own entries first, what the user says last, so that he wins. */
export function buildEnv(config: Pick<ContainerConfig, 'Env' | 'Hostname' | 'Tty'>): string[] {
  const merged = new Map<string, string>();
  const own = [DEFAULT_PATH, `HOSTNAME=${config.Hostname}`, ...(config.Tty ? ['TERM=xterm'] : [])];
  for (const entry of [...own, ...config.Env]) {
    const separator = entry.indexOf('=');
    // `-e NAME` without a value removes what the image or the engine set
    if (separator < 0) merged.delete(entry);
    else merged.set(entry.slice(0, separator), entry);
  }
  return [...merged.values()];
}

/** Of init and of every exec. Without a wish of the user init sets nofile 1024:524288, as far as the host's hard limit allows. */
export function rlimitsOf({ Ulimits }: HostConfig): Pick<RuntimeProcess, 'rlimits'> {
  if (!Ulimits?.length) return {};
  return {
    rlimits: Ulimits.map(({ Name, Soft, Hard }) => ({ type: `RLIMIT_${Name.toUpperCase()}`, soft: Soft, hard: Hard })),
  };
}

function buildProcess(input: SpecInput, host: SpecHost): RuntimeProcess {
  const { config, hostConfig, security } = input;
  const [height, width] = hostConfig.ConsoleSize;
  return {
    terminal: config.Tty,
    ...(config.Tty && width > 0 && height > 0 ? { consoleSize: { width, height } } : {}),
    user: { uid: 0, gid: 0 },
    args: input.args,
    env: buildEnv(config),
    cwd: config.WorkingDir || '/',
    capabilities: capabilitySets(capabilitiesOf(hostConfig, host.bounded)),
    ...rlimitsOf(hostConfig),
    noNewPrivileges: security.noNewPrivileges,
    ...confinement(input.apparmorProfile),
    oomScoreAdj: hostConfig.OomScoreAdj,
  };
}

function namespaces(input: SpecInput, cgroupVersion: 1 | 2): LinuxSpec['namespaces'] {
  const { hostConfig } = input;
  const list: LinuxSpec['namespaces'] = [{ type: 'mount' }];
  for (const type of ['network', 'pid', 'ipc'] as const) {
    const choice = input.namespaces[type];
    if (choice === 'private') list.push({ type });
    else if (choice !== 'host') list.push({ type, path: choice.path });
  }
  if (hostConfig.UTSMode !== 'host') list.push({ type: 'uts' });
  // Docker's defaults: private on cgroup v2, the host's on v1
  const cgroupns = hostConfig.CgroupnsMode || (cgroupVersion === 2 ? 'private' : 'host');
  if (cgroupns === 'private' && !(cgroupVersion === 2 && hostConfig.Privileged && hostConfig.CgroupnsMode === '')) {
    list.push({ type: 'cgroup' });
  }
  return list;
}

function sysctls(input: SpecInput): Record<string, string> {
  const own = input.namespaces.network === 'private';
  return {
    // harmless inside a namespace of one's own: low ports and ping without a capability
    ...(own ? { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' } : {}),
    ...input.hostConfig.Sysctls,
  };
}

function deviceRules(input: SpecInput): DeviceRule[] {
  if (input.hostConfig.Privileged) return [{ allow: true, access: 'rwm' }];
  return [
    ...DEFAULT_DEVICE_RULES,
    ...input.devices.rules,
    ...(input.hostConfig.DeviceCgroupRules ?? []).map(parseDeviceRule),
  ];
}

/** The rootfs must be shared when a mount below it is, else propagation from the host would end at it. */
function rootfsPropagation(mountPoints: MountPoint[]): string | undefined {
  if (mountPoints.some(({ propagation }) => propagation === 'shared' || propagation === 'rshared')) return 'shared';
  if (mountPoints.some(({ propagation }) => propagation === 'slave' || propagation === 'rslave')) return 'slave';
  return undefined;
}

function buildLinux(input: SpecInput, host: SpecHost): LinuxSpec {
  const { hostConfig } = input;
  const propagation = rootfsPropagation(input.mountPoints);
  const masked = hostConfig.MaskedPaths ?? [...DEFAULT_MASKED_PATHS];
  const isDefault = masked.includes('/sys/devices/virtual/powercap');
  return {
    namespaces: namespaces(input, host.cgroupVersion),
    devices: input.devices.devices,
    cgroupsPath: input.cgroupsPath,
    resources: { ...toResources(hostConfig, host), devices: deviceRules(input) },
    ...(propagation === undefined ? {} : { rootfsPropagation: propagation }),
    ...input.seccomp,
    sysctl: sysctls(input),
    maskedPaths: hostConfig.Privileged ? [] : isDefault ? [...masked, ...host.thermalThrottlePaths] : masked,
    readonlyPaths: hostConfig.Privileged ? [] : (hostConfig.ReadonlyPaths ?? DEFAULT_READONLY_PATHS),
  };
}

export function buildSpec(input: SpecInput, host: SpecHost): RuntimeSpec {
  const { config, hostConfig } = input;
  const ownUts = hostConfig.UTSMode !== 'host';
  return {
    ociVersion: '1.2.0',
    ...(ownUts && config.Hostname ? { hostname: config.Hostname } : {}),
    ...(ownUts && config.Domainname ? { domainname: config.Domainname } : {}),
    process: buildProcess(input, host),
    root: { path: 'rootfs', readonly: hostConfig.ReadonlyRootfs },
    mounts: buildMounts({ ...input, writableCgroups: input.security.writableCgroups }),
    linux: buildLinux(input, host),
    ...(hostConfig.Annotations ? { annotations: hostConfig.Annotations } : {}),
  };
}
