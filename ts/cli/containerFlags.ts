/** The flags that `run` and `create` share; their names are docker's. */
import type { Flag } from './arguments.ts';

export const CONTAINER_FLAGS: readonly Flag[] = [
  ['--add-host <host:ip>', 'Add a line to /etc/hosts', 'list'],
  ['--annotation <key=value>', 'Add an annotation for the runtime', 'list'],
  ['-a, --attach <stream>', 'Attach to stdin, stdout or stderr', 'list'],
  ['--blkio-weight <10-1000>', 'Share of disk time'],
  ['--blkio-weight-device <path:weight>', 'Share of the time of one disk', 'list'],
  ['--cap-add <capability>', 'Add a capability', 'list'],
  ['--cap-drop <capability>', 'Drop a capability', 'list'],
  ['--cgroup-parent <path>', 'Parent cgroup'],
  ['--cgroupns <mode>', 'Cgroup namespace: host or private'],
  ['--cidfile <path>', "Write the container's id to a file"],
  ['--cpu-count <n>', 'Number of CPUs (Windows only)'],
  ['--cpu-percent <n>', 'Percent of CPU (Windows only)'],
  ['--cpu-period <µs>', 'Length of a CFS period'],
  ['--cpu-quota <µs>', 'CPU time in a CFS period'],
  ['--cpu-rt-period <µs>', 'Length of a real-time period'],
  ['--cpu-rt-runtime <µs>', 'Real-time CPU time in a period'],
  ['-c, --cpu-shares <weight>', 'Relative CPU weight'],
  ['--cpus <number>', 'Number of CPUs'],
  ['--cpuset-cpus <list>', 'CPUs it may run on (0-3, 0,1)'],
  ['--cpuset-mems <list>', 'Memory nodes it may use'],
  ['--device <host[:container[:rwm]]>', 'Add a device of the host', 'list'],
  ['--device-cgroup-rule <rule>', 'Allow kinds of devices (c 10:229 rwm)', 'list'],
  ['--device-read-bps <path:bytes>', 'Limit of bytes a second read from a disk', 'list'],
  ['--device-read-iops <path:n>', 'Limit of reads a second from a disk', 'list'],
  ['--device-write-bps <path:bytes>', 'Limit of bytes a second written to a disk', 'list'],
  ['--device-write-iops <path:n>', 'Limit of writes a second to a disk', 'list'],
  ['--disable-content-trust', 'Kept for Docker’s sake: signatures are not checked', 'on'],
  ['--dns <address>', 'Set a DNS server', 'list'],
  ['--dns-option <option>', 'Set a resolver option', 'list'],
  ['--dns-search <domain>', 'Set a search domain', 'list'],
  ['--domainname <name>', "The container's NIS domain name"],
  ['--entrypoint <command>', "Overwrite the image's entrypoint"],
  ['-e, --env <name[=value]>', 'Set an environment variable', 'list'],
  ['--env-file <path>', 'Read environment variables from a file', 'list'],
  ['--expose <port>', 'Declare a port', 'list'],
  ['--gpus <request>', 'Graphics processors: all, a number, or device=…'],
  ['--group-add <group>', 'Add the user to a group', 'list'],
  ['--health-cmd <command>', 'Command that checks health'],
  ['--health-interval <duration>', 'Time between two checks'],
  ['--health-retries <n>', 'Failures in a row until unhealthy'],
  ['--health-start-interval <duration>', 'Time between two checks in the start period'],
  ['--health-start-period <duration>', 'Time in which failures do not count'],
  ['--health-timeout <duration>', 'Longest time that one check may take'],
  ['-h, --hostname <name>', "The container's host name"],
  ['--init', 'Run an init that forwards signals and reaps processes'],
  ['-i, --interactive', 'Keep stdin open'],
  ['--io-maxbandwidth <bytes>', 'Bytes a second of the system drive (Windows only)'],
  ['--io-maxiops <n>', 'Operations a second of the system drive (Windows only)'],
  ['--ip <address>', 'IPv4 address'],
  ['--ip6 <address>', 'IPv6 address'],
  ['--ipc <mode>', 'IPC namespace'],
  ['--isolation <technology>', 'default'],
  ['--kernel-memory <bytes>', 'Kept for Docker’s sake: the kernel has no such limit any more'],
  ['-l, --label <key=value>', 'Set a label', 'list'],
  ['--label-file <path>', 'Read labels from a file', 'list'],
  ['--link <container:alias>', 'Know another container by a name of one’s own', 'list'],
  ['--link-local-ip <address>', 'Link-local address', 'list'],
  ['--log-driver <driver>', 'Log driver'],
  ['--log-opt <key=value>', 'Option of the log driver', 'list'],
  ['--mac-address <address>', 'MAC address'],
  ['-m, --memory <bytes>', 'Memory limit'],
  ['--memory-reservation <bytes>', 'Soft memory limit'],
  ['--memory-swap <bytes>', 'Limit of memory and swap together; -1: no limit of swap'],
  ['--memory-swappiness <0-100>', 'Swappiness'],
  ['--mount <spec>', 'Attach a filesystem (type=bind|volume|tmpfs,src=…,dst=…)', 'list'],
  ['--name <name>', 'Name of the container'],
  ['--network <network>', 'Network to join: a name, or name=…,alias=…,ip=…,ip6=…,mac-address=…,gw-priority=…', 'list'],
  ['--network-alias <name>', 'Further name in the network', 'list'],
  ['--no-healthcheck', 'No check of health, whatever the image says'],
  ['--oom-kill-disable', 'Do not kill when out of memory'],
  ['--oom-score-adj <-1000..1000>', "Preference of the host's OOM killer"],
  ['--pid <mode>', 'PID namespace'],
  ['--pids-limit <n>', 'Limit of processes; -1: none'],
  ['--platform <os/arch>', 'Platform of the image'],
  ['--privileged', 'Give extended privileges'],
  ['-p, --publish <[ip:][host:]container[/proto]>', 'Publish a port', 'list'],
  ['-P, --publish-all', 'Publish all declared ports at random ones'],
  ['--pull <policy>', 'Pull the image first: always, missing, never'],
  ['-q, --quiet', 'No progress of a pull'],
  ['--read-only', "Mount the container's root read-only"],
  ['--restart <policy>', 'no, on-failure[:n], always, unless-stopped'],
  ['--rm', 'Remove the container when it exits'],
  ['--runtime <name>', 'Runtime to use'],
  ['--security-opt <option>', 'Security option', 'list'],
  ['--shm-size <bytes>', 'Size of /dev/shm'],
  ['--stop-signal <signal>', 'Signal that stops it'],
  ['--stop-timeout <seconds>', 'Seconds until it is killed'],
  ['--storage-opt <key=value>', 'Option of the root filesystem (size=10G)', 'list'],
  ['--sysctl <key=value>', 'Set a kernel parameter', 'list'],
  ['--tmpfs <path[:options]>', 'Mount a tmpfs', 'list'],
  ['-t, --tty', 'Allocate a terminal'],
  ['--ulimit <name=soft[:hard]>', 'Set a resource limit', 'list'],
  ['--use-api-socket', 'Give the container the engine’s socket and the logins of its registries'],
  ['-u, --user <name|uid[:group|gid]>', 'User to run as'],
  ['--userns <mode>', 'User namespace'],
  ['--uts <mode>', 'UTS namespace'],
  ['-v, --volume <[source:]target[:options]>', 'Mount a volume or directory', 'list'],
  ['--volume-driver <driver>', 'Driver of the volumes that are made'],
  ['--volumes-from <container>', 'Mount the volumes of a container', 'list'],
  ['-w, --workdir <path>', 'Working directory'],
];

/** What commander makes of them. */
export interface ContainerFlags {
  addHost: string[];
  annotation: string[];
  attach: string[];
  blkioWeight?: string;
  blkioWeightDevice: string[];
  capAdd: string[];
  capDrop: string[];
  cgroupParent?: string;
  cgroupns?: string;
  cidfile?: string;
  cpuCount?: string;
  cpuPercent?: string;
  cpuPeriod?: string;
  cpuQuota?: string;
  cpuRtPeriod?: string;
  cpuRtRuntime?: string;
  cpuShares?: string;
  cpus?: string;
  cpusetCpus?: string;
  cpusetMems?: string;
  device: string[];
  deviceCgroupRule: string[];
  deviceReadBps: string[];
  deviceReadIops: string[];
  deviceWriteBps: string[];
  deviceWriteIops: string[];
  disableContentTrust: boolean;
  dns: string[];
  dnsOption: string[];
  dnsSearch: string[];
  domainname?: string;
  entrypoint?: string;
  env: string[];
  envFile: string[];
  expose: string[];
  gpus?: string;
  groupAdd: string[];
  healthCmd?: string;
  healthInterval?: string;
  healthRetries?: string;
  healthStartInterval?: string;
  healthStartPeriod?: string;
  healthTimeout?: string;
  hostname?: string;
  init?: boolean;
  interactive?: boolean;
  ioMaxbandwidth?: string;
  ioMaxiops?: string;
  ip?: string;
  ip6?: string;
  ipc?: string;
  isolation?: string;
  kernelMemory?: string;
  label: string[];
  labelFile: string[];
  link: string[];
  linkLocalIp: string[];
  logDriver?: string;
  logOpt: string[];
  macAddress?: string;
  memory?: string;
  memoryReservation?: string;
  memorySwap?: string;
  memorySwappiness?: string;
  mount: string[];
  name?: string;
  network: string[];
  networkAlias: string[];
  healthcheck: boolean;
  oomKillDisable?: boolean;
  oomScoreAdj?: string;
  pid?: string;
  pidsLimit?: string;
  platform?: string;
  privileged?: boolean;
  publish: string[];
  publishAll?: boolean;
  pull?: string;
  quiet?: boolean;
  readOnly?: boolean;
  restart?: string;
  rm?: boolean;
  runtime?: string;
  securityOpt: string[];
  shmSize?: string;
  stopSignal?: string;
  stopTimeout?: string;
  storageOpt: string[];
  sysctl: string[];
  tmpfs: string[];
  tty?: boolean;
  ulimit: string[];
  useApiSocket?: boolean;
  user?: string;
  userns?: string;
  uts?: string;
  volume: string[];
  volumeDriver?: string;
  volumesFrom: string[];
  workdir?: string;
}
