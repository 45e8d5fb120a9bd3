/** What the registry client is told, and what follows from it for one host. */
import { BlockList, isIP } from 'node:net';
import { MAX_ATTEMPTS } from './retry.ts';

export interface RegistrySettings {
  /** Hosts (`host[:port]`) and networks (`10.0.0.0/8`) whose registries may speak plain HTTP or show any certificate. */
  insecureRegistries: readonly string[];
  /** URLs that are asked before docker.io itself. */
  mirrors: readonly string[];
  /** Directory with one directory a host: `*.crt` (CAs), `*.cert` with `*.key` (client certificates). */
  certsDir: string;
  /** Absent ones are taken from the environment. */
  proxies: { httpProxy?: string; httpsProxy?: string; noProxy?: string };
  /** Of a blob that is fetched, each without progress. */
  downloadAttempts: number;
}

/** In milliseconds. */
export interface RegistryTiming {
  connectMs: number;
  /** From the request to the headers of the answer; also a whole small document. */
  responseMs: number;
  /** A blob that gives nothing for so long, or less than `SLOW_BYTES`, is asked for again from where it stopped. */
  stallMs: number;
  /** Wait before the second attempt; each further one waits twice as long. */
  backoffMs: number;
  maxRetryAfterMs: number;
}

export const DEFAULT_SETTINGS: RegistrySettings = {
  insecureRegistries: [],
  mirrors: [],
  certsDir: '/etc/docker/certs.d',
  proxies: {},
  downloadAttempts: MAX_ATTEMPTS,
};

export const DEFAULT_TIMING: RegistryTiming = {
  connectMs: 15_000,
  responseMs: 30_000,
  stallMs: 30_000,
  backoffMs: 500,
  maxRetryAfterMs: 60_000,
};

/** Of `host[:port]` or `[v6]:port`, the host. */
export const hostnameOf = (host: string): string => {
  const v6 = /^\[([^\]]*)\]/.exec(host);
  return v6?.[1] ?? host.replace(/:\d+$/, '');
};

const family = (address: string): 'ipv4' | 'ipv6' => (isIP(address) === 6 ? 'ipv6' : 'ipv4');

export const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '::1' || (isIP(hostname) === 4 && hostname.startsWith('127.'));

function inNetwork(hostname: string, network: string): boolean {
  const [address = '', bits = ''] = network.split('/');
  if (isIP(hostname) === 0 || isIP(address) === 0 || !/^\d+$/.test(bits)) return false;
  const list = new BlockList();
  list.addSubnet(address, Number(bits), family(address));
  return list.check(hostname, family(hostname));
}

/** As Docker: those named, and whatever is on this machine. */
export function isInsecure(host: string, insecure: readonly string[]): boolean {
  const hostname = hostnameOf(host);
  return isLoopback(hostname) || insecure.some((entry) => entry === host || inNetwork(hostname, entry));
}

const variable = (...names: string[]): string | undefined =>
  names.map((name) => process.env[name]).find((value) => value !== undefined && value !== '');

export function proxySettings(given: RegistrySettings['proxies']): { http: string; https: string; no: string } {
  return {
    http: given.httpProxy ?? variable('HTTP_PROXY', 'http_proxy') ?? '',
    https: given.httpsProxy ?? variable('HTTPS_PROXY', 'https_proxy') ?? '',
    no: given.noProxy ?? variable('NO_PROXY', 'no_proxy') ?? '',
  };
}

/** The proxy to reach a URL by; '' for none. NO_PROXY is read as Go reads it. */
export function proxyFor(url: URL, proxies: { http: string; https: string; no: string }): string {
  const proxy = url.protocol === 'https:' ? proxies.https : proxies.http;
  const hostname = hostnameOf(url.host);
  if (proxy === '' || isLoopback(hostname)) return '';
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  const excluded = proxies.no.split(/[\s,]+/).some((entry) => {
    if (entry === '' || entry === '*') return entry === '*';
    if (entry.includes('/')) return inNetwork(hostname, entry);
    const [, name = entry, onlyPort] = /^(.*?)(?::(\d+))?$/.exec(entry) ?? [];
    if (isIP(entry) === 0 && onlyPort !== undefined && onlyPort !== port) return false;
    const domain = (isIP(entry) === 0 ? name : entry).replace(/^\*?\./, '.').toLowerCase();
    return hostname === domain || hostname.endsWith(domain.startsWith('.') ? domain : `.${domain}`);
  });
  return excluded ? '' : proxy;
}
