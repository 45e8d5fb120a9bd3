/** Wire types of Docker's API 1.51, in its own capitals, as far as this library gives them out. */

export interface PortBinding {
  HostIp?: string;
  HostPort?: string;
}

export interface MountSpec {
  Type: 'bind' | 'volume' | 'tmpfs' | 'image';
  Source?: string;
  Target: string;
  ReadOnly?: boolean;
  Consistency?: string;
  BindOptions?: {
    Propagation?: string;
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
  TmpfsOptions?: { SizeBytes?: number; Mode?: number };
}

/** Bytes or operations a second. */
export interface DeviceRate {
  Path: string;
  Rate: number;
}

export interface DeviceRequest {
  Driver: string;
  /** -1: all. */
  Count: number;
  DeviceIDs?: string[];
  Capabilities: string[][];
  Options?: Record<string, string>;
}

export interface HostConfig {
  Binds?: string[];
  Mounts?: MountSpec[];
  Tmpfs?: Record<string, string>;
  NetworkMode?: string;
  PortBindings?: Record<string, PortBinding[]>;
  PublishAllPorts?: boolean;
  RestartPolicy?: { Name: string; MaximumRetryCount?: number };
  AutoRemove?: boolean;
  Memory?: number;
  MemoryReservation?: number;
  MemorySwap?: number;
  MemorySwappiness?: number;
  NanoCpus?: number;
  CpuShares?: number;
  CpuPeriod?: number;
  CpuQuota?: number;
  CpusetCpus?: string;
  CpusetMems?: string;
  PidsLimit?: number;
  CapAdd?: string[];
  CapDrop?: string[];
  Privileged?: boolean;
  SecurityOpt?: string[];
  ReadonlyRootfs?: boolean;
  Init?: boolean;
  Ulimits?: { Name: string; Soft: number; Hard: number }[];
  Sysctls?: Record<string, string>;
  Devices?: { PathOnHost: string; PathInContainer: string; CgroupPermissions: string }[];
  Dns?: string[];
  DnsOptions?: string[];
  DnsSearch?: string[];
  ExtraHosts?: string[];
  GroupAdd?: string[];
  LogConfig?: { Type: string; Config: Record<string, string> };
  ShmSize?: number;
  OomScoreAdj?: number;
  OomKillDisable?: boolean;
  IpcMode?: string;
  PidMode?: string;
  UTSMode?: string;
  UsernsMode?: string;
  CgroupnsMode?: string;
  CgroupParent?: string;
  Runtime?: string;
  Isolation?: string;
  VolumeDriver?: string;
  StorageOpt?: Record<string, string>;
  BlkioWeight?: number;
  BlkioWeightDevice?: { Path: string; Weight: number }[];
  BlkioDeviceReadBps?: DeviceRate[];
  BlkioDeviceReadIOps?: DeviceRate[];
  BlkioDeviceWriteBps?: DeviceRate[];
  BlkioDeviceWriteIOps?: DeviceRate[];
  CpuRealtimePeriod?: number;
  CpuRealtimeRuntime?: number;
  DeviceCgroupRules?: string[];
  DeviceRequests?: DeviceRequest[];
  Links?: string[];
  VolumesFrom?: string[];
  Annotations?: Record<string, string>;
  ConsoleSize?: [number, number];
}

export interface ContainerConfig {
  Image: string;
  Cmd?: string[];
  Entrypoint?: string[];
  Env?: string[];
  Labels?: Record<string, string>;
  WorkingDir?: string;
  User?: string;
  Hostname?: string;
  Domainname?: string;
  ExposedPorts?: Record<string, object>;
  Volumes?: Record<string, object>;
  Tty?: boolean;
  OpenStdin?: boolean;
  StdinOnce?: boolean;
  AttachStdin?: boolean;
  AttachStdout?: boolean;
  AttachStderr?: boolean;
  StopSignal?: string;
  StopTimeout?: number;
  Healthcheck?: {
    Test?: string[];
    Interval?: number;
    Timeout?: number;
    StartPeriod?: number;
    StartInterval?: number;
    Retries?: number;
  };
}

/** What an attachment to a network may ask for. */
export interface EndpointConfig {
  IPAMConfig?: { IPv4Address?: string; IPv6Address?: string; LinkLocalIPs?: string[] };
  Links?: string[];
  Aliases?: string[];
  MacAddress?: string;
  DriverOpts?: Record<string, string>;
  /** The highest of a container's networks has its default route. */
  GwPriority?: number;
}

export interface NetworkCreateBody {
  Name: string;
  /** `bridge`, `macvlan` or `ipvlan`. */
  Driver?: string;
  EnableIPv4?: boolean;
  EnableIPv6?: boolean;
  Internal?: boolean;
  Attachable?: boolean;
  Ingress?: boolean;
  ConfigOnly?: boolean;
  ConfigFrom?: { Network: string };
  Scope?: string;
  IPAM?: {
    Driver?: string;
    Options?: Record<string, string>;
    Config: { Subnet?: string; Gateway?: string; IPRange?: string; AuxiliaryAddresses?: Record<string, string> }[];
  };
  Options?: Record<string, string>;
  Labels?: Record<string, string>;
}

export interface NetworkDetails extends Required<Omit<NetworkCreateBody, 'IPAM'>> {
  Id: string;
  Created: string;
  Scope: string;
  IPAM: { Driver: string; Config: { Subnet: string; Gateway?: string; IPRange?: string }[] | null };
  /** By id; empty in lists. */
  Containers: Record<
    string,
    { Name: string; EndpointID: string; MacAddress: string; IPv4Address: string; IPv6Address: string }
  >;
}

export interface VolumeCreateBody {
  /** Absent: an anonymous volume. */
  Name?: string;
  Driver?: string;
  DriverOpts?: Record<string, string>;
  Labels?: Record<string, string>;
}

export interface VolumeDetails {
  Name: string;
  Driver: string;
  Mountpoint: string;
  CreatedAt: string;
  Scope: string;
  Labels: Record<string, string> | null;
  Options: Record<string, string> | null;
  /** In `diskUsage` only. */
  UsageData?: { Size: number; RefCount: number };
}

/** What takes room on the engine's disk. */
export interface DiskUsage {
  LayersSize: number;
  Images: ImageSummary[] | null;
  Containers: ContainerSummary[] | null;
  Volumes: VolumeDetails[] | null;
  BuildCache: BuildCacheRecord[] | null;
}

export interface BuildCacheRecord {
  ID: string;
  Type: string;
  Size: number;
  InUse: boolean;
  Shared: boolean;
  CreatedAt: string;
  LastUsedAt: string | null;
  UsageCount: number;
}

export interface CreateBody extends ContainerConfig {
  HostConfig?: HostConfig;
  NetworkingConfig?: { EndpointsConfig: Record<string, EndpointConfig> };
}

export interface ContainerSummary {
  Id: string;
  Names: string[];
  Image: string;
  ImageID: string;
  Command: string;
  /** Seconds since 1970. */
  Created: number;
  Ports: { IP?: string; PrivatePort: number; PublicPort?: number; Type: string }[] | null;
  Labels: Record<string, string> | null;
  State: string;
  Status: string;
  SizeRw?: number;
  SizeRootFs?: number;
  HostConfig?: { NetworkMode?: string; Annotations?: Record<string, string> };
  Mounts?: { Type: string; Name?: string; Source: string; Destination: string; Driver?: string }[];
  NetworkSettings?: { Networks?: Record<string, { IPAddress?: string }> };
}

export interface ContainerDetails {
  Id: string;
  Name: string;
  Created: string;
  Path: string;
  Args: string[];
  Image: string;
  State: {
    Status: string;
    Running: boolean;
    Paused: boolean;
    ExitCode: number;
    Error: string;
    Pid: number;
    OOMKilled: boolean;
  };
  Config: ContainerConfig & { Tty: boolean; OpenStdin: boolean };
  HostConfig: HostConfig;
  NetworkSettings: { Ports?: Record<string, PortBinding[] | null>; IPAddress?: string };
}

export interface ImageSummary {
  Id: string;
  RepoTags: string[] | null;
  RepoDigests: string[] | null;
  Created: number;
  Size: number;
  /** -1: not computed. */
  SharedSize: number;
  Labels: Record<string, string> | null;
  Containers: number;
}

export interface ImageDetails {
  Id: string;
  RepoTags: string[] | null;
  RepoDigests: string[] | null;
  Created: string;
  Size: number;
  Architecture: string;
  Os: string;
  Config: Omit<ContainerConfig, 'Image'>;
}

export interface HistoryItem {
  Id: string;
  Created: number;
  CreatedBy: string;
  Tags: string[] | null;
  Size: number;
  Comment: string;
}

export interface EventMessage {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  scope?: string;
  time: number;
  timeNano: number;
}

export interface VersionInfo {
  Version: string;
  ApiVersion: string;
  MinAPIVersion?: string;
  GitCommit?: string;
  Os: string;
  Arch: string;
  KernelVersion?: string;
  BuildTime?: string;
  Components?: { Name: string; Version: string; Details?: Record<string, string> }[];
}

/** What the engine is and has; the fields that are named here are those the CLI shows. */
export interface SystemInfo {
  ID: string;
  Name: string;
  Containers: number;
  ContainersRunning: number;
  ContainersPaused: number;
  ContainersStopped: number;
  Images: number;
  ServerVersion: string;
  Driver: string;
  DriverStatus: [string, string][];
  LoggingDriver: string;
  CgroupDriver: string;
  CgroupVersion: string;
  Plugins: { Volume: string[]; Network: string[]; Log: string[] };
  Runtimes: Record<string, { path?: string }>;
  DefaultRuntime: string;
  SecurityOptions: string[] | null;
  KernelVersion: string;
  OperatingSystem: string;
  OSType: string;
  Architecture: string;
  NCPU: number;
  MemTotal: number;
  DockerRootDir: string;
  Debug: boolean;
  Labels: string[] | null;
  HttpProxy?: string;
  HttpsProxy?: string;
  NoProxy?: string;
  RegistryConfig?: { InsecureRegistryCIDRs: string[] | null; Mirrors: string[] | null };
  LiveRestoreEnabled: boolean;
  /** `ClosedBy`: chains of the host that drop what comes for published ports. */
  FirewallBackend?: { Driver: string; Info?: [string, string][] };
  Warnings: string[] | null;
  [other: string]: unknown;
}

/** Values of filters by name; an event or object matches if it has one of the values of each. */
export type Filters = Record<string, string[]>;

export interface Credentials {
  username?: string;
  password?: string;
  identitytoken?: string;
  serveraddress?: string;
}

/** What a path in a container is. */
export interface PathStat {
  name: string;
  size: number;
  /** Go's: the permission bits, and above them what kind of file it is. */
  mode: number;
  mtime: string;
  /** Of a symbolic link, where it leads to. */
  linkTarget: string;
}

export interface FileChange {
  /** 0 changed, 1 added, 2 deleted. */
  Kind: number;
  Path: string;
}

/** What `update` may change; 0 and '' mean "as it is". */
export interface UpdateBody {
  BlkioWeight?: number | undefined;
  CpuShares?: number | undefined;
  NanoCpus?: number | undefined;
  CpuPeriod?: number | undefined;
  CpuQuota?: number | undefined;
  CpusetCpus?: string | undefined;
  CpusetMems?: string | undefined;
  Memory?: number | undefined;
  MemorySwap?: number | undefined;
  MemoryReservation?: number | undefined;
  PidsLimit?: number | undefined;
  RestartPolicy?: { Name: string; MaximumRetryCount?: number } | undefined;
  /** Published from now on, also while it runs; what is taken away is named as it was published. */
  PublishAdd?: Record<string, PortBinding[]> | undefined;
  PublishRemove?: Record<string, PortBinding[]> | undefined;
}

interface CpuReading {
  cpu_usage: { total_usage: number };
  system_cpu_usage?: number;
  online_cpus?: number;
}

/** One reading of `stats`: what the CLI shows of it. */
export interface StatsReading {
  name: string;
  id: string;
  read: string;
  preread: string;
  pids_stats: { current?: number };
  blkio_stats: { io_service_bytes_recursive?: { op: string; value: number }[] | null };
  cpu_stats: CpuReading;
  precpu_stats: CpuReading;
  memory_stats: { usage?: number; limit?: number; stats?: Record<string, number> };
  networks?: Record<string, { rx_bytes: number; tx_bytes: number }>;
}

export interface SearchResult {
  name: string;
  description: string;
  star_count: number;
  is_official: boolean;
}

/** What `docker commit` takes beside the container. */
export interface CommitOptions {
  /** `repository[:tag]`; absent: an image without a name. */
  name?: string | undefined;
  author?: string | undefined;
  message?: string | undefined;
  /** Dockerfile instructions. */
  changes?: string[];
  /** Stop the processes while their files are read; on unless false. */
  pause?: boolean;
}
