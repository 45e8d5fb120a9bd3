/** Published ports: what was asked for, and the sockets that reserve it on the host. */
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { PortRow } from '../../graph/networks.ts';
import type { ContainerConfig, HostConfig } from '../containers/config.ts';
import type { Native, PortSocket, PublishedPort } from '../native/index.ts';

type Protocol = PortRow['proto'];

export interface PortRequest {
  proto: Protocol;
  containerPort: number;
  /** '' for every address. */
  hostIp: string;
  /** First and last; `[0, 0]` for any free port. */
  hostPorts: [number, number];
}

export interface ReservedPorts {
  sockets: PortSocket[];
  /** For the ruleset; what is of another family than the container's address is carried by the sockets alone. */
  published: PublishedPort[];
  rows: PortRow[];
}

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** `8080`, `8000-8010`, '' (any). */
function parseRange(text: string): [number, number] {
  if (text === '') return [0, 0];
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  const from = Number(match?.[1]);
  const to = Number(match?.[2] ?? match?.[1]);
  if (!match || to > 65535 || to < from) throw invalid(`invalid port specification: "${text}"`);
  return [from, to];
}

/** `80/tcp` of an ExposedPorts or PortBindings key. */
export function parsePort(text: string): { port: number; proto: Protocol } {
  const [number = '', proto = 'tcp'] = text.split('/');
  const port = Number(number);
  if (!/^\d{1,5}$/.test(number) || port < 1 || port > 65535) throw invalid(`invalid port specification: "${text}"`);
  if (proto !== 'tcp' && proto !== 'udp' && proto !== 'sctp') throw invalid(`invalid proto: ${proto}`);
  return { port, proto };
}

/** Keys like `8000-8010/tcp` name several ports. */
export function expandPort(text: string): string[] {
  const match = /^(\d{1,5})-(\d{1,5})\/(\w+)$/.exec(text);
  if (!match) return [text];
  const [from, to] = [Number(match[1]), Number(match[2])];
  if (to < from || to > 65535) throw invalid(`invalid port specification: "${text}"`);
  return Array.from({ length: to - from + 1 }, (_, offset) => `${from + offset}/${match[3]}`);
}

function checkAddress(hostIp: string): void {
  if (hostIp !== '' && isIP(hostIp) === 0) throw invalid(`invalid host IP in a port binding: ${hostIp}`);
}

/** Rows of containers that run, as the firewall has them. */
export const publishedPorts = (rows: readonly PortRow[]): PublishedPort[] =>
  rows.map(({ containerId, ...port }) => ({ ...port, owner: containerId }));

/** `-p` and `-P` as requests; also the check at create. */
export function portRequests(config: Pick<ContainerConfig, 'ExposedPorts'>, hostConfig: HostConfig): PortRequest[] {
  const requests: PortRequest[] = [];
  for (const [key, bindings] of Object.entries(hostConfig.PortBindings)) {
    const { port, proto } = parsePort(key);
    for (const { HostIp, HostPort } of bindings) {
      checkAddress(HostIp);
      requests.push({ proto, containerPort: port, hostIp: HostIp, hostPorts: parseRange(HostPort) });
    }
  }
  for (const key of Object.keys(config.ExposedPorts ?? {}).flatMap(expandPort)) {
    const { port, proto } = parsePort(key);
    const asked = requests.some((request) => request.containerPort === port && request.proto === proto);
    if (hostConfig.PublishAllPorts && !asked) {
      requests.push({ proto, containerPort: port, hostIp: '', hostPorts: [0, 0] });
    }
  }
  return requests;
}

/** The host has IPv6: without it `::` cannot be bound. */
const hasIpv6 = (): boolean => existsSync('/proc/net/if_inet6');

interface Binding {
  request: PortRequest;
  hostIp: string;
  fd: number;
  hostPort: number;
}

type PortNative = Pick<Native, 'reservePorts' | 'closeFd'>;

export interface PortTarget {
  owner: string;
  address: string | null;
  address6: string | null;
  /** Host address of ports that are published without one. */
  defaultIp: string;
}

/** Binds every port of a container, or none. */
export async function reservePorts(
  native: PortNative,
  requests: PortRequest[],
  target: PortTarget,
): Promise<ReservedPorts> {
  const bound: Binding[] = [];
  const both = target.defaultIp === '0.0.0.0' && hasIpv6();
  const addressesOf = (request: PortRequest): string[] => {
    if (request.hostIp !== '') return [request.hostIp];
    return both ? ['0.0.0.0', '::'] : [target.defaultIp];
  };
  try {
    const fixed = requests.filter(({ hostPorts: [from, to] }) => from === to && from !== 0);
    const exact = fixed.flatMap((request) => addressesOf(request).map((hostIp) => ({ request, hostIp })));
    bound.push(...(await bind(native, exact, (request) => request.hostPorts[0])));
    for (const request of requests) {
      if (!fixed.includes(request)) bound.push(...(await bindAny(native, request, addressesOf(request))));
    }
  } catch (error) {
    for (const { fd } of bound) native.closeFd(fd);
    throw error;
  }
  return describe(bound, target);
}

async function bind(
  native: PortNative,
  wanted: { request: PortRequest; hostIp: string }[],
  portOf: (request: PortRequest) => number,
): Promise<Binding[]> {
  if (wanted.length === 0) return [];
  const sockets = await native.reservePorts(
    wanted.map(({ request, hostIp }) => ({ proto: request.proto, hostIp, hostPort: portOf(request) })),
  );
  return sockets.map(({ fd, hostPort }, index) => ({ ...(wanted[index] as (typeof wanted)[number]), fd, hostPort }));
}

/** Any free port, or the first free one of a range: the same number on every address (testcontainers counts on it). */
async function bindAny(native: PortNative, request: PortRequest, addresses: string[]): Promise<Binding[]> {
  const [from, to] = request.hostPorts;
  const isRange = from !== 0;
  for (let attempt = 0; ; attempt++) {
    const [first, ...rest] = addresses.map((hostIp) => ({ request, hostIp }));
    let lead: Binding[] = [];
    try {
      lead = await bind(native, first ? [first] : [], () => (isRange ? from + attempt : 0));
      const hostPort = lead[0]?.hostPort ?? 0;
      return [...lead, ...(await bind(native, rest, () => hostPort))];
    } catch (error) {
      for (const { fd } of lead) native.closeFd(fd);
      // 16: an ephemeral port that is free on one address is rarely taken on the other
      const more = isRange ? from + attempt < to : attempt < 16 && lead.length > 0;
      if (!isKind(error, 'Conflict') || !more) throw error;
    }
  }
}

function describe(bound: Binding[], target: PortTarget): ReservedPorts {
  const reserved: ReservedPorts = { sockets: [], published: [], rows: [] };
  for (const { request, hostIp, fd, hostPort } of bound) {
    const { proto, containerPort } = request;
    const { address, address6 } = target;
    const containerIp = (hostIp.includes(':') ? (address6 ?? address) : (address ?? address6)) ?? '';
    const common = { proto, hostIp, hostPort, containerPort, containerIp };
    reserved.sockets.push({ ...common, fd });
    reserved.published.push({ ...common, owner: target.owner });
    reserved.rows.push({ ...common, containerId: target.owner });
  }
  return reserved;
}
