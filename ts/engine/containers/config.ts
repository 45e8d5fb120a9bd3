/**
 * What a container was asked to be. Config and HostConfig keep Docker's own names and shapes: they come in by the API,
 * are stored as they are and go out by inspect; nothing between would gain from a second vocabulary.
 */
import type { DeviceRequest } from '../api/schemas/containers.ts';
import type { Healthcheck } from './healthcheck.ts';

export interface ContainerConfig {
  Hostname: string;
  Domainname: string;
  User: string;
  AttachStdin: boolean;
  AttachStdout: boolean;
  AttachStderr: boolean;
  ExposedPorts?: Record<string, object>;
  Tty: boolean;
  OpenStdin: boolean;
  StdinOnce: boolean;
  Env: string[];
  Cmd: string[] | null;
  Image: string;
  Volumes: Record<string, object> | null;
  WorkingDir: string;
  Entrypoint: string[] | null;
  OnBuild: string[] | null;
  Labels: Record<string, string>;
  StopSignal?: string;
  StopTimeout?: number;
  Shell?: string[];
  Healthcheck?: Healthcheck;
  /** It has its loopback alone, whatever its NetworkMode says. */
  NetworkDisabled?: boolean;
}

export interface PortBinding {
  HostIp: string;
  HostPort: string;
}

export interface RestartPolicy {
  Name: '' | 'no' | 'always' | 'on-failure' | 'unless-stopped';
  MaximumRetryCount: number;
}

export interface DeviceMapping {
  PathOnHost: string;
  PathInContainer: string;
  CgroupPermissions: string;
}

export interface Ulimit {
  Name: string;
  Soft: number;
  Hard: number;
}

export type Propagation = '' | 'private' | 'rprivate' | 'shared' | 'rshared' | 'slave' | 'rslave';

/** An entry of HostConfig.Mounts (`--mount`). */
export interface MountRequest {
  Type: 'bind' | 'volume' | 'tmpfs' | 'image';
  Source?: string;
  Target: string;
  ReadOnly?: boolean;
  BindOptions?: {
    Propagation?: Propagation;
    NonRecursive?: boolean;
    CreateMountpoint?: boolean;
    ReadOnlyNonRecursive?: boolean;
    ReadOnlyForceRecursive?: boolean;
  };
  VolumeOptions?: {
    NoCopy?: boolean;
    Labels?: Record<string, string>;
    Subpath?: string;
    DriverConfig?: { Name?: string; Options?: Record<string, string> };
  };
  ImageOptions?: { Subpath?: string };
  TmpfsOptions?: { SizeBytes?: number; Mode?: number; Options?: string[][] };
}

/** One weight or rate for one block device (`--blkio-weight-device`, `--device-read-bps`, …). */
export interface DeviceWeight {
  Path: string;
  Weight: number;
}
export interface DeviceRate {
  Path: string;
  Rate: number;
}

export interface HostConfig {
  Binds: string[] | null;
  ContainerIDFile: string;
  LogConfig: { Type: string; Config: Record<string, string> };
  NetworkMode: string;
  PortBindings: Record<string, PortBinding[]>;
  RestartPolicy: RestartPolicy;
  AutoRemove: boolean;
  VolumeDriver: string;
  VolumesFrom: string[] | null;
  ConsoleSize: [number, number];
  Annotations?: Record<string, string>;
  CapAdd: string[] | null;
  CapDrop: string[] | null;
  CgroupnsMode: '' | 'host' | 'private';
  Dns: string[];
  DnsOptions: string[];
  DnsSearch: string[];
  ExtraHosts: string[] | null;
  GroupAdd: string[] | null;
  IpcMode: string;
  Cgroup: string;
  Links: string[] | null;
  OomScoreAdj: number;
  PidMode: string;
  Privileged: boolean;
  PublishAllPorts: boolean;
  ReadonlyRootfs: boolean;
  SecurityOpt: string[] | null;
  StorageOpt?: Record<string, string>;
  Tmpfs?: Record<string, string>;
  UTSMode: string;
  UsernsMode: string;
  ShmSize: number;
  Sysctls?: Record<string, string>;
  Runtime: string;
  Isolation: string;
  CpuShares: number;
  Memory: number;
  NanoCpus: number;
  CgroupParent: string;
  BlkioWeight: number;
  BlkioWeightDevice: DeviceWeight[] | null;
  BlkioDeviceReadBps: DeviceRate[] | null;
  BlkioDeviceWriteBps: DeviceRate[] | null;
  BlkioDeviceReadIOps: DeviceRate[] | null;
  BlkioDeviceWriteIOps: DeviceRate[] | null;
  CpuPeriod: number;
  CpuQuota: number;
  CpuRealtimePeriod: number;
  CpuRealtimeRuntime: number;
  CpusetCpus: string;
  CpusetMems: string;
  Devices: DeviceMapping[] | null;
  DeviceCgroupRules: string[] | null;
  DeviceRequests: DeviceRequest[] | null;
  MemoryReservation: number;
  MemorySwap: number;
  MemorySwappiness: number | null;
  OomKillDisable: boolean | null;
  PidsLimit: number | null;
  Ulimits: Ulimit[] | null;
  CpuCount: number;
  CpuPercent: number;
  IOMaximumIOps: number;
  IOMaximumBandwidth: number;
  Mounts?: MountRequest[];
  MaskedPaths: string[] | null;
  ReadonlyPaths: string[] | null;
  Init?: boolean | null;
}

/** Where a mount of a container comes from, resolved: what inspect shows as `Mounts` and the spec binds. */
export interface MountPoint {
  type: 'bind' | 'volume' | 'tmpfs' | 'image';
  /** Of a volume; of an image as the user named it. */
  name?: string;
  driver?: string;
  /** Host path; empty for tmpfs and images. */
  source: string;
  destination: string;
  /** The mode part of `-v`, for example `ro,z`. */
  mode: string;
  writable: boolean;
  propagation: Propagation;
  /** Only the top mount is made read-only. */
  readOnlyNonRecursive?: boolean;
  nonRecursive?: boolean;
  /** tmpfs only. */
  tmpfsOptions?: string[];
  /** Volumes with a filesystem of their own: mounted in the container's namespace at its start. */
  filesystem?: { type: string; device: string; options: string[] };
  /** Images only: its files are there as they were at create, whatever becomes of its name. */
  image?: { id: string; chainId: string };
  /** Volumes and images: a directory or file in it, looked up at each start. */
  subpath?: string;
  /** Volumes only: the image's files at the destination are copied into the empty volume before the first start. */
  copyUp?: boolean;
  /** Volumes only: how it is made when it is not there at create. */
  made?: { labels: Record<string, string>; options: Record<string, string> };
  /** Volumes only: made for this container, removed with it. */
  anonymous?: boolean;
}
