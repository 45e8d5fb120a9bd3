/** Addresses of a new network: what the user gave, checked, and the rest chosen. */
import { CaissonError } from '../../errdefs.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import type { IpamConfigBody } from '../api/schemas/networks.ts';
import {
  contains,
  type Family,
  firstAddress,
  formatSubnet,
  holds,
  normalAddress,
  overlaps,
  parseAddress,
  parseSubnet,
  type Subnet,
  uniqueLocalSubnet,
} from './addresses.ts';
import { type AddressPool, freeSubnet } from './pools.ts';

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

interface Part {
  subnet: Subnet | undefined;
  range: Subnet | undefined;
  gateway: string;
  aux: Record<string, string>;
}

export type Addressing = Pick<NetworkRow, 'subnet' | 'gateway' | 'ipRange' | 'subnet6' | 'gateway6' | 'ipRange6'>;

export interface Choice {
  addressing: Addressing;
  auxAddresses: Record<string, string>;
  /** The user gave subnets. */
  fixed: boolean;
}

/** One entry of `IPAM.Config`, with Docker's checks. */
function readPart({ Subnet: subnetText, IPRange, Gateway, AuxiliaryAddresses }: IpamConfigBody): Part {
  if (!subnetText) {
    if (IPRange || Gateway || Object.keys(AuxiliaryAddresses ?? {}).length > 0) {
      throw invalid(
        'invalid network config:\ninvalid subnet : a subnet is needed beside an ip-range, a gateway or auxiliary addresses',
      );
    }
    return { subnet: undefined, range: undefined, gateway: '', aux: {} };
  }
  const subnet = parseSubnet(subnetText);
  if (parseAddress(subnetText.split('/')[0] ?? '') !== subnet.base) {
    throw invalid(`invalid network config:\ninvalid subnet ${subnetText}: it should be ${formatSubnet(subnet)}`);
  }
  const range = IPRange ? parseSubnet(IPRange) : undefined;
  if (range && !contains(subnet, range)) {
    throw invalid(
      `invalid network config:\ninvalid ip-range ${IPRange}: parent subnet ${subnetText} doesn't contain ip-range`,
    );
  }
  const within = (what: string, address: string): string => {
    if (!holds(subnet, address)) {
      throw invalid(
        `invalid network config:\ninvalid ${what} ${address}: parent subnet ${subnetText} doesn't contain this address`,
      );
    }
    return normalAddress(address);
  };
  const aux = Object.entries(AuxiliaryAddresses ?? {}).map(([name, one]) => [name, within('auxiliary address', one)]);
  return { subnet, range, gateway: Gateway ? within('gateway', Gateway) : '', aux: Object.fromEntries(aux) };
}

function onePart(parts: Part[], family: Family): Part | undefined {
  const [first, second] = parts.filter(({ subnet }) => subnet?.family === family);
  if (second) throw new CaissonError('Forbidden', `bridge driver doesn't support multiple subnets of IPv${family}`);
  return first;
}

const gatewayOf = (subnet: Subnet, part: Part | undefined, isolated: boolean): string | null =>
  part?.gateway || (isolated ? null : firstAddress(subnet));

/** A network's subnets. `own`: of our networks; `routed`: what the host reaches otherwise. */
export function chooseAddressing(
  request: {
    id: string;
    ipv4: boolean;
    ipv6: boolean;
    config: readonly IpamConfigBody[];
    /** The host has no address on it, and keeps none from the containers. */
    isolated: Record<Family, boolean>;
  },
  pools: readonly AddressPool[],
  own: readonly Subnet[],
  routed: readonly Subnet[],
): Choice {
  const parts = request.config.map(readPart);
  const [v4, v6] = [onePart(parts, 4), onePart(parts, 6)];
  if (v4 && !request.ipv4) throw invalid('an IPv4 subnet is given, but the network has no IPv4');
  if (v6 && !request.ipv6) throw invalid('an IPv6 subnet is given, but the network has no IPv6 (use --ipv6)');
  const subnet = request.ipv4 ? (v4?.subnet ?? freeSubnet(pools, [...own, ...routed])) : undefined;
  const taken = [...own, ...routed];
  const hasPool = pools.some(({ base }) => base.includes(':'));
  const chosen6 = (): Subnet => (hasPool ? freeSubnet(pools, taken, 6) : uniqueLocalSubnet(request.id));
  const subnet6 = request.ipv6 ? (v6?.subnet ?? chosen6()) : undefined;
  for (const one of [subnet, subnet6]) {
    const clash = one && own.find((other) => overlaps(one, other));
    if (clash) {
      throw new CaissonError('Forbidden', 'invalid pool request: Pool overlaps with other one on this address space', {
        hint: `${formatSubnet(one)} overlaps ${formatSubnet(clash)}, which another network has`,
      });
    }
  }
  return {
    addressing: {
      subnet: subnet ? formatSubnet(subnet) : null,
      gateway: subnet ? gatewayOf(subnet, v4, request.isolated[4]) : null,
      ipRange: v4?.range ? formatSubnet(v4.range) : null,
      subnet6: subnet6 ? formatSubnet(subnet6) : null,
      gateway6: subnet6 ? gatewayOf(subnet6, v6, request.isolated[6]) : null,
      ipRange6: v6?.range ? formatSubnet(v6.range) : null,
    },
    auxAddresses: Object.assign({}, ...parts.map(({ aux }) => aux)) as Record<string, string>,
    fixed: parts.some((part) => part.subnet !== undefined),
  };
}
