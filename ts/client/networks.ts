/** Networks of an engine. */
import type { Options } from './containers.ts';
import { encodeFilters } from './query.ts';
import type { Transport } from './transport.ts';
import type { EndpointConfig, Filters, NetworkCreateBody, NetworkDetails } from './types.ts';

const path = (name: string, more = ''): string => `/networks/${encodeURIComponent(name)}${more}`;

export class Networks {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  create(body: NetworkCreateBody, { signal }: Options = {}): Promise<{ Id: string; Warning: string }> {
    return this.#transport.json('POST', '/networks/create', { body, signal });
  }

  list({ filters, signal }: Options & { filters?: Filters } = {}): Promise<NetworkDetails[]> {
    return this.#transport.json('GET', '/networks', { query: { filters: encodeFilters(filters) }, signal });
  }

  inspect(name: string, { signal }: Options = {}): Promise<NetworkDetails> {
    return this.#transport.json('GET', path(name), { signal });
  }

  remove(name: string, { signal }: Options = {}): Promise<void> {
    return this.#transport.send('DELETE', path(name), { signal });
  }

  /** Names of the networks that were removed. */
  async prune({ filters, signal }: Options & { filters?: Filters } = {}): Promise<string[]> {
    const query = { filters: encodeFilters(filters) };
    const answer = await this.#transport.json<{ NetworksDeleted: string[] | null }>('POST', '/networks/prune', {
      query,
      signal,
    });
    return answer.NetworksDeleted ?? [];
  }

  connect(name: string, container: string, endpoint: EndpointConfig = {}, { signal }: Options = {}): Promise<void> {
    const body = { Container: container, EndpointConfig: endpoint };
    return this.#transport.send('POST', path(name, '/connect'), { body, signal });
  }

  disconnect(name: string, container: string, { force, signal }: Options & { force?: boolean } = {}): Promise<void> {
    const body = { Container: container, Force: force ?? false };
    return this.#transport.send('POST', path(name, '/disconnect'), { body, signal });
  }
}
