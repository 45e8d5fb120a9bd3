/** Where subnets of new networks are taken from. */
import { CaissonError } from '../../errdefs.ts';
import { overlaps, parseSubnet, piecesOf, type Subnet } from './addresses.ts';

export interface AddressPool {
  /** `172.17.0.0/16`. */
  base: string;
  /** Prefix length of each network's part. */
  size: number;
}

/**
 * Docker's 31 networks, so that what people expect comes first; then 4,096 smaller ones in a corner of 10/8 that fewest
 * networks of others use.
 */
export const DEFAULT_POOLS: readonly AddressPool[] = [
  ...Array.from({ length: 15 }, (_, at) => ({ base: `172.${17 + at}.0.0/16`, size: 16 })),
  { base: '192.168.0.0/16', size: 20 },
  { base: '10.208.0.0/12', size: 24 },
];

/** The first part of a pool that nothing taken touches. */
export function freeSubnet(pools: readonly AddressPool[], taken: readonly Subnet[], family: 4 | 6 = 4): Subnet {
  for (const { base, size } of pools) {
    const pool = parseSubnet(base);
    if (pool.family !== family) continue;
    const near = taken.filter((subnet) => overlaps(subnet, pool));
    // most of what is taken are parts of this very size: found by their place, not by comparing all with all
    const places = new Set(near.filter(({ prefix }) => prefix >= size).map((subnet) => placeIn(subnet, size)));
    const wide = near.filter(({ prefix }) => prefix < size);
    for (const piece of piecesOf(pool, size)) {
      if (!places.has(piece.base) && !wide.some((subnet) => overlaps(piece, subnet))) return piece;
    }
  }
  throw new CaissonError(
    'Unavailable',
    'all predefined address pools have been fully subnetted: could not find an available, non-overlapping address pool',
    { hint: 'give the network a subnet (--subnet 10.200.0.0/24), or the daemon more pools (--default-address-pool)' },
  );
}

/** Base of the part of this size that a subnet lies in. */
const placeIn = ({ family, base }: Subnet, size: number): bigint => {
  const length = 1n << BigInt((family === 4 ? 32 : 128) - size);
  return base - (base % length);
};

/** `base=10.0.0.0/8,size=24`, as dockerd's flag. */
export function parsePool(text: string): AddressPool {
  const fields = new Map(text.split(',').map((field) => field.split('=', 2) as [string, string]));
  return checkPool({ base: fields.get('base') ?? '', size: Number(fields.get('size')) });
}

export function checkPool(pool: AddressPool): AddressPool {
  const { family, prefix } = parseSubnet(pool.base);
  if (!Number.isInteger(pool.size) || pool.size < prefix || pool.size > (family === 4 ? 30 : 126)) {
    throw new CaissonError('InvalidParameter', `invalid default-address-pool ${pool.base}: size ${pool.size}`);
  }
  return pool;
}
