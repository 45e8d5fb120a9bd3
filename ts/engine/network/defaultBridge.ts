/** Which subnets the default bridge has: what the settings say, then what its row has, then what is free. */
import { randomUUID } from 'node:crypto';
import { CaissonError } from '../../errdefs.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import type { DaemonConfig } from '../config.ts';
import {
  contains,
  type Family,
  firstAddress,
  formatSubnet,
  holds,
  parseSubnet,
  type Subnet,
  uniqueLocalSubnet,
} from './addresses.ts';
import type { Addressing } from './ipam.ts';

export const DEFAULT_BRIDGE = 'caisson0';

/** `--bridge X` names a device that the user has made; without it there is one of ours. */
export const isUsersBridge = ({ bridge }: Pick<DaemonConfig, 'bridge'>): boolean => bridge !== '' && bridge !== 'none';

export const bridgeName = ({ bridge, bridgeName }: Pick<DaemonConfig, 'bridge' | 'bridgeName'>): string =>
  bridge || bridgeName || DEFAULT_BRIDGE;

interface Bridge {
  /** Its row, when it was this device. */
  row: NetworkRow | undefined;
  /** Addresses with prefix length of a bridge that the user has made, link-local ones included; of ours none. */
  addresses: string[];
  /** A subnet of the pools. */
  free: () => Promise<Subnet>;
  warn: (message: string) => void;
}

type Settings = Pick<DaemonConfig, 'bip' | 'bip6' | 'fixedCidr' | 'fixedCidrV6' | 'ipv6' | 'bridge'>;

export async function chooseSubnets(settings: Settings, bridge: Bridge): Promise<Addressing> {
  const { bip, bip6, fixedCidr, fixedCidrV6, ipv6 } = settings;
  const v4 = ofBridge(bip || ownAddress(bridge.addresses, 4, fixedCidr)) ?? (await usualV4(fixedCidr, bridge));
  const v6 = ofBridge(bip6 || ownAddress(bridge.addresses, 6, fixedCidrV6)) ?? usualV6(fixedCidrV6, bridge);
  const ipRange = rangeIn('fixed-cidr', v4.subnet, fixedCidr, settings, bridge);
  const common = { subnet: formatSubnet(v4.subnet), gateway: v4.gateway, ipRange };
  if (!ipv6) return { ...common, subnet6: null, gateway6: null, ipRange6: null };
  const ipRange6 = rangeIn('fixed-cidr-v6', v6.subnet, fixedCidrV6, settings, bridge);
  return { ...common, subnet6: formatSubnet(v6.subnet), gateway6: v6.gateway, ipRange6 };
}

interface Choice {
  subnet: Subnet;
  gateway: string;
}

/** The subnet of an address that a bridge has or is to have; undefined for ''. */
const ofBridge = (address: string): Choice | undefined =>
  address === '' ? undefined : { subnet: parseSubnet(address), gateway: address.split('/')[0] ?? '' };

const fromFirst = (subnet: Subnet): Choice => ({ subnet, gateway: firstAddress(subnet) });

async function usualV4(fixedCidr: string, { row, free }: Bridge): Promise<Choice> {
  const fixed = fixedCidr === '' ? undefined : parseSubnet(fixedCidr);
  const kept = row?.subnet ? parseSubnet(row.subnet) : undefined;
  if (kept && (!fixed || contains(kept, fixed))) return { subnet: kept, gateway: row?.gateway ?? firstAddress(kept) };
  return fromFirst(fixed ?? (await free()));
}

function usualV6(fixedCidrV6: string, { row }: Bridge): Choice {
  if (fixedCidrV6 !== '') return fromFirst(parseSubnet(fixedCidrV6));
  return fromFirst(row?.subnet6 ? parseSubnet(row.subnet6) : uniqueLocalSubnet(row?.id ?? randomUUID()));
}

const LINK_LOCAL = parseSubnet('fe80::/64');

/** Of those of the user's bridge, as dockerd chooses: in whose subnet the fixed part lies, or which lies in that, or the first. */
function ownAddress(addresses: readonly string[], family: Family, fixedText: string): string {
  const fixed = fixedText === '' ? undefined : parseSubnet(fixedText);
  const isLinkLocal = (address: string): boolean => contains(LINK_LOCAL, parseSubnet(address));
  const able = addresses.filter(
    (address) =>
      parseSubnet(address).family === family && (!isLinkLocal(address) || (fixed && overlapsLinkLocal(fixed))),
  );
  const around = able.find((address) => fixed && holdsFirst(parseSubnet(address), fixed));
  const within = able.find((address) => fixed && holds(fixed, address.split('/')[0] ?? ''));
  return around ?? within ?? able[0] ?? '';
}

const overlapsLinkLocal = (fixed: Subnet): boolean => fixed.family === 6 && holdsFirst(LINK_LOCAL, fixed);

const holdsFirst = (outer: Subnet, inner: Subnet): boolean =>
  contains(outer, { ...inner, prefix: inner.family === 4 ? 32 : 128 });

/** The part that containers get addresses of; null for all of it. */
function rangeIn(
  name: string,
  subnet: Subnet,
  fixed: string,
  settings: Settings,
  { addresses, warn }: Bridge,
): string | null {
  if (fixed === '') return null;
  if (contains(subnet, parseSubnet(fixed))) return fixed;
  const problem = `${name} ${fixed} is no part of the bridge's subnet ${formatSubnet(subnet)}`;
  // dockerd has always started with this one, with the whole subnet
  if (isUsersBridge(settings) && subnet.family === 4 && addresses.length > 0) {
    warn(`${problem}: containers get addresses of all of it`);
    return null;
  }
  throw new CaissonError('InvalidParameter', problem);
}
