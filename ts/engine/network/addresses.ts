/** IPv4 arithmetic and the choice of free subnets and addresses. */
import { randomBytes } from 'node:crypto';
import { CaissonError } from '../../errdefs.ts';

export interface Subnet {
  /** First address as a number. */
  base: number;
  prefix: number;
}

export function parseIpv4(text: string): number {
  const parts = text.split('.').map(Number);
  if (parts.length !== 4 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255)) {
    throw new CaissonError('InvalidParameter', `invalid IPv4 address: ${text}`);
  }
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

export const formatIpv4 = (address: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');

const sizeOf = (prefix: number): number => 2 ** (32 - prefix);

/** `172.17.0.5/16` → the subnet that it lies in. */
export function parseSubnet(text: string): Subnet {
  const [address = '', prefixText = ''] = text.split('/');
  const prefix = Number(prefixText);
  if (!/^\d{1,2}$/.test(prefixText) || prefix > 32) {
    throw new CaissonError('InvalidParameter', `invalid subnet: ${text}`);
  }
  const number = parseIpv4(address);
  return { base: number - (number % sizeOf(prefix)), prefix };
}

export const formatSubnet = ({ base, prefix }: Subnet): string => `${formatIpv4(base)}/${prefix}`;

export const overlaps = (a: Subnet, b: Subnet): boolean =>
  a.base < b.base + sizeOf(b.prefix) && b.base < a.base + sizeOf(a.prefix);

/** Docker's pools for bridges: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 and on. */
function* pools(): Generator<Subnet> {
  for (let second = 17; second <= 31; second++) yield parseSubnet(`172.${second}.0.0/16`);
  for (let third = 0; third < 256; third += 16) yield parseSubnet(`192.168.${third}.0/20`);
}

/** The first pool that no route of the host and no network of ours touches. */
export function freeSubnet(taken: Subnet[]): Subnet {
  for (const pool of pools()) if (!taken.some((subnet) => overlaps(pool, subnet))) return pool;
  throw new CaissonError(
    'Unavailable',
    'all predefined address pools have been fully subnetted: no free subnet for the bridge',
    { hint: 'give one with --bip, for example --bip 10.200.0.1/16' },
  );
}

/**
 * The next free address behind the one given out last, so that an address is not reused while a neighbour may still have
 * it in its ARP cache. Network and broadcast address are never given out.
 */
export function nextAddress(subnet: Subnet, isTaken: (address: string) => boolean, last: number | undefined): string {
  const size = sizeOf(subnet.prefix);
  const start = last === undefined ? 1 : last - subnet.base + 1;
  for (let step = 0; step < size; step++) {
    const offset = (start + step) % size;
    if (offset === 0 || offset === size - 1) continue;
    const address = formatIpv4(subnet.base + offset);
    if (!isTaken(address)) return address;
  }
  throw new CaissonError(
    'Unavailable',
    `no available IPv4 addresses on this network's address pool: ${formatSubnet(subnet)}`,
  );
}

/** Random, unicast, locally administered. */
export function randomMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfe) | 0x02;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
