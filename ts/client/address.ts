/** Where the engine listens. */
import { CaissonError } from '../errdefs.ts';
import { chosenContext, contextAddress } from './dockerContext.ts';

export const DEFAULT_SOCKET = '/run/caisson/caisson.sock';

export type Address = { socketPath: string } | { host: string; port: number };

/** `unix:///path`, `/path` or `tcp://host[:port]`; https and `withTls` mean Docker's port for TLS. */
export function parseAddress(text: string, withTls = false): Address {
  if (text.startsWith('/')) return { socketPath: text };
  if (text.startsWith('unix://')) return { socketPath: text.slice('unix://'.length) };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && /^(?:tcp|https?):$/.test(url.protocol) && url.hostname !== '')
    return {
      host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: Number(url.port || (withTls || url.protocol === 'https:' ? 2376 : 2375)),
    };
  throw new CaissonError('InvalidParameter', `invalid address ${JSON.stringify(text)}`, {
    hint: 'use unix:///path/to/caisson.sock or tcp://host:port',
  });
}

/**
 * Of `$CAISSON_HOST`, `$DOCKER_HOST`, the context that `$DOCKER_CONTEXT` names or else `docker context use` has chosen, or
 * the engine of this machine.
 */
export function defaultAddress(env: Record<string, string | undefined> = process.env): string {
  const named = env['CAISSON_HOST'] || env['DOCKER_HOST'];
  if (named) return named;
  const context = env['DOCKER_CONTEXT'] || chosenContext(env);
  return (context && contextAddress(context, env)) || `unix://${DEFAULT_SOCKET}`;
}
