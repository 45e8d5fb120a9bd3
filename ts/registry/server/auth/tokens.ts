/**
 * Bearer tokens: JSON Web Tokens with Docker's `access` claim. Keys come from the configured set only: a key, certificate or
 * address in a token's own header counts for nothing (CVE-2025-24976), nor does a symmetric algorithm or none.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLocalJWKSet, exportJWK, generateKeyPair, importJWK, type JWK, jwtVerify, SignJWT } from 'jose';
import { CaissonError } from '../../../errdefs.ts';
import type { TokenConfig } from '../config.ts';

const ALGORITHMS = ['ES256', 'ES384', 'ES512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'EdDSA'];
const PRIVATE_PARTS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth'];

export interface Access {
  type: string;
  name: string;
  actions: string[];
}

export interface Verified {
  subject: string;
  access: Access[];
}

export class Tokens {
  readonly config: TokenConfig;
  readonly #keys: ReturnType<typeof createLocalJWKSet>;
  readonly #signing: JWK | undefined;

  private constructor(config: TokenConfig, keys: JWK[]) {
    this.config = config;
    this.#signing = keys.find((key) => key.d !== undefined);
    this.#keys = createLocalJWKSet({ keys: keys.map(publicPart) });
  }

  /** Without configured keys one is made, in the registry's root, and used from then on. */
  static async open(config: TokenConfig, root: string): Promise<Tokens> {
    const path = config.keys === '' ? join(root, 'token-keys.json') : config.keys;
    if (config.keys === '' && !existsSync(path))
      writeFileSync(path, JSON.stringify({ keys: [await newKey()] }), { mode: 0o600, flag: 'wx' });
    const keys = readKeys(path);
    const tokens = new Tokens(config, keys);
    if (config.realm === '' && tokens.#signing === undefined)
      throw new CaissonError(
        'InvalidParameter',
        `token keys ${path}: no private key, but this registry gives tokens itself`,
      );
    return tokens;
  }

  async sign(subject: string, access: Access[], nowS: number): Promise<string> {
    const key = this.#signing;
    if (key === undefined) throw new CaissonError('NotImplemented', 'this registry gives no tokens');
    return new SignJWT({ access })
      .setProtectedHeader({ alg: key.alg ?? 'ES256', typ: 'JWT', ...(key.kid === undefined ? {} : { kid: key.kid }) })
      .setIssuer(this.config.issuer)
      .setAudience(this.config.service)
      .setSubject(subject)
      .setIssuedAt(nowS)
      .setNotBefore(nowS)
      .setExpirationTime(nowS + this.config.ttlS)
      .sign(await importJWK(key));
  }

  /** Undefined for whatever does not hold. */
  async verify(token: string): Promise<Verified | undefined> {
    try {
      const { payload } = await jwtVerify(token, this.#keys, {
        algorithms: ALGORITHMS,
        issuer: this.config.issuer,
        audience: this.config.service,
        requiredClaims: ['exp'],
        clockTolerance: 0,
      });
      return { subject: payload.sub ?? '', access: accessOf(payload['access']) };
    } catch {
      return undefined;
    }
  }
}

async function newKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  return { ...(await exportJWK(privateKey)), alg: 'ES256', use: 'sig', kid: crypto.randomUUID() };
}

function publicPart(key: JWK): JWK {
  return Object.fromEntries(Object.entries(key).filter(([name]) => !PRIVATE_PARTS.includes(name))) as JWK;
}

function readKeys(path: string): JWK[] {
  const wrong = (why: string): CaissonError => new CaissonError('InvalidParameter', `token keys ${path}: ${why}`);
  let parsed: { keys?: unknown };
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8')) as { keys?: unknown };
  } catch (error) {
    throw wrong((error as Error).message);
  }
  if (!Array.isArray(parsed.keys) || parsed.keys.length === 0) throw wrong('no JSON Web Key Set with keys');
  const keys = parsed.keys as JWK[];
  const odd = keys.find(({ kty, alg }) => !['EC', 'RSA', 'OKP'].includes(kty ?? '') || !ALGORITHMS.includes(alg ?? ''));
  if (odd !== undefined) throw wrong(`a key of type ${odd.kty} with algorithm ${odd.alg} cannot verify tokens`);
  return keys;
}

function accessOf(claim: unknown): Access[] {
  if (!Array.isArray(claim)) return [];
  return claim.flatMap((entry: Partial<Access> | null) =>
    typeof entry?.type === 'string' && typeof entry.name === 'string' && Array.isArray(entry.actions)
      ? [{ type: entry.type, name: entry.name, actions: entry.actions.map(String) }]
      : [],
  );
}
