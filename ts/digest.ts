/**
 * Digests: `algorithm:hex`. They become paths and URLs, so the only ones that exist here are those that this file has
 * checked (CVE-2024-3727: a digest used unchecked leaves its directory).
 */
import { CaissonError } from './errdefs.ts';
import { crypto } from './late.ts';

const PATTERN = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export const isDigest = (value: unknown): value is string => typeof value === 'string' && PATTERN.test(value);

/** The value itself; kind InvalidParameter when it is no digest of an algorithm that we know. */
export function checkDigest(value: unknown): string {
  if (isDigest(value)) return value;
  const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 150)) : typeof value;
  throw new CaissonError(
    'InvalidParameter',
    `invalid digest ${shown}: not sha256 or sha512 in lower-case hexadecimal`,
    {
      code: 'DIGEST_INVALID',
    },
  );
}

/** The hex part. */
export const digestHex = (digest: string): string => digest.slice(digest.indexOf(':') + 1);

export const sha256Of = (data: string | Uint8Array): string =>
  `sha256:${crypto().createHash('sha256').update(data).digest('hex')}`;

/** Names a layer with all below it (image specification: ChainID); a base layer has the name of its diffID. */
export const chainIdOf = (parent: string | null, diffId: string): string =>
  parent === null ? diffId : sha256Of(`${parent} ${diffId}`);

/** The chainID of each layer, the base layer first. */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) chain.push(chainIdOf(chain.at(-1) ?? null, diffId));
  return chain;
}
