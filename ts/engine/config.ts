/**
 * The daemon's settings: flags, then the config file (daemon.json, with dockerd's keys), then defaults. A flag or key
 * that is not known is refused, and so is a setting given in both places: a daemon that ignores one runs otherwise than
 * its owner believes.
 */
import { CaissonError } from '../errdefs.ts';
import type { LogLevel } from '../log.ts';
import { BUILDER_DEFAULTS, type BuilderSettings, parseBuilder } from './builder/gc.ts';
import { PROXIES, readConfigFile } from './configFile.ts';
import {
  addressAndPort,
  alwaysOn,
  byteSize,
  cgroupParent,
  execOption,
  feature,
  hostAddress,
  invalid,
  logLevel,
  loopbackPort,
  mirror,
  oneOf,
} from './configValues.ts';
import { parseFlags } from './flags.ts';
import { parseLogOptions } from './logs/options.ts';
import { checkNetworking, NETWORK_SETTINGS, networkOptions } from './network/daemonSettings.ts';
import { type AddressPool, DEFAULT_POOLS } from './network/pools.ts';
import { REFUSED_SETTINGS } from './refusedSettings.ts';
import { checkDefaultRuntime, type OciRuntimes, OWN_RUNTIME, parseRuntimes } from './runtime/runtimes.ts';
import { flag, list, number, type Setting, text } from './settings.ts';
import { TLS_SETTINGS, type TlsOptions } from './tlsSettings.ts';

export interface DaemonConfig {
  /** `unix:///path` or `tcp://address:port`; empty: the default sockets. */
  hosts: string[];
  /** Tell clients so: some show more of their commands then. */
  experimental: boolean;
  /** Of TCP listeners. */
  tls: TlsOptions;
  /** All of them must agree to a request and to its answer. */
  authorizationPlugins: string[];
  dataRoot: string;
  execRoot: string;
  pidfile: string;
  configFile: string;
  /** Keys of the settings that flags have set: the file may not have them, nor at a reload. */
  flags: ReadonlySet<string>;
  /** Say whether the settings are right, and end. */
  validateOnly: boolean;
  debug: boolean;
  logLevel: LogLevel;
  /** A bridge that the user has made, for the default network; '' for one of ours, `none` for no default network. */
  bridge: string;
  /** What ours is called; '' for the usual name. */
  bridgeName: string;
  /** Address of the default bridge with prefix length; '' picks a free subnet. */
  bip: string;
  /** The same of IPv6; '' for `fixedCidrV6`. */
  bip6: string;
  /** Part of the default bridge's subnet that containers get addresses of; '' for all of it. */
  fixedCidr: string;
  /** The default bridge has IPv6 too. */
  ipv6: boolean;
  /** Its IPv6 subnet; '' for one of its own. */
  fixedCidrV6: string;
  mtu: number;
  /** Where subnets of new networks are taken from. */
  defaultAddressPools: readonly AddressPool[];
  dns: string[];
  dnsOptions: string[];
  dnsSearch: string[];
  /** Where containers of the default bridge send what is not for their network; '' for the bridge itself. */
  defaultGateways: { 4: string; 6: string };
  /** Address that ports published on the default bridge bind to when none is given. */
  ip: string;
  icc: boolean;
  /** Of the default bridge. */
  ipMasq: boolean;
  /** Published ports are reached at the containers' own addresses too. */
  allowDirectRouting: boolean;
  /** Options of new networks, by driver: those that a request does not give itself. */
  defaultNetworkOpts: Record<string, Record<string, string>>;
  /** Switch forwarding of the host on where networks need it; then drop what is not for containers. */
  ipForward: boolean;
  ipForwardNoDrop: boolean;
  /** `open`: published ports are let through foreign firewalls; `respect`: the host's own rules decide. */
  firewall: 'open' | 'respect';
  /** There is a table of ours at all; without it ports are published by the shims' sockets alone. */
  iptables: boolean;
  ip6tables: boolean;
  cgroupParent: string;
  insecureRegistries: string[];
  registryMirrors: string[];
  /** `address:port` of a registry that this daemon serves; '' for none. */
  registry: string;
  maxConcurrentDownloads: number;
  maxConcurrentUploads: number;
  maxDownloadAttempts: number;
  /** Of layers and blobs; 0: no limit. */
  storageBudgetBytes: number;
  storagePins: string[];
  /** Also of pulled images, whose layers can be fetched again. */
  keepLayerBlobs: boolean;
  /** File that says which signatures a pull asks for; '' for none. */
  signaturePolicy: string;
  /** Directory with one directory a registry: its CAs and client certificates. */
  registryCertsDir: string;
  /** What is absent is taken from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY). */
  proxies: { httpProxy?: string; httpsProxy?: string; noProxy?: string };
  logDriver: string;
  logOpts: Record<string, string>;
  labels: string[];
  defaultShmSizeBytes: number;
  defaultUlimits: Record<string, { Name: string; Hard: number; Soft: number }>;
  init: boolean;
  /** Of containers that do not say otherwise. */
  noNewPrivileges: boolean;
  /** OCI runtimes beside our own. */
  runtimes: OciRuntimes;
  defaultRuntime: string;
  shutdownTimeoutS: number;
  /** Of containers that do not say which. */
  defaultIpcMode: 'private' | 'shareable';
  /** '' for Docker's: private on cgroup v2, the host's on v1. */
  defaultCgroupnsMode: '' | 'host' | 'private';
  /** `builtin`, `unconfined` or the path of a profile. */
  seccompProfile: string;
  /** What `host-gateway` of `--add-host` stands for, at most one address of each family; none: the default bridge's. */
  hostGatewayIps: string[];
  /** Directories of CDI specifications; empty: CDI devices are off. */
  cdiSpecDirs: string[];
  features: Record<string, boolean>;
  builder: BuilderSettings;
  /** `address:port` of the metrics; '' for none. */
  metricsAddr: string;
  /** Group of unix sockets: a name or a number. */
  group: string;
}

export const SETTINGS: Setting[] = [
  list('host', 'hosts', (c, v) => (c.hosts = v.map(hostAddress)), { short: 'H' }),
  text('data-root', (c, v) => (c.dataRoot = v)),
  text('exec-root', (c, v) => (c.execRoot = v)),
  text('pidfile', (c, v) => (c.pidfile = v), { short: 'p' }),
  flag('debug', (c, v) => (c.debug = v), { short: 'D', reloadable: true }),
  text('log-level', (c, v) => (c.logLevel = logLevel(v)), { short: 'l' }),
  ...NETWORK_SETTINGS,
  text('cgroup-parent', (c, v) => (c.cgroupParent = cgroupParent(v))),
  list('insecure-registry', 'insecure-registries', (c, v) => (c.insecureRegistries = v), { reloadable: true }),
  list('registry-mirror', 'registry-mirrors', (c, v) => (c.registryMirrors = v.map(mirror)), { reloadable: true }),
  text('registry', (c, v) => (c.registry = loopbackPort('registry', v))),
  number('max-concurrent-downloads', (c, v) => (c.maxConcurrentDownloads = Math.max(1, v)), {
    reloadable: true,
    reloadDefault: 3,
  }),
  number('max-concurrent-uploads', (c, v) => (c.maxConcurrentUploads = Math.max(1, v)), {
    reloadable: true,
    reloadDefault: 5,
  }),
  number('max-download-attempts', (c, v) => (c.maxDownloadAttempts = v || 5), {
    reloadable: true,
    reloadDefault: 5,
  }),
  text('storage-budget', (c, v) => (c.storageBudgetBytes = byteSize('storage-budget', v))),
  list('storage-pin', 'storage-pins', (c, v) => (c.storagePins = v)),
  flag('keep-layer-blobs', (c, v) => (c.keepLayerBlobs = v)),
  text('signature-policy', (c, v) => (c.signaturePolicy = v)),
  text('http-proxy', (c, v) => (c.proxies.httpProxy = v)),
  text('https-proxy', (c, v) => (c.proxies.httpsProxy = v)),
  text('no-proxy', (c, v) => (c.proxies.noProxy = v)),
  text('registry-certs-dir', (c, v) => (c.registryCertsDir = v)),
  text('log-driver', (c, v) => (c.logDriver = v)),
  list('label', 'labels', (c, v) => (c.labels = v), { reloadable: true }),
  text('default-shm-size', (c, v) => (c.defaultShmSizeBytes = byteSize('default-shm-size', v))),
  flag('init', (c, v) => (c.init = v)),
  flag('no-new-privileges', (c, v) => (c.noNewPrivileges = v)),
  number('shutdown-timeout', (c, v) => (c.shutdownTimeoutS = v), { reloadable: true }),
  text('default-ipc-mode', (c, v) => (c.defaultIpcMode = oneOf('default-ipc-mode', v, ['private', 'shareable']))),
  text('default-cgroupns-mode', (c, v) => {
    c.defaultCgroupnsMode = oneOf('default-cgroupns-mode', v, ['host', 'private']);
  }),
  text('seccomp-profile', (c, v) => (c.seccompProfile = v || 'builtin')),
  list('cdi-spec-dir', 'cdi-spec-dirs', (c, v) => (c.cdiSpecDirs = v.filter((one) => one !== ''))),
  text('metrics-addr', (c, v) => (c.metricsAddr = addressAndPort('metrics-addr', v))),
  text('group', (c, v) => (c.group = v), { short: 'G' }),
  // of dockerd's choices there is one here: a setting that asks for another is refused
  text('storage-driver', (_, v) => void oneOf('storage-driver', v, ['overlay2']), { short: 's' }),
  list('exec-opt', 'exec-opts', (_, v) => v.forEach(execOption)),
  // Units start dockerd with `--containerd` by habit. What it and the namespaces say is about containers of a containerd,
  // and there are none here: each daemon's containers are its own.
  text('containerd', () => {}),
  text('containerd-namespace', () => {}),
  text('containerd-plugins-namespace', () => {}),
  flag('live-restore', (_, v) => alwaysOn('live-restore', v), { reloadable: true }),
  flag('experimental', (c, v) => (c.experimental = v)),
  // lines of JSON, never with colours
  text('log-format', (_, v) => void oneOf('log-format', v, ['json'])),
  flag('raw-logs', () => {}),
  list('add-runtime', 'runtimes', (c, v) => (c.runtimes = parseRuntimes(v)), { reloadable: true }),
  text('default-runtime', (c, v) => (c.defaultRuntime = v || OWN_RUNTIME), { reloadable: true }),
  ...REFUSED_SETTINGS,
  ...TLS_SETTINGS,
  list('authorization-plugin', 'authorization-plugins', (c, v) => (c.authorizationPlugins = v), { reloadable: true }),
];

const defaults = (): DaemonConfig => ({
  hosts: [],
  experimental: false,
  tls: {},
  flags: new Set(),
  authorizationPlugins: [],
  dataRoot: '/var/lib/caisson',
  execRoot: '/run/caisson',
  pidfile: '',
  configFile: '/etc/caisson/daemon.json',
  validateOnly: false,
  debug: false,
  logLevel: 'info',
  bridge: '',
  bridgeName: '',
  bip: '',
  bip6: '',
  fixedCidr: '',
  ipv6: false,
  fixedCidrV6: '',
  mtu: 1500,
  defaultAddressPools: DEFAULT_POOLS,
  dns: [],
  dnsOptions: [],
  dnsSearch: [],
  defaultGateways: { 4: '', 6: '' },
  ip: '0.0.0.0',
  icc: true,
  ipMasq: true,
  allowDirectRouting: false,
  defaultNetworkOpts: {},
  ipForward: true,
  ipForwardNoDrop: false,
  firewall: 'open',
  iptables: true,
  ip6tables: true,
  cgroupParent: '/caisson',
  insecureRegistries: [],
  registryMirrors: [],
  registry: '',
  maxConcurrentDownloads: 3,
  maxConcurrentUploads: 5,
  maxDownloadAttempts: 5,
  storageBudgetBytes: 0,
  storagePins: [],
  keepLayerBlobs: false,
  signaturePolicy: '',
  registryCertsDir: '/etc/docker/certs.d',
  proxies: {},
  logDriver: 'json-file',
  logOpts: {},
  labels: [],
  defaultShmSizeBytes: 64 * 1024 * 1024,
  defaultUlimits: {},
  init: false,
  noNewPrivileges: false,
  runtimes: {},
  defaultRuntime: OWN_RUNTIME,
  shutdownTimeoutS: 15,
  defaultIpcMode: 'private',
  defaultCgroupnsMode: '',
  seccompProfile: 'builtin',
  hostGatewayIps: [],
  cdiSpecDirs: ['/etc/cdi', '/var/run/cdi'],
  features: {},
  builder: BUILDER_DEFAULTS,
  group: 'docker',
  metricsAddr: '',
});

/** Flags of `caisson daemon`, without the command's name. */
export function loadConfig(argv: string[]): DaemonConfig {
  const given = parseFlags(argv, SETTINGS);
  const config = defaults();
  const file = given.get('config-file');
  if (typeof file === 'string') config.configFile = file;
  config.validateOnly = given.get('validate') === true;
  const fromFile = readConfigFile(config.configFile, SETTINGS, file !== undefined);
  for (const setting of SETTINGS) {
    const key = setting.key ?? setting.flag;
    const byFlag = given.get(setting.flag);
    const byFile = fromFile.get(key);
    if (byFlag !== undefined && byFile !== undefined) throw givenTwice(key, config);
    const value = byFlag ?? byFile;
    if (value !== undefined) setting.set(config, value as never);
  }
  applyObjects(config, given, fromFile);
  checkNetworking(config);
  checkLog(config);
  checkDefaultRuntime(config.defaultRuntime, config.runtimes);
  config.flags = new Set(SETTINGS.flatMap((setting) => (given.has(setting.flag) ? [setting.key ?? setting.flag] : [])));
  if (config.pidfile === '') config.pidfile = `${config.execRoot}/caisson.pid`;
  for (const name of ['dataRoot', 'execRoot', 'pidfile'] as const)
    if (!config[name].startsWith('/'))
      throw invalid(`${name}: ${JSON.stringify(config[name])} is not an absolute path`);
  return config;
}

function checkLog({ logDriver, logOpts }: DaemonConfig): void {
  try {
    parseLogOptions(logDriver, logOpts);
  } catch (error) {
    if (!(error instanceof CaissonError)) throw error;
    throw new CaissonError(error.kind, `failed to set log opts: ${error.message}`, { cause: error });
  }
}

const givenTwice = (key: string, { configFile }: DaemonConfig): CaissonError =>
  invalid(`the setting ${key} is given both by a flag and in ${configFile}`);

/** What is logged: `debug` counts for more than a level. */
export const levelOf = ({ debug, logLevel: level }: Pick<DaemonConfig, 'debug' | 'logLevel'>): LogLevel =>
  debug ? 'debug' : level;

/**
 * SIGHUP: takes over the reloadable settings of the file, all or none of them; returns their keys. `check` sees the
 * settings before they hold.
 */
export async function reloadConfig(
  config: DaemonConfig,
  check: (next: DaemonConfig) => Promise<void> = async () => undefined,
): Promise<string[]> {
  const fromFile = readConfigFile(config.configFile, SETTINGS, false);
  const twice = [...fromFile.keys()].find((key) => config.flags.has(key));
  if (twice !== undefined) throw givenTwice(twice, config);
  const next = { ...config };
  const changed: string[] = [];
  for (const setting of SETTINGS) {
    const key = setting.key ?? setting.flag;
    const value = fromFile.get(key) ?? (config.flags.has(key) ? undefined : setting.reloadDefault);
    if (value === undefined || setting.reloadable !== true) continue;
    setting.set(next, value as never);
    if (fromFile.has(key)) changed.push(key);
  }
  checkDefaultRuntime(next.defaultRuntime, next.runtimes);
  await check(next);
  Object.assign(config, next);
  return changed;
}

/** Those that can be switched on. */
const FEATURES = ['buildkit', 'cdi'];

function applyObjects(config: DaemonConfig, given: Map<string, unknown>, fromFile: Map<string, unknown>): void {
  for (const pair of (given.get('log-opt') ?? []) as string[]) {
    const at = pair.indexOf('=');
    if (at < 1) throw invalid(`invalid log-opt ${JSON.stringify(pair)}: not of the form key=value`);
    config.logOpts[pair.slice(0, at)] = pair.slice(at + 1);
  }
  for (const [key, value] of Object.entries((fromFile.get('log-opts') ?? {}) as Record<string, unknown>))
    config.logOpts[key] = String(value);
  config.defaultNetworkOpts = networkOptions(given.get('default-network-opt'), fromFile.get('default-network-opts'));
  config.builder = parseBuilder(fromFile.get('builder'));
  const features = Object.entries((fromFile.get('features') ?? {}) as Record<string, unknown>);
  for (const [name, on] of features) config.features[name] = on === true;
  for (const one of (given.get('feature') ?? []) as string[]) {
    const [name, on] = feature(one);
    config.features[name] = on;
  }
  const unknown = Object.keys(config.features).find((name) => !FEATURES.includes(name) && config.features[name]);
  if (unknown !== undefined)
    throw new CaissonError('NotImplemented', `the feature ${unknown} is not supported by caisson`);
  if (config.features['cdi'] === false) config.cdiSpecDirs = [];
  for (const limit of (given.get('default-ulimit') ?? []) as string[]) {
    const match = /^([a-z]+)=(-?\d+)(?::(-?\d+))?$/.exec(limit);
    if (!match) throw invalid(`invalid default-ulimit ${JSON.stringify(limit)}: not of the form name=soft[:hard]`);
    const name = match[1] as string;
    config.defaultUlimits[name] = { Name: name, Soft: Number(match[2]), Hard: Number(match[3] ?? match[2]) };
  }
  Object.assign(config.defaultUlimits, fromFile.get('default-ulimits') ?? {});
  for (const [key, value] of Object.entries((fromFile.get('proxies') ?? {}) as Record<string, unknown>)) {
    const setting = PROXIES.includes(key) ? SETTINGS.find(({ flag }) => flag === key) : undefined;
    if (setting === undefined || typeof value !== 'string')
      throw invalid(`config file ${config.configFile}: proxies may only have the texts ${PROXIES.join(', ')}`);
    if (given.has(key)) throw invalid(`the setting proxies.${key} is given both by a flag and in ${config.configFile}`);
    setting.set(config, value as never);
  }
}
