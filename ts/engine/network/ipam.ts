/** Addresses of a new network: what the user gave, checked, and the rest chosen. */
import { CaissonError } from '../../errdefs.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import type { IpamConfigBody } from '../api/schemas/networks.ts';
import {
  type Family,
  familyOf,
  formatSubnet,
  holds,
  isReservedIn,
  nextAddress,
  normalAddress,
  overlaps,
  parseAddress,
  parseSubnet,
  type Subnet,
  uniqueLocalSubnet,
} from './addresses.ts';
import { type AddressPool, freeSubnet } from './pools.ts';
import { listed } from './settings.ts';

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

interface Part {
  subnet: Subnet;
  range: Subnet | undefined;
  gateway: string;
  aux: Record<string, string>;
}

export type Addressing = Pick<NetworkRow, 'subnet' | 'gateway' | 'ipRange' | 'subnet6' | 'gateway6' | 'ipRange6'>;

export interface Choice {
  addressing: Addressing;
  auxAddresses: Record<string, string>;
}

/** Entries of `IPAM.Config`, with Docker's checks; those of a family that the network has not say nothing. */
function readParts(config: readonly IpamConfigBody[], has: Record<Family, boolean>): Part[] {
  const problems: string[] = [];
  const parts = config.flatMap((entry) => {
    const part = readPart(entry, has, problems);
    return part ? [part] : [];
  });
  if (problems.length > 0) throw invalid(`invalid network config:\n${listed(problems)}`);
  return parts;
}

function readPart(entry: IpamConfigBody, has: Record<Family, boolean>, problems: string[]): Part | undefined {
  const { Subnet: text, IPRange, Gateway, AuxiliaryAddresses } = entry;
  if (!text) {
    if (IPRange || Gateway || Object.keys(AuxiliaryAddresses ?? {}).length > 0)
      problems.push('invalid subnet : a subnet is needed beside an ip-range, a gateway or auxiliary addresses');
    return undefined;
  }
  const subnet = read(() => parseSubnet(text));
  if (!subnet) {
    problems.push(`invalid subnet ${text}: invalid CIDR block notation`);
    return undefined;
  }
  if (!has[subnet.family]) return undefined;
  if (!isMasked(text, subnet)) problems.push(`invalid subnet ${text}: it should be ${formatSubnet(subnet)}`);
  const range = IPRange ? readRange(IPRange, subnet, problems) : undefined;
  const within = (what: string, address: string): string => {
    const problem = addressProblem(address, subnet);
    if (problem === undefined) return normalAddress(address);
    problems.push(`invalid ${what}: ${problem}`);
    return '';
  };
  const gateway = Gateway ? within(`gateway ${Gateway}`, Gateway) : '';
  const aux = Object.entries(AuxiliaryAddresses ?? {}).map(([name, one]) => [
    name,
    within(`auxiliary address ${name}`, one),
  ]);
  return { subnet, range, gateway, aux: Object.fromEntries(aux) as Record<string, string> };
}

function readRange(text: string, subnet: Subnet, problems: string[]): Subnet | undefined {
  const range = read(() => parseSubnet(text));
  const parent = formatSubnet(subnet);
  if (!range) problems.push(`invalid ip-range ${text}: invalid CIDR block notation`);
  else if (range.family !== subnet.family)
    problems.push(`invalid ip-range ${text}: parent subnet is an IPv${subnet.family} block`);
  else {
    if (range.prefix < subnet.prefix)
      problems.push(`invalid ip-range ${text}: CIDR block is bigger than its parent subnet ${parent}`);
    if (!isMasked(text, range)) problems.push(`invalid ip-range ${text}: it should be ${formatSubnet(range)}`);
    if (!overlaps(subnet, range))
      problems.push(`invalid ip-range ${text}: parent subnet ${parent} doesn't contain ip-range`);
  }
  return range;
}

function addressProblem(text: string, subnet: Subnet): string | undefined {
  const family = read(() => familyOf(text));
  if (family === undefined) return 'invalid address';
  if (family !== subnet.family) return `parent subnet is an IPv${subnet.family} block`;
  return holds(subnet, text) ? undefined : `parent subnet ${formatSubnet(subnet)} doesn't contain this address`;
}

const isMasked = (text: string, { base }: Subnet): boolean => parseAddress(text.split('/')[0] ?? '') === base;

function read<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

function onePart(parts: Part[], family: Family): Part | undefined {
  const [first, second] = parts.filter(({ subnet }) => subnet.family === family);
  if (second) throw new CaissonError('Forbidden', `bridge driver doesn't support multiple subnets of IPv${family}`);
  return first;
}

/** The gateway and the auxiliary addresses are taken once, and not from those that are never given out. */
function checkAllocatable({ subnet, gateway: asked, aux }: Part, gateway: string | null): void {
  const inUse = (what: string): CaissonError =>
    new CaissonError('Forbidden', `failed to allocate ${what}: Address already in use`, { code: 'ADDRESS_IN_USE' });
  if (asked && isReservedIn(subnet, asked)) throw inUse(`gateway (${asked})`);
  const clash = Object.entries(aux).find(([, one]) => one === gateway || isReservedIn(subnet, one));
  if (clash) throw inUse(`secondary ip address (${clash.join(':')})`);
}

/** Without one of the user's choice the first address that containers could have; null where the host has none. */
function gatewayOf(subnet: Subnet, part: Part | undefined, isolated: boolean): string | null {
  if (part?.gateway) return part.gateway;
  return isolated ? null : nextAddress(subnet, () => false, undefined, part?.range);
}

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
  if (!request.ipv4 && !request.ipv6) throw invalid('IPv4 or IPv6 must be enabled');
  const parts = readParts(request.config, { 4: request.ipv4, 6: request.ipv6 });
  const [v4, v6] = [onePart(parts, 4), onePart(parts, 6)];
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
  const auxAddresses = Object.assign({}, ...parts.map(({ aux }) => aux)) as Record<string, string>;
  const gateway = subnet ? gatewayOf(subnet, v4, request.isolated[4]) : null;
  const gateway6 = subnet6 ? gatewayOf(subnet6, v6, request.isolated[6]) : null;
  for (const part of parts) checkAllocatable(part, part.subnet.family === 4 ? gateway : gateway6);
  return {
    addressing: {
      subnet: subnet ? formatSubnet(subnet) : null,
      gateway,
      ipRange: v4?.range ? formatSubnet(v4.range) : null,
      subnet6: subnet6 ? formatSubnet(subnet6) : null,
      gateway6,
      ipRange6: v6?.range ? formatSubnet(v6.range) : null,
    },
    auxAddresses,
  };
}
