/** Getting into a registry: anonymous, with a password, or with a token that its token server gives. */
import { CaissonError } from '../../errdefs.ts';
import type { Reference } from '../../reference.ts';
import { readSmall } from './body.ts';
import { type Challenge, judgeRealm, parseChallenges } from './challenge.ts';
import { MAX_ERROR_BYTES, tokenError } from './errors.ts';
import { retrying } from './retry.ts';
import type { RegistryTiming } from './settings.ts';
import { type Answer, header, type Transport } from './transport.ts';

/** As a client sends them in X-Registry-Auth; '' or absent: anonymous. */
export interface Credentials {
  username?: string | undefined;
  password?: string | undefined;
  /** A refresh token, to be used in place of the password. */
  identityToken?: string | undefined;
  /** A bearer token that is used as it is. */
  registryToken?: string | undefined;
}

interface Token {
  value: string;
  expiresMs: number;
}

/** A token is renewed so long before it ends, as a request takes time. */
const RENEW_MS = 10_000;
const MIN_LIFE_MS = 60_000;
const MAX_TOKENS = 1000;

const basic = ({ username = '', password = '' }: Credentials): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;

export const isAnonymous = ({ username, identityToken, registryToken }: Credentials): boolean =>
  !username && !identityToken && !registryToken;

export class Authenticator {
  readonly #transport: Transport;
  readonly #timing: RegistryTiming;
  /** By registry, user and scope. */
  readonly #tokens = new Map<string, Token>();

  constructor(transport: Transport, timing: RegistryTiming) {
    this.#transport = transport;
    this.#timing = timing;
  }

  /** Authorization that an earlier exchange has shown to be right, or that may be tried at once. */
  known(registry: URL, credentials: Credentials, scope: string): string | undefined {
    if (credentials.registryToken) return `Bearer ${credentials.registryToken}`;
    const token = this.#tokens.get(keyOf(registry, credentials, scope));
    if (token === undefined) return undefined;
    return token.expiresMs > Date.now() ? token.value : undefined;
  }

  /** Authorization that answers a 401; undefined when there is nothing to try. */
  async answer(
    refusal: Answer,
    { registry, credentials, scope, reference, signal }: AuthRequest,
  ): Promise<string | undefined> {
    // Only the registry itself may ask for its credentials: a 401 from where it redirects to is just a failure.
    if (refusal.url.origin !== registry.origin) return undefined;
    const challenges = parseChallenges(header(refusal, 'www-authenticate') ?? '');
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const key = keyOf(registry, credentials, scope);
    if (bearer !== undefined) {
      const token = await this.#token(bearer, { registry, credentials, scope, reference, signal });
      this.#remember(key, token);
      return token.value;
    }
    if (challenges.some(({ scheme }) => scheme === 'basic')) {
      if (!credentials.username)
        throw new CaissonError(
          'Unauthorized',
          `Get "${refusal.url.origin}${refusal.url.pathname}": no basic auth credentials`,
          {
            code: 'UNAUTHORIZED',
            hint: `log in first: docker login ${reference.domain}`,
          },
        );
      const value = basic(credentials);
      this.#remember(key, { value, expiresMs: Number.POSITIVE_INFINITY });
      return value;
    }
    return undefined;
  }

  forget(registry: URL, credentials: Credentials, scope: string): void {
    this.#tokens.delete(keyOf(registry, credentials, scope));
  }

  #remember(key: string, token: Token): void {
    this.#tokens.delete(key);
    this.#tokens.set(key, token);
    const [oldest] = this.#tokens.keys();
    if (this.#tokens.size > MAX_TOKENS && oldest !== undefined) this.#tokens.delete(oldest);
  }

  async #token({ parameters }: Challenge, request: AuthRequest): Promise<Token> {
    const { registry, credentials, reference, signal } = request;
    const realmText = parameters['realm'] ?? '';
    const realm = URL.canParse(realmText) ? new URL(realmText) : undefined;
    const judged = realm === undefined ? 'refused' : judgeRealm(realm, registry);
    if (realm === undefined || judged === 'refused')
      throw new CaissonError(
        'Unauthorized',
        `registry ${registry.host} names a token server that is not allowed: ${JSON.stringify(realmText.slice(0, 200))}`,
        {
          code: 'REGISTRY_REALM',
          hint: 'a token server is an https URL, with the same host as the registry or with a name in the DNS',
        },
      );
    const withheld = judged === 'anonymous' && !isAnonymous(credentials);
    const used = withheld ? {} : credentials;
    const answer = await retrying(this.#timing, signal, async () => {
      const got = await this.#askForToken(realm, parameters['service'], request.scope, used, signal);
      if (got.status === 200) return got;
      const text = await readSmall(got, { ...this.#limits(MAX_ERROR_BYTES, signal), cut: true });
      const error = tokenError(got, text.toString(), reference, this.#timing.maxRetryAfterMs);
      if (!withheld || error.kind === 'Unavailable') throw error;
      throw new CaissonError(
        'Unauthorized',
        `the credentials for ${registry.host} were not sent to its token server ${realm.host}, which belongs to another domain: ${error.message}`,
        { code: 'REGISTRY_REALM', cause: error },
      );
    });
    return readToken(await readSmall(answer, this.#limits(1 << 20, signal)), realm);
  }

  #askForToken(
    realm: URL,
    service: string | undefined,
    scope: string,
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<Answer> {
    if (credentials.identityToken)
      return this.#transport.exchange(realm, {
        method: 'POST',
        form: {
          grant_type: 'refresh_token',
          refresh_token: credentials.identityToken,
          client_id: 'caisson',
          ...(service && { service }),
          ...(scope && { scope }),
        },
        signal,
      });
    const url = new URL(realm);
    if (service !== undefined) url.searchParams.set('service', service);
    for (const one of scope.split(' ').filter(Boolean)) url.searchParams.append('scope', one);
    if (credentials.username) url.searchParams.set('account', credentials.username);
    const authorization = credentials.username ? basic(credentials) : undefined;
    return this.#transport.exchange(url, { authorization, signal });
  }

  #limits(maxBytes: number, signal: AbortSignal): { maxBytes: number; timeoutMs: number; signal: AbortSignal } {
    return { maxBytes, timeoutMs: this.#timing.responseMs, signal };
  }
}

export interface AuthRequest {
  registry: URL;
  credentials: Credentials;
  /** `repository:library/busybox:pull`, several between spaces; '' for the registry as such. */
  scope: string;
  reference: Reference;
  signal: AbortSignal;
}

const keyOf = (registry: URL, credentials: Credentials, scope: string): string =>
  JSON.stringify([registry.origin, credentials.username, credentials.password, credentials.identityToken, scope]);

function readToken(body: Buffer, realm: URL): Token {
  let parsed: Record<string, unknown> = {};
  try {
    const value: unknown = JSON.parse(body.toString());
    if (typeof value === 'object' && value !== null) parsed = value as Record<string, unknown>;
  } catch {
    // falls through to the one message
  }
  const value = parsed['token'] || parsed['access_token'];
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value))
    throw new CaissonError(
      'System',
      `the token server ${realm.host} gave no token: authorization server did not include a token in the response`,
      { code: 'REGISTRY_TOKEN' },
    );
  const life = typeof parsed['expires_in'] === 'number' ? parsed['expires_in'] * 1000 : 0;
  return { value: `Bearer ${value}`, expiresMs: Date.now() + Math.max(life, MIN_LIFE_MS) - RENEW_MS };
}
