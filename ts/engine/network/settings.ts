/** What a user may ask of an attachment, and what a network remembers beside its columns. */
import { isIP } from 'node:net';
import { CaissonError } from '../../errdefs.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import type { IpamConfigBody } from '../api/schemas/networks.ts';
import { familyOf, holds, normalAddress, parseSubnet } from './addresses.ts';

/** The `config` column of an endpoint. */
export interface EndpointSettings {
  /** '' for the next free one. */
  ip: string;
  ip6: string;
  mac: string;
  /** As they were given; the column `aliases` has all names. */
  aliases: string[];
  /** `container:alias`. */
  links: string[];
  driverOpts: Record<string, string>;
  /** Further addresses of the device. */
  linkLocalIps: string[];
  /** Name of the device inside; '' for the next. */
  ifname: string;
  /** `net.ipv4.conf.IFNAME.forwarding` → value: set on the device once it has its addresses. */
  sysctls: Record<string, string>;
  gwPriority: number;
}

export const NO_SETTINGS: EndpointSettings = {
  ip: '',
  ip6: '',
  mac: '',
  aliases: [],
  links: [],
  driverOpts: {},
  linkLocalIps: [],
  ifname: '',
  sysctls: {},
  gwPriority: 0,
};

/** One entry of `NetworkingConfig.EndpointsConfig`, or `EndpointConfig` of connect. */
export interface EndpointBody {
  IPAMConfig?: { IPv4Address?: string | null; IPv6Address?: string | null; LinkLocalIPs?: string[] | null } | null;
  Links?: string[] | null;
  Aliases?: string[] | null;
  MacAddress?: string | null;
  DriverOpts?: Record<string, string> | null;
  GwPriority?: number | null;
}

const LINK_LOCAL = ['169.254.0.0/16', 'fe80::/10'].map(parseSubnet);
const IFNAME = 'com.docker.network.endpoint.ifname';
export const SYSCTLS = 'com.docker.network.endpoint.sysctls';

function macAddress(text: string): string {
  const normal = text.toLowerCase().replaceAll('-', ':');
  const good = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(normal) && (Number.parseInt(normal.slice(0, 2), 16) & 1) === 0;
  if (!good) throw new CaissonError('InvalidParameter', `invalid MAC address: ${text}`);
  return normal;
}

function address(text: string | null | undefined, family: 4 | 6): string {
  if (!text) return '';
  if (familyOf(text) !== family) throw new CaissonError('InvalidParameter', `invalid IPv${family} address: ${text}`);
  return normalAddress(text);
}

function linkLocal(text: string): string {
  const good = isIP(text) !== 0 && LINK_LOCAL.some((subnet) => holds(subnet, text));
  if (!good) throw new CaissonError('InvalidParameter', `invalid link local IP address: ${text}`);
  return normalAddress(text);
}

/** `net.ipv4.conf.IFNAME.forwarding=1,…`; the docker client writes all of it in lower case. */
function interfaceSysctls(text: string): Record<string, string> {
  const pairs = text === '' ? [] : text.split(',');
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, name, value] = /^(net\.(?:ipv4|ipv6|mpls)\.[a-z]+\.ifname\.[a-z0-9_]+)=([^\0\n]*)$/i.exec(pair) ?? [];
      if (name === undefined || value === undefined) {
        throw new CaissonError(
          'InvalidParameter',
          `invalid endpoint settings:\nunrecognised network interface sysctl '${pair}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`,
        );
      }
      return [name, value];
    }),
  );
}

/** Reads and checks what does not depend on the network. */
export function endpointSettings(body: EndpointBody | null | undefined): EndpointSettings {
  const { IPAMConfig: ipam, Links, Aliases, MacAddress, DriverOpts, GwPriority } = body ?? {};
  const driverOpts = DriverOpts ?? {};
  for (const key of Object.keys(driverOpts)) {
    // a tool's own notes are kept and shown, as dockerd does
    if (key.startsWith('com.docker.network.') && key !== IFNAME && key !== SYSCTLS) {
      throw new CaissonError('NotImplemented', `endpoint option ${key} is not supported by caisson`, {
        code: 'OPTION_NOT_SUPPORTED',
      });
    }
  }
  const ifname = driverOpts[IFNAME] ?? '';
  if (ifname !== '' && !/^[\w.-]{1,15}$/.test(ifname))
    throw new CaissonError('InvalidParameter', `invalid interface name: ${ifname}`);
  return {
    ip: address(ipam?.IPv4Address, 4),
    ip6: address(ipam?.IPv6Address, 6),
    mac: MacAddress ? macAddress(MacAddress) : '',
    aliases: Aliases ?? [],
    links: Links ?? [],
    driverOpts,
    linkLocalIps: (ipam?.LinkLocalIPs ?? []).map(linkLocal),
    ifname,
    sysctls: interfaceSysctls(driverOpts[SYSCTLS] ?? ''),
    gwPriority: GwPriority ?? 0,
  };
}

/** What fits the network, with Docker's texts. `network` is undefined while there is none of that name. */
export function checkSettings(name: string, network: NetworkRow | undefined, settings: EndpointSettings): void {
  const problems: string[] = [];
  const { ip, ip6, aliases } = settings;
  const isOfUser = name !== 'bridge' && name !== 'host' && name !== 'none';
  if (!isOfUser && (ip || ip6)) problems.push('user specified IP address is supported on user defined networks only');
  if (!isOfUser && aliases.length > 0)
    problems.push('network-scoped aliases are only supported for user-defined networks');
  const fixed = network && (!isOfUser || networkDetail(network).fixed);
  for (const [asked, subnet] of [
    [ip, network?.subnet ?? null],
    [ip6, network?.subnet6 ?? null],
  ] as const) {
    if (!asked || (isOfUser && !network)) continue;
    if (!fixed || subnet === null) problems.push(NO_SUBNETS);
    else if (!holds(parseSubnet(subnet), asked))
      problems.push(`no configured subnet or ip-range contain the IP address ${asked}`);
  }
  if (problems.length === 0) return;
  throw new CaissonError(
    'InvalidParameter',
    `invalid config for network ${name}: invalid endpoint settings:\n${listed(problems)}`,
  );
}

const NO_SUBNETS =
  'user specified IP address is supported only when connecting to networks with user configured subnets';

/** As Docker joins errors: one stands alone, several get a star each. */
const listed = (problems: string[]): string =>
  problems.length === 1 ? problems.join() : problems.map((problem) => `* ${problem}`).join('\n');

/** The `detail` column of a network. */
export interface NetworkDetail {
  /** The user chose the subnets: only then may a container choose its address. */
  fixed: boolean;
  auxAddresses: Record<string, string>;
  ipamOptions: Record<string, string> | null;
  /** Holds settings for others, and no container. */
  configOnly: boolean;
  /** IPAM settings of such a network, as they were given. */
  ipamConfig: IpamConfigBody[];
  ipv6: boolean;
  /** Network whose settings it has; '' for its own. */
  configFrom: string;
}

export const networkDetail = (row: Pick<NetworkRow, 'detail'>): NetworkDetail => ({
  fixed: false,
  auxAddresses: {},
  ipamOptions: null,
  configOnly: false,
  ipamConfig: [],
  ipv6: false,
  configFrom: '',
  ...(JSON.parse(row.detail) as Partial<NetworkDetail>),
});
