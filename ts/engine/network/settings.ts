/** What a user may ask of an attachment, and what a network remembers beside its columns. */
import { isIP } from 'node:net';
import { CaissonError } from '../../errdefs.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import type { IpamConfigBody } from '../api/schemas/networks.ts';
import { type Family, holds, normalAddress, parseAddress, parseSubnet } from './addresses.ts';

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
  /** Fields that the request gave empty: inspect shows them so, and those that it did not give as null. */
  empty: string[];
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
  empty: [],
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
const MAPPED = parseSubnet('::ffff:0:0/96');
const IFNAME = 'com.docker.network.endpoint.ifname';
export const SYSCTLS = 'com.docker.network.endpoint.sysctls';

function macAddress(text: string): string {
  const normal = text.toLowerCase().replaceAll('-', ':');
  const good = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(normal) && (Number.parseInt(normal.slice(0, 2), 16) & 1) === 0;
  if (!good) throw new CaissonError('InvalidParameter', `invalid MAC address: ${text}`);
  return normal;
}

/** In the one form that rows are compared in; what is no address stays as it is, for `checkSettings` to name. */
const normalised = (text: string | null | undefined): string =>
  text && isIP(text) ? normalAddress(text) : (text ?? '');

function addressProblem(text: string, family: 4 | 6): string | undefined {
  // an address of IPv4 in the form of IPv6 is one of IPv4
  const good = text === '' || (isIP(text) === family && parseAddress(text) !== 0n && !holds(MAPPED, text));
  return good ? undefined : `invalid IPv${family} address: ${text}`;
}

function linkLocalProblem(text: string): string | undefined {
  const good = isIP(text) !== 0 && LINK_LOCAL.some((subnet) => holds(subnet, text));
  return good ? undefined : `invalid link-local IP address: ${text}`;
}

/** `net.ipv4.conf.IFNAME.forwarding=1`; the docker client writes all of it in lower case. */
const SYSCTL = /^(net\.(?:ipv4|ipv6|mpls)\.[a-z]+\.ifname\.[a-z0-9_]+)=([^\0\n]*)$/i;

const sysctlsIn = (driverOpts: Record<string, string>): string[] => {
  const text = driverOpts[SYSCTLS] ?? '';
  return text === '' ? [] : text.split(',');
};

const sysctlProblem = (sysctl: string): string | undefined =>
  SYSCTL.test(sysctl)
    ? undefined
    : `unrecognised network interface sysctl '${sysctl}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`;

/** Reads it; `checkSettings` says what is wrong with addresses and sysctls. */
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
    ip: normalised(ipam?.IPv4Address),
    ip6: normalised(ipam?.IPv6Address),
    mac: MacAddress ? macAddress(MacAddress) : '',
    aliases: Aliases ?? [],
    links: Links ?? [],
    driverOpts,
    linkLocalIps: (ipam?.LinkLocalIPs ?? []).map(normalised),
    ifname,
    sysctls: Object.fromEntries(sysctlsIn(driverOpts).map((pair) => SYSCTL.exec(pair)?.slice(1) ?? [])),
    gwPriority: GwPriority ?? 0,
    empty: Object.entries({ IPAMConfig: ipam, Links, Aliases, DriverOpts }).flatMap(([name, value]) =>
      value ? [name] : [],
    ),
  };
}

/** Addresses, sysctls and what of them fits the network, with Docker's texts. `network` is undefined while there is none of that name. */
export function checkSettings(name: string, network: NetworkRow | undefined, settings: EndpointSettings): void {
  const problems = settingsProblems(name, network, settings);
  if (problems.length > 0)
    throw new CaissonError('InvalidParameter', `invalid endpoint settings:\n${listed(problems)}`);
}

/** As `checkSettings`, naming the network: at create there may be several. */
export function checkSettingsOf(name: string, network: NetworkRow | undefined, settings: EndpointSettings): void {
  try {
    checkSettings(name, network, settings);
  } catch (cause) {
    if (!(cause instanceof CaissonError)) throw cause;
    throw new CaissonError(cause.kind, `invalid config for network ${name}: ${cause.message}`, { cause });
  }
}

function settingsProblems(name: string, network: NetworkRow | undefined, settings: EndpointSettings): string[] {
  const problems: (string | undefined)[] = [];
  const { ip, ip6, aliases, linkLocalIps, driverOpts } = settings;
  const isOfUser = name !== 'bridge' && name !== 'host' && name !== 'none';
  if (!isOfUser && (ip || ip6)) problems.push('user specified IP address is supported on user defined networks only');
  if (!isOfUser && aliases.length > 0)
    problems.push('network-scoped alias is supported only for containers in user defined networks');
  problems.push(addressProblem(ip, 4), addressProblem(ip6, 6), ...linkLocalIps.map(linkLocalProblem));
  for (const [family, asked, subnet] of [
    [4, ip, network?.subnet ?? null],
    [6, ip6, network?.subnet6 ?? null],
  ] as const) {
    if (!asked || (isOfUser && !network)) continue;
    const isOfUsersChoice = network !== undefined && givenConfig(network, family).length > 0;
    if (!isOfUsersChoice || subnet === null) problems.push(NO_SUBNETS);
    else if (isIP(asked) === 0 || !holds(parseSubnet(subnet), asked))
      problems.push(`no configured subnet or ip-range contain the IP address ${asked}`);
  }
  problems.push(...sysctlsIn(driverOpts).map(sysctlProblem));
  return problems.filter((problem) => problem !== undefined);
}

const NO_SUBNETS =
  'user specified IP address is supported only when connecting to networks with user configured subnets';

/** As Docker joins errors: one stands alone, several get a star each. */
export const listed = (problems: string[]): string =>
  problems.length === 1 ? problems.join() : problems.map((problem) => `* ${problem}`).join('\n');

/** The `detail` column of a network. */
export interface NetworkDetail {
  auxAddresses: Record<string, string>;
  ipamOptions: Record<string, string> | null;
  /** Holds settings for others, and no container. */
  configOnly: boolean;
  /** Subnets as the user gave them: only in those may a container choose its address. */
  ipamConfig: IpamConfigBody[];
  ipv6: boolean;
  /** Network whose settings it has; '' for its own. */
  configFrom: string;
}

export const networkDetail = (row: Pick<NetworkRow, 'detail'>): NetworkDetail => ({
  auxAddresses: {},
  ipamOptions: null,
  configOnly: false,
  ipamConfig: [],
  ipv6: false,
  configFrom: '',
  ...(JSON.parse(row.detail) as Partial<NetworkDetail>),
});

export const givenConfig = (row: Pick<NetworkRow, 'detail'>, family: Family): IpamConfigBody[] =>
  networkDetail(row).ipamConfig.filter(({ Subnet }) => Subnet && parseSubnet(Subnet).family === family);
