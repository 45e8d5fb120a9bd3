/**
 * Bodies of the container routes. Every field may be absent or null, as Go's clients send it; a field of another type is
 * a 400 that names it. Fields that are not listed are looked at by containers/unsupported.ts: none is ignored.
 */
import { type Static, Type } from 'typebox';

const optional = <T extends Type.TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]));

const string = () => optional(Type.String());
const boolean = () => optional(Type.Boolean());
/** Go's int64; beyond 2^53 a JSON number is not exact any more. */
const integer = () => optional(Type.Integer());
const strings = () => optional(Type.Array(Type.String()));
const stringMap = () => optional(Type.Record(Type.String(), Type.String()));
/** Docker's StrSlice: a list, or one string. */
const command = () => optional(Type.Union([Type.Array(Type.String()), Type.String()]));
const emptyObjects = () => optional(Type.Record(Type.String(), Type.Union([Type.Object({}), Type.Null()])));

const portBinding = Type.Object({ HostIp: string(), HostPort: string() });

const deviceRate = optional(Type.Array(Type.Object({ Path: Type.String(), Rate: Type.Integer({ minimum: 0 }) })));

const mountRequest = Type.Object({
  Type: string(),
  Source: string(),
  Target: string(),
  ReadOnly: boolean(),
  Consistency: string(),
  BindOptions: optional(
    Type.Object({
      Propagation: string(),
      NonRecursive: boolean(),
      CreateMountpoint: boolean(),
      ReadOnlyNonRecursive: boolean(),
      ReadOnlyForceRecursive: boolean(),
    }),
  ),
  VolumeOptions: optional(
    Type.Object({
      NoCopy: boolean(),
      Labels: stringMap(),
      Subpath: string(),
      DriverConfig: optional(Type.Object({ Name: string(), Options: stringMap() })),
    }),
  ),
  ImageOptions: optional(Type.Object({ Subpath: string() })),
  TmpfsOptions: optional(
    Type.Object({ SizeBytes: integer(), Mode: integer(), Options: optional(Type.Array(Type.Array(Type.String()))) }),
  ),
});

export type MountBody = Static<typeof mountRequest>;

const deviceRequest = Type.Object({
  Driver: string(),
  Count: integer(),
  DeviceIDs: strings(),
  Capabilities: optional(Type.Array(Type.Array(Type.String()))),
  Options: stringMap(),
});

export type DeviceRequest = Static<typeof deviceRequest>;

const hostConfig = Type.Object({
  Binds: strings(),
  ContainerIDFile: string(),
  LogConfig: optional(Type.Object({ Type: string(), Config: stringMap() })),
  NetworkMode: string(),
  PortBindings: optional(Type.Record(Type.String(), Type.Union([Type.Array(portBinding), Type.Null()]))),
  RestartPolicy: optional(Type.Object({ Name: string(), MaximumRetryCount: integer() })),
  AutoRemove: boolean(),
  VolumeDriver: string(),
  VolumesFrom: strings(),
  ConsoleSize: optional(Type.Array(Type.Integer({ minimum: 0, maximum: 65535 }), { minItems: 2, maxItems: 2 })),
  Annotations: stringMap(),
  CapAdd: strings(),
  CapDrop: strings(),
  CgroupnsMode: string(),
  Dns: strings(),
  DnsOptions: strings(),
  DnsSearch: strings(),
  ExtraHosts: strings(),
  GroupAdd: strings(),
  IpcMode: string(),
  Cgroup: string(),
  Links: strings(),
  OomScoreAdj: integer(),
  PidMode: string(),
  Privileged: boolean(),
  PublishAllPorts: boolean(),
  ReadonlyRootfs: boolean(),
  SecurityOpt: strings(),
  StorageOpt: stringMap(),
  Tmpfs: stringMap(),
  UTSMode: string(),
  UsernsMode: string(),
  ShmSize: integer(),
  Sysctls: stringMap(),
  Runtime: string(),
  Isolation: string(),
  CpuShares: integer(),
  Memory: integer(),
  NanoCpus: integer(),
  CgroupParent: string(),
  BlkioWeight: optional(Type.Integer({ minimum: 0, maximum: 65535 })),
  BlkioWeightDevice: optional(
    Type.Array(Type.Object({ Path: Type.String(), Weight: Type.Integer({ minimum: 0, maximum: 65535 }) })),
  ),
  BlkioDeviceReadBps: deviceRate,
  BlkioDeviceWriteBps: deviceRate,
  BlkioDeviceReadIOps: deviceRate,
  BlkioDeviceWriteIOps: deviceRate,
  CpuPeriod: integer(),
  CpuQuota: integer(),
  CpuRealtimePeriod: integer(),
  CpuRealtimeRuntime: integer(),
  CpusetCpus: string(),
  CpusetMems: string(),
  Devices: optional(
    Type.Array(Type.Object({ PathOnHost: Type.String(), PathInContainer: string(), CgroupPermissions: string() })),
  ),
  DeviceCgroupRules: strings(),
  DeviceRequests: optional(Type.Array(deviceRequest)),
  MemoryReservation: integer(),
  MemorySwap: integer(),
  MemorySwappiness: integer(),
  OomKillDisable: boolean(),
  PidsLimit: integer(),
  Ulimits: optional(Type.Array(Type.Object({ Name: Type.String(), Soft: Type.Integer(), Hard: Type.Integer() }))),
  CpuCount: integer(),
  CpuPercent: integer(),
  IOMaximumIOps: integer(),
  IOMaximumBandwidth: integer(),
  Mounts: optional(Type.Array(mountRequest)),
  MaskedPaths: strings(),
  ReadonlyPaths: strings(),
  Init: boolean(),
});

export type HostConfigBody = Static<typeof hostConfig>;

export const endpoint = Type.Object({
  IPAMConfig: optional(Type.Object({ IPv4Address: string(), IPv6Address: string(), LinkLocalIPs: strings() })),
  Links: strings(),
  Aliases: strings(),
  MacAddress: string(),
  DriverOpts: stringMap(),
  GwPriority: integer(),
});

export const createBody = Type.Object({
  Hostname: string(),
  Domainname: string(),
  User: string(),
  AttachStdin: boolean(),
  AttachStdout: boolean(),
  AttachStderr: boolean(),
  ExposedPorts: emptyObjects(),
  Tty: boolean(),
  OpenStdin: boolean(),
  StdinOnce: boolean(),
  Env: strings(),
  Cmd: command(),
  Healthcheck: optional(
    Type.Object({
      Test: strings(),
      Interval: integer(),
      Timeout: integer(),
      StartPeriod: integer(),
      StartInterval: integer(),
      Retries: integer(),
    }),
  ),
  Image: string(),
  Volumes: emptyObjects(),
  WorkingDir: string(),
  Entrypoint: command(),
  NetworkDisabled: boolean(),
  MacAddress: string(),
  OnBuild: strings(),
  Labels: stringMap(),
  StopSignal: string(),
  StopTimeout: integer(),
  Shell: command(),
  /** Where old clients put it; HostConfig's own goes first. */
  Runtime: string(),
  HostConfig: optional(hostConfig),
  NetworkingConfig: optional(
    Type.Object({ EndpointsConfig: optional(Type.Record(Type.String(), Type.Union([endpoint, Type.Null()]))) }),
  ),
});

export type CreateBody = Static<typeof createBody>;

const hostFields = hostConfig.properties;

/** `POST /containers/{id}/update`: what else Go's Resources have is looked at by containers/unsupported.ts. */
export const updateBody = Type.Object({
  BlkioWeight: hostFields.BlkioWeight,
  CpuShares: integer(),
  NanoCpus: integer(),
  CpuPeriod: integer(),
  CpuQuota: integer(),
  CpusetCpus: string(),
  CpusetMems: string(),
  Memory: integer(),
  MemorySwap: integer(),
  MemoryReservation: integer(),
  PidsLimit: integer(),
  RestartPolicy: hostFields.RestartPolicy,
  /** caisson's own: publications that come and go while the container runs. */
  PublishAdd: hostFields.PortBindings,
  PublishRemove: hostFields.PortBindings,
});

export type UpdateBody = Static<typeof updateBody>;

export const execBody = Type.Object({
  User: string(),
  Privileged: boolean(),
  Tty: boolean(),
  ConsoleSize: optional(Type.Array(Type.Integer({ minimum: 0, maximum: 65535 }), { minItems: 2, maxItems: 2 })),
  AttachStdin: boolean(),
  AttachStderr: boolean(),
  AttachStdout: boolean(),
  DetachKeys: string(),
  Env: strings(),
  WorkingDir: string(),
  Cmd: strings(),
});

export type ExecBody = Static<typeof execBody>;

export const execStartBody = Type.Object({
  Detach: boolean(),
  Tty: boolean(),
  ConsoleSize: optional(Type.Array(Type.Integer({ minimum: 0, maximum: 65535 }), { minItems: 2, maxItems: 2 })),
});
