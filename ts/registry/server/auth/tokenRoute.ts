/** /token: Docker's token server, GET with Basic credentials and the OAuth2 form of POST with a password. */
import { RegistryError } from '../errors.ts';
import { type Exchange, readBody, sendJson } from '../exchange.ts';
import { type Authenticator, basicCredentials, grantedAccess } from './authenticate.ts';
import type { Principal } from './rights.ts';

const MAX_FORM_BYTES = 64 * 1024;

export async function giveToken(authenticator: Authenticator, exchange: Exchange): Promise<void> {
  const { tokens } = authenticator;
  if (tokens === undefined || tokens.config.realm !== '')
    throw new RegistryError('UNSUPPORTED', 'this registry gives no tokens', { status: 404 });
  const form = exchange.method === 'POST' ? await formOf(exchange) : exchange.query;
  const service = form.get('service');
  if (service !== null && service !== tokens.config.service)
    throw new RegistryError(
      'DENIED',
      `this is the token server of ${tokens.config.service}, not of ${service.slice(0, 100)}`,
    );
  const principal = await principalOfRequest(authenticator, exchange, form);
  const scopes = form.getAll('scope').flatMap((scope) => scope.split(' ').filter((one) => one !== ''));
  const nowS = Math.floor(Date.now() / 1000);
  const access = grantedAccess(principal, scopes);
  const token = await tokens.sign(principal.name ?? 'anonymous', access, nowS);
  sendJson(
    exchange,
    {
      token,
      access_token: token,
      expires_in: tokens.config.ttlS,
      issued_at: new Date(nowS * 1000).toISOString(),
      scope: scopes.join(' '),
    },
    { 'Cache-Control': 'no-store' },
  );
}

async function formOf(exchange: Exchange): Promise<URLSearchParams> {
  const form = new URLSearchParams((await readBody(exchange, MAX_FORM_BYTES)).toString());
  if (form.get('grant_type') !== 'password')
    throw new RegistryError('UNSUPPORTED', 'the only grant_type is password', { status: 400 });
  return form;
}

function principalOfRequest(
  authenticator: Authenticator,
  { request, method }: Exchange,
  form: URLSearchParams,
): Promise<Principal> | Principal {
  if (method === 'POST')
    return authenticator.identifyUser(request, form.get('username') ?? '', form.get('password') ?? '');
  const [, value] = /^basic +(\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
  if (value === undefined) return authenticator.anonymous;
  const { user, password } = basicCredentials(value);
  return authenticator.identifyUser(request, user, password);
}
