/** Where the repositories of a domain are served: its mirrors first, and each by the scheme that it speaks. */

import { CaissonError } from '../../errdefs.ts';
import { isInsecure, type RegistrySettings } from './settings.ts';
import { discard, type Transport } from './transport.ts';

export interface Endpoint {
  url: URL;
  /** The user's credentials are for the registry itself, never for a mirror. */
  mirror: boolean;
}

/** docker.io's API has a host of its own. */
const HOSTS: Record<string, string> = { 'docker.io': 'registry-1.docker.io' };

export class Endpoints {
  readonly #transport: Transport;
  readonly #settings: () => RegistrySettings;
  /** Insecure hosts, and the scheme that each was found to speak. */
  readonly #schemes = new Map<string, 'http:' | 'https:'>();

  constructor(transport: Transport, settings: () => RegistrySettings) {
    this.#transport = transport;
    this.#settings = settings;
  }

  /** The first that answers is used; the last is the registry itself. */
  async of(domain: string, signal: AbortSignal): Promise<Endpoint[]> {
    const { mirrors, insecureRegistries } = this.#settings();
    const endpoints: Endpoint[] =
      domain === 'docker.io' ? mirrors.map((url) => ({ url: new URL(url), mirror: true })) : [];
    const host = HOSTS[domain] ?? domain;
    const insecure = isInsecure(host, insecureRegistries);
    endpoints.push({ url: insecure ? await this.#probe(host, signal) : new URL(`https://${host}`), mirror: false });
    return endpoints;
  }

  /** An insecure registry may speak TLS or not: the better one is tried first, without credentials. */
  async #probe(host: string, signal: AbortSignal): Promise<URL> {
    const known = this.#schemes.get(host);
    if (known !== undefined) return new URL(`${known}//${host}`);
    const secure = new URL(`https://${host}`);
    const scheme = await this.#transport.exchange(new URL('/v2/', secure), { signal }).then(
      (answer) => {
        discard(answer);
        return 'https:' as const;
      },
      (error: unknown) => {
        if (error instanceof CaissonError) return 'http:' as const;
        throw error;
      },
    );
    if (scheme === 'https:') this.#schemes.set(host, scheme);
    return new URL(`${scheme}//${host}`);
  }

  /** A plain one answered: it need not be probed again. */
  speaks({ url }: Endpoint): void {
    this.#schemes.set(url.host, url.protocol === 'https:' ? 'https:' : 'http:');
  }

  /** It may have changed what it speaks. */
  forget({ url }: Endpoint): void {
    this.#schemes.delete(url.host);
  }
}
