/** Arithmetic of IP addresses of both families, and the choice of free ones. */
import { createHash, randomBytes } from 'node:crypto';
import { isIP, SocketAddress } from 'node:net';
import { CaissonError } from '../../errdefs.ts';

export type Family = 4 | 6;

export interface Subnet {
  family: Family;
  /** First address as a number. */
  base: bigint;
  prefix: number;
}

const bitsOf = (family: Family): number => (family === 4 ? 32 : 128);

const sizeOf = ({ family, prefix }: Subnet): bigint => 1n << BigInt(bitsOf(family) - prefix);

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

export function familyOf(text: string): Family {
  const family = isIP(text);
  if (family === 0 || text.includes('%')) throw invalid(`invalid IP address: ${text}`);
  return family as Family;
}

/** An address as a number. */
export function parseAddress(text: string): bigint {
  if (familyOf(text) === 4) return text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [head = '', tail] = canonical(text).split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':').flatMap(hexGroups));
  const before = groups(head);
  const after = groups(tail ?? '');
  const middle = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return [...before, ...middle, ...after].reduce((sum, group) => sum * 65536n + BigInt(`0x${group}`), 0n);
}

/** `1.2.3.4` at the end of an IPv6 address stands for two groups. */
function hexGroups(group: string): string[] {
  if (!group.includes('.')) return [group];
  const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
  return [(a * 256 + b).toString(16), (c * 256 + d).toString(16)];
}

/** IPv6 in the form of RFC 5952. */
const canonical = (text: string): string => new SocketAddress({ address: text, family: 'ipv6' }).address;

export function formatAddress(family: Family, address: bigint): string {
  const step = family === 4 ? 8n : 16n;
  const parts: string[] = [];
  for (let shift = BigInt(bitsOf(family)) - step; shift >= 0n; shift -= step) {
    parts.push(((address >> shift) & ((1n << step) - 1n)).toString(family === 4 ? 10 : 16));
  }
  return family === 4 ? parts.join('.') : canonical(parts.join(':'));
}

/** The same address in the one form that rows are compared in. */
export const normalAddress = (text: string): string => formatAddress(familyOf(text), parseAddress(text));

/** `172.17.0.5/16` → the subnet that it lies in. */
export function parseSubnet(text: string): Subnet {
  const [address = '', prefixText = ''] = text.split('/');
  const family = isIP(address);
  const prefix = Number(prefixText);
  if (family === 0 || !/^\d{1,3}$/.test(prefixText) || prefix > bitsOf(family as Family)) {
    throw invalid(`invalid subnet ${text}: it is an address with a prefix length`);
  }
  const subnet: Subnet = { family: family as Family, base: 0n, prefix };
  const number = parseAddress(address);
  return { ...subnet, base: number - (number % sizeOf(subnet)) };
}

export const formatSubnet = ({ family, base, prefix }: Subnet): string => `${formatAddress(family, base)}/${prefix}`;

export const overlaps = (a: Subnet, b: Subnet): boolean =>
  a.family === b.family && a.base < b.base + sizeOf(b) && b.base < a.base + sizeOf(a);

export const contains = (outer: Subnet, inner: Subnet): boolean =>
  outer.family === inner.family && outer.base <= inner.base && inner.base + sizeOf(inner) <= outer.base + sizeOf(outer);

export const holds = (subnet: Subnet, address: string): boolean =>
  contains(subnet, { family: familyOf(address), base: parseAddress(address), prefix: bitsOf(familyOf(address)) });

export const firstAddress = ({ family, base }: Subnet): string => formatAddress(family, base + 1n);

/** Pieces of a pool, from its beginning. */
export function* piecesOf(pool: Subnet, prefix: number): Generator<Subnet> {
  const piece = { ...pool, prefix };
  for (let base = pool.base; base < pool.base + sizeOf(pool); base += sizeOf(piece)) yield { ...piece, base };
}

/** Every network number and IPv4's address for everybody are never given out. */
export const isReservedIn = (subnet: Subnet, address: string): boolean =>
  isReserved(subnet, parseAddress(address) - subnet.base);

function isReserved(subnet: Subnet, offset: bigint): boolean {
  if (subnet.family === 4 && subnet.prefix >= 31) return false;
  return offset === 0n || (subnet.family === 4 && offset === sizeOf(subnet) - 1n);
}

/** The first free address of `range` (a part of `subnet`) behind `last`; from the beginning without it, and at the end. */
export function nextAddress(
  subnet: Subnet,
  isTaken: (address: string) => boolean,
  last: bigint | undefined,
  range: Subnet = subnet,
): string {
  const size = sizeOf(range);
  const inRange = last !== undefined && last >= range.base && last < range.base + size;
  const start = inRange ? last - range.base + 1n : 0n;
  for (let step = 0n; step < size; step++) {
    const number = range.base + ((start + step) % size);
    if (isReserved(subnet, number - subnet.base)) continue;
    const address = formatAddress(range.family, number);
    if (!isTaken(address)) return address;
  }
  throw new CaissonError(
    'Unavailable',
    `no available IPv${range.family} addresses on this network's address pool: ${formatSubnet(range)}`,
  );
}

/** Unicast, locally administered. Another one at each start, as Docker has it: neighbours are told (crates/netlink, advertise.rs). */
export function randomMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfe) | 0x02;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** A unique local /64 for a network (RFC 4193): of its own, and the same as long as the network lives. */
export function uniqueLocalSubnet(networkId: string): Subnet {
  const digest = createHash('sha256').update(networkId).digest();
  const base = (0xfdn << 120n) | (BigInt(`0x${digest.subarray(0, 7).toString('hex')}`) << 64n);
  return { family: 6, base, prefix: 64 };
}
