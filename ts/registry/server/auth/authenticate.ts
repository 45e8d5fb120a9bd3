/** Who a request comes from, and how one is asked to say so. */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { RegistryConfig } from '../config.ts';
import { RegistryError } from '../errors.ts';
import type { Htpasswd } from './htpasswd.ts';
import { ACTIONS, type Action, type Principal, principalOf, type Right } from './rights.ts';
import type { Access, Tokens } from './tokens.ts';

const ANY_USER = 'anonymous';

export class Authenticator {
  readonly #rights: readonly Right[];
  readonly #htpasswd: Htpasswd | undefined;
  readonly #anonymous: Principal;
  readonly tokens: Tokens | undefined;

  private constructor(rights: readonly Right[], htpasswd: Htpasswd | undefined, tokens: Tokens | undefined) {
    this.#rights = rights;
    this.#htpasswd = htpasswd;
    this.#anonymous = principalOf(undefined, rights);
    this.tokens = tokens;
  }

  /** What nobody asks for is not loaded: tokens and bcrypt are a tenth of an idle registry's memory. */
  static async open({ rights, htpasswd, tokens, root }: RegistryConfig): Promise<Authenticator> {
    const users = htpasswd === '' ? undefined : new (await import('./htpasswd.ts')).Htpasswd(htpasswd);
    const given = tokens && (await (await import('./tokens.ts')).Tokens.open(tokens, root));
    return new Authenticator(rights, users, given);
  }

  get open(): boolean {
    return this.#htpasswd === undefined && this.tokens === undefined;
  }

  /** Throws UNAUTHORIZED for credentials that are wrong; without any, the principal is anonymous. */
  async identify(request: IncomingMessage): Promise<Principal> {
    const header = request.headers.authorization;
    if (header === undefined || this.open) return this.#anonymous;
    const [, scheme = '', value = ''] = /^(\S+) +(\S+)$/.exec(header) ?? [];
    if (this.tokens !== undefined && scheme.toLowerCase() === 'bearer') return this.#bearer(request, value);
    if (this.tokens === undefined && scheme.toLowerCase() === 'basic') return this.#basic(request, value);
    throw this.unauthorized(
      request,
      undefined,
      `the registry does not take ${JSON.stringify(scheme.slice(0, 20))} credentials`,
    );
  }

  /** For the token server: whoever the Basic credentials name. */
  async identifyUser(request: IncomingMessage, user: string, password: string): Promise<Principal> {
    if (this.#htpasswd === undefined || !(await this.#htpasswd.check(user, password)))
      throw new RegistryError('UNAUTHORIZED', 'wrong user name or password', {
        headers: { 'WWW-Authenticate': `Basic realm="${originOf(request)}"` },
      });
    return principalOf(user, this.#rights);
  }

  get anonymous(): Principal {
    return this.#anonymous;
  }

  /** 401 with the challenge that the client answers. */
  unauthorized(request: IncomingMessage, scope: string | undefined, message: string, error?: string): RegistryError {
    return new RegistryError('UNAUTHORIZED', message, {
      headers: { 'WWW-Authenticate': this.#challenge(request, scope, error) },
    });
  }

  /** Throws unless the principal may. */
  demand(request: IncomingMessage, principal: Principal, repository: string, action: Action): void {
    if (principal.may(repository, action)) return;
    const scope = `repository:${repository}:${action === 'push' ? 'pull,push' : action}`;
    const message = `${principal.name ?? 'an anonymous client'} may not ${action} ${repository}`;
    if (principal.name === undefined && !this.open) throw this.unauthorized(request, scope, message);
    // A token for something else: the client fetches another.
    if (this.tokens !== undefined) throw this.unauthorized(request, scope, message, 'insufficient_scope');
    throw new RegistryError('DENIED', message);
  }

  #challenge(request: IncomingMessage, scope: string | undefined, error: string | undefined): string {
    if (this.tokens === undefined) return `Basic realm="${originOf(request)}"`;
    const { realm, service } = this.tokens.config;
    const parts = [`realm="${realm === '' ? `${originOf(request)}/token` : realm}"`, `service="${service}"`];
    if (scope !== undefined) parts.push(`scope="${scope}"`);
    if (error !== undefined) parts.push(`error="${error}"`);
    return `Bearer ${parts.join(',')}`;
  }

  async #basic(request: IncomingMessage, value: string): Promise<Principal> {
    const { user, password } = basicCredentials(value);
    return this.identifyUser(request, user, password);
  }

  async #bearer(request: IncomingMessage, token: string): Promise<Principal> {
    const verified = await this.tokens?.verify(token);
    if (verified === undefined) throw this.unauthorized(request, undefined, 'the token does not hold', 'invalid_token');
    const { subject, access } = verified;
    const user = subject === '' || subject === ANY_USER ? undefined : subject;
    const { sees } = principalOf(user, this.#rights);
    return {
      name: user ?? ANY_USER,
      may: (repository, action) => access.some((entry) => grants(entry, repository, action)),
      mayList: access.some(({ type, name }) => type === 'registry' && name === 'catalog'),
      sees,
    };
  }
}

const grants = ({ type, name, actions }: Access, repository: string, action: Action): boolean =>
  type === 'repository' && name === repository && (actions.includes(action) || actions.includes('*'));

export function basicCredentials(value: string): { user: string; password: string } {
  const text = Buffer.from(value, 'base64').toString();
  const colon = text.indexOf(':');
  return { user: text.slice(0, Math.max(colon, 0)), password: text.slice(colon + 1) };
}

/** What a principal gets of the scopes that he asks for. */
export function grantedAccess(principal: Principal, scopes: readonly string[]): Access[] {
  return scopes.flatMap((scope): Access[] => {
    // a repository's name may have a port: the type ends at the first colon, the actions begin after the last
    const [, type = '', name = '', wanted = ''] = /^([a-z]+):(.+):([a-z*,]+)$/.exec(scope) ?? [];
    if (type === 'registry' && name === 'catalog') return principal.mayList ? [{ type, name, actions: ['*'] }] : [];
    if (type !== 'repository') return [];
    const asked =
      wanted === '*' ? ACTIONS : ACTIONS.filter((action) => wanted.split(',').includes(action) || wanted.includes('*'));
    const actions = asked.filter((action) => principal.may(name, action));
    return actions.length === 0 ? [] : [{ type, name, actions }];
  });
}

/** As the client sees this registry. Hosts with anything but a name, an address and a port are not repeated. */
function originOf({ headers, socket }: IncomingMessage): string {
  const host = /^[\w.:[\]-]{1,255}$/.test(headers.host ?? '') ? headers.host : 'localhost';
  const forwarded = headers['x-forwarded-proto'];
  const secure = (socket as TLSSocket).encrypted === true || forwarded === 'https';
  return `${secure ? 'https' : 'http'}://${host}`;
}
