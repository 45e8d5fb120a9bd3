/**
 * Authorization plugins: each request is shown to them before anything is done, and its answer before it goes out. All of
 * them must agree; one that cannot be asked has refused.
 */
import type { IncomingMessage } from 'node:http';
import { CaissonError } from '../../errdefs.ts';
import type { Plugin, Plugins } from '../plugins/plugins.ts';
import { type Answer, canonical, type Review } from './heldResponse.ts';
import type { Peer } from './tls.ts';

/** A larger body is not shown. */
const MAX_BODY_BYTES = 1024 * 1024;

/** Where credentials stand. */
const isSecret = (header: string): boolean => /^(authorization|x-registry-(auth|config))$/i.test(header);

export class Authorizer {
  readonly #plugins: Plugins;
  #names: string[] = [];

  constructor(plugins: Plugins) {
    this.#plugins = plugins;
  }

  /** Kind NotFound when one of them is not there. */
  async use(names: readonly string[]): Promise<void> {
    const wanted = [...new Set(names)];
    for (const name of wanted) await this.#plugins.get(name, 'authz');
    this.#names = wanted;
  }

  get active(): boolean {
    return this.#names.length > 0;
  }

  /** Asks for the request; resolves with who is to be asked for its answer. `body`: absent when it is not to be shown. */
  async request(
    request: IncomingMessage,
    uri: string,
    peer: Peer | undefined,
    body: Buffer | undefined,
  ): Promise<Review> {
    const names = this.#names;
    const shown = {
      ...(peer ? { User: peer.user, UserAuthNMethod: 'TLS', RequestPeerCertificates: peer.certificates } : {}),
      RequestMethod: request.method,
      RequestUri: uri,
      RequestHeaders: withoutSecrets(
        Object.entries(request.headers).map(([name, value]) => [canonical(name), String(value)]),
      ),
      ...(body && body.length > 0 && body.length <= MAX_BODY_BYTES ? { RequestBody: body.toString('base64') } : {}),
    };
    await this.#ask(names, 'AuthZPlugin.AuthZReq', shown);
    return ({ status, headers, body: said }: Answer) =>
      this.#ask(names, 'AuthZPlugin.AuthZRes', {
        ...shown,
        ResponseStatusCode: status,
        ResponseHeaders: withoutSecrets(Object.entries(headers)),
        ...(said.length > 0 && isShown(uri, headers['Content-Type']) ? { ResponseBody: said.toString('base64') } : {}),
      });
  }

  async #ask(names: readonly string[], method: string, shown: object): Promise<void> {
    for (const name of names) {
      let answer: Record<string, unknown>;
      try {
        const plugin: Plugin = await this.#plugins.get(name, 'authz');
        answer = await plugin.call(method, shown, { waits: true });
      } catch (error) {
        const message = `plugin ${name} failed with error: ${(error as Error).message}`;
        throw new CaissonError('System', message, { code: 'PLUGIN_FAILED', cause: error });
      }
      if (answer['Allow'] === true) continue;
      const message = `authorization denied by plugin ${name}: ${String(answer['Msg'] ?? '')}`;
      throw new CaissonError('Forbidden', message, { code: 'AUTHORIZATION_DENIED' });
    }
  }
}

const withoutSecrets = (headers: [string, string][]): Record<string, string> =>
  Object.fromEntries(headers.filter(([name]) => !isSecret(name)));

/** JSON, but for what logs in. */
export function isShown(uri: string, contentType: string | undefined): boolean {
  if (/^\/(v\d[\d.]*\/)?auth/.test(uri)) return false;
  return contentType?.split(';')[0]?.trim().toLowerCase() === 'application/json';
}
