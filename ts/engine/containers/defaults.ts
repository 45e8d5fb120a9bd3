/** A create request with Docker's defaults filled in and the image's own configuration merged: what inspect shows. */
import { normalize } from 'node:path/posix';
import type { ImageRunConfig } from '../../oci.ts';
import type { CreateBody, HostConfigBody, MountBody } from '../api/schemas/containers.ts';
import { normalizeCapability } from '../runtime/capabilities.ts';
import { DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS } from '../runtime/spec.ts';
import type { ContainerConfig, HostConfig, MountRequest, RestartPolicy } from './config.ts';
import { mergeHealthcheck } from './healthcheck.ts';

const asList = (value: string[] | string | null | undefined): string[] | null =>
  typeof value === 'string' ? [value] : (value ?? null);

const objects = (value: Record<string, object | null> | null | undefined): Record<string, object> =>
  Object.fromEntries(Object.keys(value ?? {}).map((key) => [key, {}]));

/** Without `.`, `..` and a slash at its end. */
const cleanPath = (path: string): string => (path === '' ? '' : normalize(path).replace(/(?<=.)\/$/, ''));

/** Drops keys that are null or undefined. */
const given = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, item]) => item !== null && item !== undefined)) as T;

/** The image's variables, then the user's over them; a bare name of the user removes one. */
function mergeEnv(image: string[], user: string[]): string[] {
  const names = new Set(user.map((entry) => entry.split('=', 1)[0]));
  return [...user, ...image.filter((entry) => !names.has(entry.split('=', 1)[0]))];
}

export function fillConfig(body: CreateBody, image: ImageRunConfig, id: string, imageName: string): ContainerConfig {
  const entrypoint = asList(body.Entrypoint);
  const cmd = asList(body.Cmd);
  const ports = { ...objects(image.ExposedPorts), ...objects(body.ExposedPorts) };
  for (const key of Object.keys(body.HostConfig?.PortBindings ?? {})) ports[withProtocol(key)] = {};
  const volumes = { ...objects(image.Volumes), ...objects(body.Volumes) };
  return {
    Hostname: body.Hostname || id.slice(0, 12),
    Domainname: body.Domainname ?? '',
    User: body.User || image.User || '',
    AttachStdin: body.AttachStdin ?? false,
    AttachStdout: body.AttachStdout ?? false,
    AttachStderr: body.AttachStderr ?? false,
    ...(Object.keys(ports).length > 0 ? { ExposedPorts: ports } : {}),
    ...(body.NetworkDisabled ? { NetworkDisabled: true } : {}),
    Tty: body.Tty ?? false,
    OpenStdin: body.OpenStdin ?? false,
    StdinOnce: body.StdinOnce ?? false,
    Env: mergeEnv(image.Env ?? [], body.Env ?? []),
    // an entrypoint of the user's makes the image's command void, as its arguments would be another program's
    Cmd: cmd?.length || entrypoint?.length ? cmd : (image.Cmd ?? null),
    Image: imageName,
    Volumes: Object.keys(volumes).length > 0 ? volumes : null,
    WorkingDir: cleanPath(body.WorkingDir || image.WorkingDir || ''),
    Entrypoint: entrypoint
      ? entrypoint.length === 1 && entrypoint[0] === ''
        ? null
        : entrypoint
      : (image.Entrypoint ?? null),
    OnBuild: body.OnBuild ?? null,
    Labels: { ...image.Labels, ...body.Labels },
    ...given({
      StopSignal: body.StopSignal || image.StopSignal || undefined,
      StopTimeout: body.StopTimeout ?? undefined,
      Shell: asList(body.Shell) ?? image.Shell ?? undefined,
      Healthcheck: mergeHealthcheck(body.Healthcheck, image.Healthcheck),
    } as Pick<ContainerConfig, 'StopSignal' | 'StopTimeout' | 'Shell' | 'Healthcheck'>),
  };
}

/** `80` means `80/tcp`; protocols are lower case. */
export function withProtocol(port: string): string {
  const [number = '', protocol = ''] = port.split('/');
  return `${number}/${protocol.toLowerCase() || 'tcp'}`;
}

function fillMount(mount: MountBody): MountRequest {
  const { Type, Source, Target, ReadOnly, BindOptions, VolumeOptions, ImageOptions, TmpfsOptions } = mount;
  return given({
    Type: Type as MountRequest['Type'],
    Source: Source ?? undefined,
    Target: Target ?? '',
    ReadOnly: ReadOnly || undefined,
    BindOptions: BindOptions ? given(BindOptions) : undefined,
    VolumeOptions: VolumeOptions ? given(VolumeOptions) : undefined,
    ImageOptions: ImageOptions ? given(ImageOptions) : undefined,
    TmpfsOptions: TmpfsOptions ? given(TmpfsOptions) : undefined,
  }) as MountRequest;
}

function portBindings(body: HostConfigBody): HostConfig['PortBindings'] {
  const filled: HostConfig['PortBindings'] = {};
  for (const [port, bindings] of Object.entries(body.PortBindings ?? {})) {
    const list = bindings?.length ? bindings : [{}];
    filled[withProtocol(port)] = list.map(
      ({ HostIp, HostPort }: { HostIp?: string | null; HostPort?: string | null }) => ({
        HostIp: HostIp ?? '',
        HostPort: HostPort ?? '',
      }),
    );
  }
  return filled;
}

const capabilities = (list: string[] | null | undefined, field: 'CapAdd' | 'CapDrop'): string[] | null =>
  list?.length ? list.map((name) => normalizeCapability(name, field)).sort() : null;

export interface HostConfigDefaults {
  cgroupVersion: 1 | 2;
  logDriver: string;
  logOptions: Record<string, string>;
  shmSizeBytes: number;
  init: boolean;
  runtime: string;
  ipcMode: string;
  cgroupnsMode: '' | 'host' | 'private';
}

function fillLimits(body: HostConfigBody) {
  return {
    CpuShares: body.CpuShares ?? 0,
    Memory: body.Memory ?? 0,
    NanoCpus: body.NanoCpus ?? 0,
    CgroupParent: body.CgroupParent ?? '',
    BlkioWeight: body.BlkioWeight ?? 0,
    BlkioWeightDevice: body.BlkioWeightDevice ?? null,
    BlkioDeviceReadBps: body.BlkioDeviceReadBps ?? null,
    BlkioDeviceWriteBps: body.BlkioDeviceWriteBps ?? null,
    BlkioDeviceReadIOps: body.BlkioDeviceReadIOps ?? null,
    BlkioDeviceWriteIOps: body.BlkioDeviceWriteIOps ?? null,
    CpuPeriod: body.CpuPeriod ?? 0,
    CpuQuota: body.CpuQuota ?? 0,
    CpuRealtimePeriod: body.CpuRealtimePeriod ?? 0,
    CpuRealtimeRuntime: body.CpuRealtimeRuntime ?? 0,
    CpusetCpus: body.CpusetCpus ?? '',
    CpusetMems: body.CpusetMems ?? '',
    MemoryReservation: body.MemoryReservation ?? 0,
    // as Docker shows it: twice the memory when only that was given
    MemorySwap: body.MemorySwap || ((body.Memory ?? 0) > 0 ? (body.Memory ?? 0) * 2 : 0),
    // the CLI says -1 for "not given"
    MemorySwappiness: body.MemorySwappiness === -1 ? null : (body.MemorySwappiness ?? null),
    OomKillDisable: body.OomKillDisable ?? false,
    PidsLimit: (body.PidsLimit ?? 0) > 0 ? (body.PidsLimit ?? null) : null,
    Ulimits: body.Ulimits ?? null,
    CpuCount: body.CpuCount ?? 0,
    CpuPercent: body.CpuPercent ?? 0,
    IOMaximumIOps: body.IOMaximumIOps ?? 0,
    IOMaximumBandwidth: body.IOMaximumBandwidth ?? 0,
  };
}

/** Who shares the host's processes or memory, or may do everything, has no label, and says so. */
function securityOpt({ SecurityOpt: given, IpcMode, PidMode }: HostConfigBody, privileged: boolean): string[] | null {
  const asked = given ?? [];
  if (privileged) return [...asked.filter((option) => !option.startsWith('label')), 'label=disable'];
  const shares = IpcMode === 'host' || PidMode === 'host';
  return shares && !asked.some((option) => option.startsWith('label')) ? [...asked, 'label=disable'] : (given ?? null);
}

function fillIsolation(body: HostConfigBody, defaults: HostConfigDefaults) {
  const privileged = body.Privileged ?? false;
  return {
    CapAdd: capabilities(body.CapAdd, 'CapAdd'),
    CapDrop: capabilities(body.CapDrop, 'CapDrop'),
    CgroupnsMode: (body.CgroupnsMode ||
      (privileged ? 'host' : defaults.cgroupnsMode || (defaults.cgroupVersion === 2 ? 'private' : 'host'))) as
      | 'host'
      | 'private',
    GroupAdd: body.GroupAdd ?? null,
    IpcMode: body.IpcMode || defaults.ipcMode,
    Cgroup: body.Cgroup ?? '',
    PidMode: body.PidMode ?? '',
    Privileged: privileged,
    ReadonlyRootfs: body.ReadonlyRootfs ?? false,
    SecurityOpt: securityOpt(body, privileged),
    UTSMode: body.UTSMode ?? '',
    UsernsMode: body.UsernsMode ?? '',
    MaskedPaths: privileged ? null : (body.MaskedPaths ?? DEFAULT_MASKED_PATHS),
    ReadonlyPaths: privileged ? null : (body.ReadonlyPaths ?? DEFAULT_READONLY_PATHS),
  };
}

export function fillHostConfig(body: HostConfigBody, defaults: HostConfigDefaults): HostConfig {
  const logType = body.LogConfig?.Type || defaults.logDriver;
  const ofCache = Object.entries(defaults.logOptions).filter(([name]) => name.startsWith('cache-'));
  const ownOptions = logType === defaults.logDriver ? defaults.logOptions : Object.fromEntries(ofCache);
  const networkMode = body.NetworkMode || 'default';
  const policy = {
    Name: body.RestartPolicy?.Name || 'no',
    MaximumRetryCount: body.RestartPolicy?.MaximumRetryCount ?? 0,
  };
  return {
    Binds: body.Binds ?? null,
    ContainerIDFile: body.ContainerIDFile ?? '',
    LogConfig: { Type: logType, Config: { ...ownOptions, ...body.LogConfig?.Config } },
    NetworkMode: networkMode === 'default' ? 'bridge' : networkMode,
    PortBindings: portBindings(body),
    RestartPolicy: policy as RestartPolicy,
    AutoRemove: body.AutoRemove ?? false,
    VolumeDriver: body.VolumeDriver ?? '',
    VolumesFrom: body.VolumesFrom ?? null,
    ConsoleSize: [body.ConsoleSize?.[0] ?? 0, body.ConsoleSize?.[1] ?? 0],
    ...given({ Annotations: body.Annotations ?? undefined } as Pick<HostConfig, 'Annotations'>),
    Dns: body.Dns ?? [],
    DnsOptions: body.DnsOptions ?? [],
    DnsSearch: body.DnsSearch ?? [],
    ExtraHosts: body.ExtraHosts ?? null,
    Links: body.Links ?? null,
    OomScoreAdj: body.OomScoreAdj ?? 0,
    PublishAllPorts: body.PublishAllPorts ?? false,
    ...given({
      StorageOpt: body.StorageOpt ?? undefined,
      Tmpfs: body.Tmpfs ?? undefined,
      Sysctls: body.Sysctls ?? undefined,
      Mounts: body.Mounts?.length ? body.Mounts.map(fillMount) : undefined,
      Init: body.Init ?? (defaults.init || undefined),
    } as Pick<HostConfig, 'StorageOpt' | 'Tmpfs' | 'Sysctls' | 'Mounts' | 'Init'>),
    ShmSize: body.ShmSize || defaults.shmSizeBytes,
    Runtime: body.Runtime || defaults.runtime,
    Isolation: body.Isolation ?? '',
    Devices: (body.Devices ?? []).map(({ PathOnHost, PathInContainer, CgroupPermissions }) => ({
      PathOnHost,
      PathInContainer: PathInContainer || PathOnHost,
      CgroupPermissions: CgroupPermissions || 'rwm',
    })),
    DeviceCgroupRules: body.DeviceCgroupRules ?? null,
    DeviceRequests: body.DeviceRequests ?? null,
    ...fillIsolation(body, defaults),
    ...fillLimits(body),
  };
}
