/** Published ports: what was asked for, and the sockets that reserve it on the host. */
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { PortRow } from '../../graph/networks.ts';
import type { ContainerConfig, HostConfig } from '../containers/config.ts';
import type { PortSocket } from '../native/containers.ts';
import type { Native } from '../native/index.ts';
import type { GatewayMode, PublishedPort } from '../native/network.ts';
import { type Family, familyOf } from './addresses.ts';

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
  const asked = new Set(requests.map(({ containerPort, proto }) => `${containerPort}/${proto}`));
  for (const key of Object.keys(config.ExposedPorts ?? {}).flatMap(expandPort)) {
    const { port, proto } = parsePort(key);
    if (hostConfig.PublishAllPorts && !asked.has(`${port}/${proto}`)) {
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
  /** Absent where the host has no port. */
  fd?: number;
  hostPort: number;
}

type Bound = Required<Binding>;

type PortNative = Pick<Native, 'reservePorts' | 'closeFd'>;

export interface PortTarget {
  owner: string;
  address: string | null;
  address6: string | null;
  /** Host address of ports that are published without one. */
  hostBinding: string;
  modes: Record<Family, GatewayMode>;
  /** Some device of the host leads to published ports without translation. */
  trusted: Record<Family, boolean>;
}

/** Binds every port of a container, or none. `held`: what its shim has already, which is used again. */
export async function reservePorts(
  native: PortNative,
  requests: PortRequest[],
  target: PortTarget,
  held: readonly PortRow[] = [],
): Promise<ReservedPorts> {
  const bound: Bound[] = [];
  const kept: Binding[] = [];
  const both = target.hostBinding === '0.0.0.0' && hasIpv6();
  const addressesOf = (request: PortRequest): string[] => {
    const absent = both ? ['0.0.0.0', '::'] : [target.hostBinding];
    const asked = request.hostIp === '' ? absent : [request.hostIp];
    return asked.filter((hostIp) => target.modes[destination(target, hostIp).family] !== 'routed');
  };
  try {
    const open = requests.map((request) => {
      const own = reuse(request, addressesOf(request), held, kept);
      kept.push(...own);
      const addresses = addressesOf(request).filter((hostIp) => !own.some((one) => one.hostIp === hostIp));
      const hostPort = own[0]?.hostPort;
      // the same number on every address
      const hostPorts: [number, number] = hostPort === undefined ? request.hostPorts : [hostPort, hostPort];
      return { request: { ...request, hostPorts }, addresses };
    });
    const isFixed = ({ hostPorts: [from, to] }: PortRequest): boolean => from === to && from !== 0;
    const exact = open.flatMap(({ request, addresses }) =>
      isFixed(request) ? addresses.map((hostIp) => ({ request, hostIp })) : [],
    );
    bound.push(...(await bind(native, exact, (request) => request.hostPorts[0])));
    for (const { request, addresses } of open) {
      if (!isFixed(request)) bound.push(...(await bindAny(native, request, addresses)));
    }
  } catch (error) {
    for (const { fd } of bound) native.closeFd(fd);
    throw error;
  }
  return describe([...kept, ...bound, ...routed(requests, target)], target);
}

/** Sockets of ports that a container has by its rows. Kind `Conflict` when somebody else has one of them. */
export async function rebindPorts(native: PortNative, rows: readonly PortRow[]): Promise<PortSocket[]> {
  if (rows.length === 0) return [];
  const { fds } = await native.reservePorts([...rows]);
  return rows.map((row, index) => ({ ...row, fd: fds[index] as number }));
}

/** What is held for a request, less what another request has taken of it. */
function reuse(request: PortRequest, addresses: string[], held: readonly PortRow[], kept: Binding[]): Binding[] {
  const [from, to] = request.hostPorts;
  return addresses.flatMap((hostIp) => {
    const row = held.find(
      (one) =>
        one.proto === request.proto &&
        one.containerPort === request.containerPort &&
        one.hostIp === hostIp &&
        one.hostPort !== 0 &&
        (from === 0 || (one.hostPort >= from && one.hostPort <= to)) &&
        !kept.some((other) => other.hostIp === hostIp && other.hostPort === one.hostPort),
    );
    return row ? [{ request, hostIp, hostPort: row.hostPort }] : [];
  });
}

/** Where a port of this host address leads; to the other family when the container has no address of this one. */
function destination({ address, address6 }: PortTarget, hostIp: string): { family: Family; containerIp: string } {
  const containerIp = (hostIp.includes(':') ? (address6 ?? address) : (address ?? address6)) ?? '';
  return { family: containerIp.includes(':') ? 6 : 4, containerIp };
}

/** Ports that are open at the container's own address, in a network where none of the host's is taken for them. */
function routed(requests: PortRequest[], target: PortTarget): Binding[] {
  const own = { 4: target.address, 6: target.address6 };
  return ([4, 6] as const).flatMap((family) => {
    if (target.modes[family] !== 'routed' || own[family] === null) return [];
    const hostIp = family === 4 ? '0.0.0.0' : '::';
    const asked = requests.filter((request) => request.hostIp === '' || familyOf(request.hostIp) === family);
    const ports = new Map(asked.map((request) => [`${request.proto} ${request.containerPort}`, request]));
    return [...ports.values()].map((request) => ({ request, hostIp, hostPort: 0 }));
  });
}

async function bind(
  native: PortNative,
  wanted: { request: PortRequest; hostIp: string }[],
  portOf: (request: PortRequest) => number,
): Promise<Bound[]> {
  if (wanted.length === 0) return [];
  const { fds, hostPorts } = await native.reservePorts(
    wanted.map(({ request, hostIp }) => ({ proto: request.proto, hostIp, hostPort: portOf(request) })),
  );
  return wanted.map(({ request, hostIp }, index) => ({
    request,
    hostIp,
    fd: fds[index] as number,
    hostPort: hostPorts[index] as number,
  }));
}

/** Any free port, or the first free one of a range: the same number on every address (testcontainers counts on it). */
async function bindAny(native: PortNative, request: PortRequest, addresses: string[]): Promise<Bound[]> {
  if (addresses.length === 0) return [];
  const [from, to] = request.hostPorts;
  const isRange = from !== 0;
  for (let attempt = 0; ; attempt++) {
    const [first, ...rest] = addresses.map((hostIp) => ({ request, hostIp }));
    let lead: Bound[] = [];
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

function describe(bindings: Binding[], target: PortTarget): ReservedPorts {
  const reserved: ReservedPorts = { sockets: [], published: [], rows: [] };
  for (const { request, hostIp, fd, hostPort } of bindings) {
    const { proto, containerPort } = request;
    const { family, containerIp } = destination(target, hostIp);
    const common = { proto, hostIp, hostPort, containerPort, containerIp };
    const direct = target.trusted[family] || target.modes[family] === 'routed';
    if (fd !== undefined) reserved.sockets.push({ ...common, fd });
    reserved.published.push({ ...common, direct, owner: target.owner });
    reserved.rows.push({ ...common, direct, containerId: target.owner });
  }
  return reserved;
}
