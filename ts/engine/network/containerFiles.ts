/**
 * The files that the engine writes for a container, bind-mounted into it:
 *
 *   <data>/containers/<id>/hostname
 *   <data>/containers/<id>/hosts
 *   <data>/containers/<id>/resolv.conf
 */
import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerConfig, HostConfig } from '../containers/config.ts';
import type { ContainerFiles } from '../runtime/mounts.ts';

export const containerFiles = (dir: string): ContainerFiles => ({
  resolvConf: join(dir, 'resolv.conf'),
  hostname: join(dir, 'hostname'),
  hosts: join(dir, 'hosts'),
});

export interface NamingOptions {
  config: Pick<ContainerConfig, 'Hostname' | 'Domainname'>;
  hostConfig: Pick<HostConfig, 'NetworkMode' | 'Dns' | 'DnsOptions' | 'DnsSearch' | 'ExtraHosts'>;
  /** The container's own, of both families; none without a network. */
  addresses: string[];
  /** Addresses and names of the containers that it is linked to; those that do not run have no address. */
  links?: [address: string | undefined, names: string][];
  /** It is on a network whose containers know each other by name: the embedded server answers. */
  userDefined: boolean;
  /** It has not switched IPv6 off. */
  ipv6: boolean;
  /** What `host-gateway` stands for, by family. */
  hostGateways: string[];
  /** The daemon's defaults. */
  dns: { servers: string[]; options: string[]; search: string[] };
}

const HOSTS_HEAD = [
  ['127.0.0.1', 'localhost'],
  ['::1', 'localhost ip6-localhost ip6-loopback'],
  ['fe00::', 'ip6-localnet'],
  ['ff00::', 'ip6-mcastprefix'],
  ['ff02::1', 'ip6-allnodes'],
  ['ff02::2', 'ip6-allrouters'],
] as const;

function extraHosts(options: NamingOptions): [string, string][] {
  return (options.hostConfig.ExtraHosts ?? []).flatMap((entry) => {
    const at = entry.search(/[:=]/);
    const address = entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1');
    const addresses = address === 'host-gateway' ? options.hostGateways : [address];
    return addresses.map((one): [string, string] => [one, entry.slice(0, at)]);
  });
}

/** What its own addresses stand for. */
function ownNames({ config: { Hostname: host, Domainname: domain } }: NamingOptions): string {
  const full = domain ? `${host}.${domain}` : host;
  return [...new Set([full, full.split('.')[0]])].join(' ');
}

export function hostsFile(options: NamingOptions): string {
  const head = HOSTS_HEAD.filter(([address]) => options.ipv6 || !address.includes(':'));
  const links = (options.links ?? []).filter(([address]) => address !== undefined);
  const own = options.addresses.map((address) => [address, ownNames(options)]);
  const lines = [...head, ...extraHosts(options), ...links, ...own];
  return lines.map((line) => `${line.join('\t')}\n`).join('');
}

/** The file of a container whose networks or links have changed: its lines of those follow, and others stay as they are. */
export function followedHosts(text: string, options: NamingOptions): string {
  const names = new Set([ownNames(options), ...(options.links ?? []).map(([, names]) => names)]);
  const isOurs = (line: string): boolean => names.has(line.slice(line.indexOf('\t') + 1));
  const lines = (file: string): string[] => file.split('\n').filter((line) => line !== '');
  const wanted = lines(hostsFile(options));
  const kept = lines(text).filter((line) => !isOurs(line) || wanted.includes(line));
  const added = wanted.filter((line) => isOurs(line) && !kept.includes(line));
  return [...kept, ...added].map((line) => `${line}\n`).join('');
}

/** Where the embedded server listens in a container's namespace. */
export const EMBEDDED_SERVER = '127.0.0.11';

/** Used when the host's own servers cannot be reached from a container. */
const FALLBACK_SERVERS = ['8.8.8.8', '8.8.4.4'];

const isLoopback = (server: string): boolean => server.startsWith('127.') || server === '::1';

interface Resolver {
  servers: string[];
  search: string[];
  options: string[];
}

function parseResolvConf(text: string): Resolver {
  const found: Resolver = { servers: [], search: [], options: [] };
  for (const line of text.split('\n')) {
    const [keyword, ...words] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    if (keyword === 'nameserver' && words[0]) found.servers.push(words[0]);
    // the last line counts, as for the libc
    else if (keyword === 'search' || keyword === 'domain') found.search = words;
    else if (keyword === 'options') found.options = words;
  }
  return found;
}

/**
 * The host's file with the daemon's and the user's settings over it. A server on the host's loopback cannot be reached
 * from another network namespace: such are left out, and systemd-resolved's list of real servers is read instead.
 */
export function resolvConf(options: NamingOptions, readHostFile: (path: string) => string | undefined): string {
  const { Dns, DnsOptions, DnsSearch, NetworkMode } = options.hostConfig;
  const hostText = readHostFile('/etc/resolv.conf') ?? '';
  const explicit = [...Dns, ...DnsOptions, ...DnsSearch].length > 0;
  if (NetworkMode === 'host' && !explicit) return hostText;
  let host = parseResolvConf(hostText);
  const reachable = (resolver: Resolver): string[] => resolver.servers.filter((server) => !isLoopback(server));
  if (NetworkMode !== 'host' && reachable(host).length === 0) {
    const real = readHostFile('/run/systemd/resolve/resolv.conf');
    if (real) host = parseResolvConf(real);
  }
  const own = NetworkMode === 'host' ? host.servers : reachable(host);
  const servers = options.userDefined
    ? [EMBEDDED_SERVER]
    : ([Dns, options.dns.servers, own, FALLBACK_SERVERS].find((list) => list.length > 0) ?? []);
  const search = [DnsSearch, options.dns.search, host.search].find((list) => list.length > 0) ?? [];
  const flags = [...([DnsOptions, options.dns.options, host.options].find((list) => list.length > 0) ?? [])];
  // a name without a dot is a container's: the embedded server is asked for it as it is
  if (options.userDefined && !flags.some((flag) => flag.startsWith('ndots:'))) flags.push('ndots:0');
  const lines = servers.map((server) => `nameserver ${server}`);
  // `--dns-search .` means none at all
  if (search.length > 0 && search.join() !== '.') lines.push(`search ${search.join(' ')}`);
  if (flags.length > 0) lines.push(`options ${flags.join(' ')}`);
  return `# Generated by caisson; written anew at each start of the container.\n${lines.join('\n')}\n`;
}

/**
 * Servers that the embedded one asks for what it does not know: from the host's namespace, so that a server on the host's
 * loopback is reached too.
 */
export function upstreamServers(options: Pick<NamingOptions, 'hostConfig' | 'dns'>): string[] {
  const host = parseResolvConf(readIfThere('/etc/resolv.conf') ?? '').servers;
  const lists = [options.hostConfig.Dns, options.dns.servers, host, FALLBACK_SERVERS];
  return (lists.find((list) => list.length > 0) ?? []).filter((server) => server !== EMBEDDED_SERVER);
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** A few hundred bytes on the page cache: synchronous is cheaper than three round trips through the thread pool. */
export function writeContainerFiles(dir: string, options: NamingOptions): void {
  const files = containerFiles(dir);
  const host = options.hostConfig.NetworkMode === 'host';
  const hosts = host && !options.hostConfig.ExtraHosts?.length ? readIfThere('/etc/hosts') : undefined;
  writeInPlace(files.hosts, hosts ?? hostsFile(options));
  writeInPlace(files.hostname, `${options.config.Hostname}\n`);
  writeInPlace(files.resolvConf, resolvConf(options, readIfThere));
}

/** Of one that runs: what its programs have written stays. */
export function followContainerFiles(dir: string, options: NamingOptions): void {
  const { NetworkMode: mode } = options.hostConfig;
  if (mode === 'host' || mode.startsWith('container:')) return;
  const { hosts, resolvConf: resolv } = containerFiles(dir);
  writeInPlace(hosts, followedHosts(readIfThere(hosts) ?? '', options));
  const ours = [true, false].map((userDefined) => resolvConf({ ...options, userDefined }, readIfThere));
  if (ours.includes(readIfThere(resolv) ?? '')) writeInPlace(resolv, resolvConf(options, readIfThere));
}

/**
 * What has not changed is left alone, and what has is cut to its length only afterwards: the container never finds an
 * empty file, and the filesystem frees no block, which on a disk that is told of freed ones costs milliseconds.
 */
function writeInPlace(path: string, text: string): void {
  if (readIfThere(path) === text) return;
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o644);
  try {
    writeFileSync(fd, text);
    ftruncateSync(fd, Buffer.byteLength(text));
  } finally {
    closeSync(fd);
  }
}
