/** What `docker info` and `docker version` show. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Graph } from '../../graph/graph.ts';
import { proxySettings } from '../../registry/client/settings.ts';
import type { Engine } from '../engine.ts';
import { LOG_DRIVERS } from '../logs/options.ts';
import { type CdiDevices, readCdiDevices } from '../runtime/cdi.ts';
import { type OciRuntimes, OWN_RUNTIME } from '../runtime/runtimes.ts';
import { API_VERSION, ENGINE_VERSION, MIN_API_VERSION } from '../version.ts';

const GO_ARCHITECTURE = { x86_64: 'amd64', aarch64: 'arm64' } as const;

export function versionInfo({ host, config }: Pick<Engine, 'host' | 'config'>): object {
  const arch = GO_ARCHITECTURE[host.architecture];
  // Clients expect the name of the language's version in this field, whatever the language.
  const language = `node${process.versions.node}`;
  return {
    Platform: { Name: 'caisson' },
    Components: [
      {
        Name: 'Engine',
        Version: ENGINE_VERSION,
        Details: {
          ApiVersion: API_VERSION,
          Arch: arch,
          BuildTime: '',
          Experimental: String(config.experimental),
          GitCommit: '',
          GoVersion: language,
          KernelVersion: host.kernelVersion,
          MinAPIVersion: MIN_API_VERSION,
          Os: 'linux',
        },
      },
      { Name: 'caisson-shim', Version: ENGINE_VERSION, Details: { GitCommit: '' } },
    ],
    Version: ENGINE_VERSION,
    ApiVersion: API_VERSION,
    MinAPIVersion: MIN_API_VERSION,
    GitCommit: '',
    GoVersion: language,
    Os: 'linux',
    Arch: arch,
    KernelVersion: host.kernelVersion,
    BuildTime: '',
    ...(config.experimental ? { Experimental: true } : {}),
  };
}

/** Who may ask for info may not know the proxy's password. */
function withoutPassword(proxy: string): string {
  if (!URL.canParse(proxy)) return proxy;
  const url = new URL(proxy);
  if (url.username === '' && url.password === '') return proxy;
  url.username = 'xxxxx';
  url.password = 'xxxxx';
  return url.href.replace(/\/$/, '');
}

/** With Docker's names. */
export const shownRuntimes = (runtimes: OciRuntimes): Record<string, { path: string; runtimeArgs?: string[] }> =>
  Object.fromEntries(
    Object.entries(runtimes).map(([name, { path, args }]) => [
      name,
      { path, ...(args.length > 0 ? { runtimeArgs: args } : {}) },
    ]),
  );

export function systemInfo(engine: Engine): object {
  const { config, host, graph, paths, volumes } = engine;
  const { running, paused, stopped } = containerStates(graph);
  const os = osRelease();
  const proxies = proxySettings(config.proxies);
  const devices = readCdiDevices(config.cdiSpecDirs);
  return {
    ID: engineId(engine),
    Containers: running + paused + stopped,
    ContainersRunning: running,
    ContainersPaused: paused,
    ContainersStopped: stopped,
    Images: graph.images.all().length - graph.images.hidden().size,
    Driver: 'overlay2',
    DriverStatus: [
      ['Backing Filesystem', backingFilesystem(paths.dataRoot)],
      ['Supports d_type', 'true'],
      ['Using metacopy', 'false'],
      ['Native Overlay Diff', 'true'],
      ['userxattr', 'false'],
      ['Mount API', host.overlayLowerdirPlus ? 'lowerdir+' : 'mount(2)'],
    ],
    Plugins: {
      Volume: volumes.drivers,
      Network: ['bridge', 'host', 'ipvlan', 'macvlan', 'null'],
      Authorization: listOrNull(config.authorizationPlugins),
      Log: LOG_DRIVERS,
    },
    MemoryLimit: host.memoryLimit,
    SwapLimit: host.swapLimit,
    CpuCfsPeriod: host.cpuCfsPeriod,
    CpuCfsQuota: host.cpuCfsQuota,
    CPUShares: host.cpuShares,
    CPUSet: host.cpuSet,
    PidsLimit: host.pidsLimit,
    IPv4Forwarding: readFirst('/proc/sys/net/ipv4/ip_forward') === '1',
    Debug: config.debug,
    NFd: readdirSync('/proc/self/fd').length,
    OomKillDisable: host.oomKillDisable,
    NGoroutines: process.getActiveResourcesInfo().length,
    SystemTime: new Date().toISOString(),
    LoggingDriver: config.logDriver,
    CgroupDriver: 'cgroupfs',
    CgroupVersion: String(host.cgroupVersion),
    NEventsListener: graph.events.followers,
    KernelVersion: host.kernelVersion,
    OperatingSystem: os['PRETTY_NAME'] ?? 'Linux',
    OSVersion: os['VERSION_ID'] ?? '',
    OSType: 'linux',
    Architecture: host.architecture,
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: registryConfig(engine),
    NCPU: host.cpus,
    MemTotal: host.totalMemoryBytes,
    GenericResources: null,
    DockerRootDir: paths.dataRoot,
    HttpProxy: withoutPassword(proxies.http),
    HttpsProxy: withoutPassword(proxies.https),
    NoProxy: proxies.no,
    Name: hostname(),
    Labels: config.labels,
    ExperimentalBuild: config.experimental,
    ServerVersion: ENGINE_VERSION,
    Runtimes: { [OWN_RUNTIME]: { path: 'caisson-shim' }, ...shownRuntimes(config.runtimes) },
    DefaultRuntime: config.defaultRuntime,
    Swarm: {
      NodeID: '',
      NodeAddr: '',
      LocalNodeState: 'inactive',
      ControlAvailable: false,
      Error: '',
      RemoteManagers: null,
    },
    // Containers always survive their daemon.
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: 'caisson-shim',
    ContainerdCommit: { ID: '' },
    RuncCommit: { ID: '' },
    InitCommit: { ID: '' },
    SecurityOptions: securityOptions(engine),
    FirewallBackend: { Driver: 'nftables', ...closedBy(engine) },
    CDISpecDirs: config.cdiSpecDirs,
    ...discoveredDevices(devices),
    Warnings: listOrNull([...warnings(engine), ...devices.warnings]),
  };
}

/** What of the host keeps published ports closed. */
function closedBy({ containers }: Engine): { Info?: [string, string][] } {
  const chains = containers.devices.firewall.closedBy;
  return chains.length > 0 ? { Info: [['ClosedBy', chains.join(', ')]] } : {};
}

const listOrNull = <T>(list: T[]): T[] | null => (list.length > 0 ? list : null);

function discoveredDevices({ devices }: CdiDevices): object {
  const found = [...devices.keys()].sort().map((id) => ({ Source: 'cdi', ID: id }));
  return found.length > 0 ? { DiscoveredDevices: found } : {};
}

/** A UUID made with the data-root. */
export function engineId({ graph }: Engine): string {
  const known = graph.meta.get('engine-id');
  if (known !== undefined) return known;
  const id = crypto.randomUUID();
  graph.meta.set('engine-id', id);
  return id;
}

function registryConfig({ config }: Engine): object {
  const index = (name: string, secure: boolean, mirrors: string[]): object => ({
    Mirrors: mirrors,
    Name: name,
    Official: name === 'docker.io',
    Secure: secure,
  });
  const isCidr = (registry: string): boolean => /^[0-9a-f.:]+\/\d+$/i.test(registry);
  return {
    IndexConfigs: {
      'docker.io': index('docker.io', true, config.registryMirrors),
      ...Object.fromEntries(
        config.insecureRegistries.filter((name) => !isCidr(name)).map((name) => [name, index(name, false, [])]),
      ),
    },
    InsecureRegistryCIDRs: ['::1/128', '127.0.0.0/8', ...config.insecureRegistries.filter(isCidr)],
    Mirrors: config.registryMirrors,
  };
}

function securityOptions({ config, host }: Engine): string[] {
  return [
    ...(host.apparmor ? ['name=apparmor'] : []),
    ...(host.seccomp ? [`name=seccomp,profile=${config.seccompProfile}`] : []),
    ...(host.selinux ? ['name=selinux'] : []),
    ...(host.cgroupVersion === 2 ? ['name=cgroupns'] : []),
    ...(config.noNewPrivileges ? ['name=no-new-privileges'] : []),
  ];
}

function warnings({ host }: Engine): string[] {
  const found: string[] = [];
  const need = (present: boolean, what: string): void => {
    if (!present) found.push(`WARNING: No ${what} support`);
  };
  need(host.memoryLimit, 'memory limit');
  need(host.swapLimit, 'swap limit');
  need(host.cpuCfsQuota, 'cpu cfs quota');
  need(host.cpuShares, 'cpu shares');
  need(host.cpuSet, 'cpuset');
  need(host.pidsLimit, 'pids limit');
  need(host.seccomp, 'seccomp');
  return found;
}

export function containerStates(graph: Graph): { running: number; paused: number; stopped: number } {
  const statuses = graph.containers.all().map(({ status }) => status);
  const count = (...wanted: string[]): number => statuses.filter((status) => wanted.includes(status)).length;
  const running = count('running', 'restarting');
  const paused = count('paused');
  return { running, paused, stopped: statuses.length - running - paused };
}

export function osRelease(): Record<string, string> {
  const path = ['/etc/os-release', '/usr/lib/os-release'].find((file) => existsSync(file));
  if (path === undefined) return {};
  return Object.fromEntries(
    readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1).replace(/^"(.*)"$/, '$1')]),
  );
}

const readFirst = (path: string): string => readFileSync(path, 'utf8').trim();

/** Type of the mount that the path lies on: the one with the longest mount point above it. */
function backingFilesystem(path: string): string {
  let best = { point: '', type: 'unknown' };
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
    const [, point = '', type = ''] = line.split(' ');
    const prefix = point.endsWith('/') ? point : `${point}/`;
    if (`${path}/`.startsWith(prefix) && point.length >= best.point.length) best = { point, type };
  }
  return best.type.replace(/^ext[234]$/, 'extfs');
}
