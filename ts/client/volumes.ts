/** Volumes of an engine. */
import type { Options } from './containers.ts';
import { encodeFilters } from './query.ts';
import type { Transport } from './transport.ts';
import type { Filters, VolumeCreateBody, VolumeDetails } from './types.ts';

const path = (name: string): string => `/volumes/${encodeURIComponent(name)}`;

export class Volumes {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** One that is there already with the same driver stays as it is. */
  create(body: VolumeCreateBody = {}, { signal }: Options = {}): Promise<VolumeDetails> {
    return this.#transport.json('POST', '/volumes/create', { body, signal });
  }

  async list({ filters, signal }: Options & { filters?: Filters } = {}): Promise<VolumeDetails[]> {
    const query = { filters: encodeFilters(filters) };
    const { Volumes } = await this.#transport.json<{ Volumes: VolumeDetails[] | null }>('GET', '/volumes', {
      query,
      signal,
    });
    return Volumes ?? [];
  }

  inspect(name: string, { signal }: Options = {}): Promise<VolumeDetails> {
    return this.#transport.json('GET', path(name), { signal });
  }

  /** With `force` one that is not there is no failure. */
  remove(name: string, { force, signal }: Options & { force?: boolean } = {}): Promise<void> {
    return this.#transport.send('DELETE', path(name), { query: { force }, signal });
  }

  /** Removes anonymous ones that no container has; named ones as well with the filter `all`. */
  prune({ filters, signal }: Options & { filters?: Filters } = {}): Promise<{
    VolumesDeleted: string[] | null;
    SpaceReclaimed: number;
  }> {
    return this.#transport.json('POST', '/volumes/prune', { query: { filters: encodeFilters(filters) }, signal });
  }
}
