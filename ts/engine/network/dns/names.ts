/** What the embedded DNS server knows by itself: containers by their names, on the networks that they share. */
import type { Graph } from '../../../graph/graph.ts';
import type { EndpointRow } from '../../../graph/networks.ts';
import type { Family } from '../addresses.ts';
import { isInternal } from '../driverOptions.ts';
import { settingsOf } from '../endpoints.ts';

interface Zone {
  /** Lower case. */
  byName: Map<string, EndpointRow[]>;
  byAddress: Map<string, EndpointRow>;
}

export interface Found {
  v4: string[];
  v6: string[];
}

/** As Docker Desktop's users know them: the host, seen from a container. */
const HOST_NAMES = new Set(['host.docker.internal', 'gateway.docker.internal']);

export class NameIndex {
  readonly #graph: Graph;
  #zones = new Map<string, Zone>();
  #version = -1;

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  /** Addresses of a name as this container sees it; undefined when it is not one of ours. `name`: lower case, no final dot. */
  find(containerId: string, name: string): Found | undefined {
    // a name that several networks have is that of the first of them: not all of its addresses may be reached alike
    const own = this.#ranked(containerId);
    for (const endpoint of own) {
      const found = this.#onNetwork(endpoint, name);
      if (found.length > 0) return addressesOf(found);
    }
    if (!HOST_NAMES.has(name)) return undefined;
    const gatewayOf = (family: Family): EndpointRow | undefined =>
      own.find(({ leadsOut }) => leadsOut[family]) ?? own[0];
    return addressesOf([{ address: gatewayOf(4)?.gateway ?? null, address6: gatewayOf(6)?.gateway6 ?? null }]);
  }

  /** As for the way out: by priority, then by how many families lead out, then by name. */
  #ranked(containerId: string): EndpointRow[] {
    const { networks } = this.#graph;
    const rows = networks.endpointsOf(containerId);
    if (rows.length < 2) return rows;
    const ranked = rows.map((row) => {
      const network = networks.get(row.networkId);
      const leads = network !== undefined && !isInternal(network);
      const families = leads ? [row.gateway, row.gateway6].filter((one) => one !== null).length : 0;
      return { row, families, priority: settingsOf(row).gwPriority };
    });
    const byName = (a: EndpointRow, b: EndpointRow): number => (a.networkName < b.networkName ? -1 : 1);
    ranked.sort((a, b) => b.priority - a.priority || b.families - a.families || byName(a.row, b.row));
    return ranked.map(({ row }) => row);
  }

  #onNetwork(endpoint: EndpointRow, name: string): EndpointRow[] {
    if (endpoint.networkName === 'bridge') return [];
    const zone = this.#zone(endpoint.networkId);
    if (!zone) return [];
    const suffix = `.${endpoint.networkName.toLowerCase()}`;
    const linked = settingsOf(endpoint)
      .links.map((link) => link.split(':') as [string, string?])
      .find(([target, alias = target]) => alias.toLowerCase() === name);
    if (linked) return zone.byName.get(this.#nameOf(linked[0]).toLowerCase()) ?? [];
    const short = name.endsWith(suffix) ? name.slice(0, -suffix.length) : undefined;
    return zone.byName.get(name) ?? (short === undefined ? [] : (zone.byName.get(short) ?? []));
  }

  /** A link may name its target by id. */
  #nameOf(target: string): string {
    return this.#graph.containers.get(target)?.name ?? target.replace(/^\//, '');
  }

  /** `name.network` of an address on a network of this container. */
  nameOf(containerId: string, address: string): string | undefined {
    for (const { networkId, networkName } of this.#graph.networks.endpointsOf(containerId)) {
      const owner = networkName === 'bridge' ? undefined : this.#zone(networkId)?.byAddress.get(address);
      const name = owner && this.#graph.containers.get(owner.containerId)?.name;
      if (name !== undefined) return `${name}.${networkName}`;
    }
    return undefined;
  }

  /** Every network of the container is internal: no question may leave the host for it. */
  isConfined(containerId: string): boolean {
    const { networks } = this.#graph;
    const joined = networks.endpointsOf(containerId).map(({ networkId }) => networks.get(networkId));
    return joined.every((network) => network === undefined || isInternal(network));
  }

  #zone(networkId: string): Zone | undefined {
    const { networks } = this.#graph;
    if (this.#version !== networks.version) {
      this.#zones = zonesOf(networks.allEndpoints());
      this.#version = networks.version;
    }
    return this.#zones.get(networkId);
  }
}

function zonesOf(endpoints: readonly EndpointRow[]): Map<string, Zone> {
  const zones = new Map<string, Zone>();
  for (const endpoint of endpoints) {
    const { address, address6, networkId } = endpoint;
    if (address === null && address6 === null) continue;
    const zone = zones.get(networkId) ?? { byName: new Map<string, EndpointRow[]>(), byAddress: new Map() };
    zones.set(networkId, zone);
    for (const one of [address, address6]) if (one !== null) zone.byAddress.set(one, endpoint);
    const names = (JSON.parse(endpoint.aliases) as string[]).map((name) => name.toLowerCase());
    for (const name of new Set(names)) zone.byName.set(name, [...(zone.byName.get(name) ?? []), endpoint]);
  }
  return zones;
}

function addressesOf(endpoints: readonly Pick<EndpointRow, 'address' | 'address6'>[]): Found {
  const present = (list: (string | null)[]): string[] => [...new Set(list.filter((one) => one !== null))];
  return {
    v4: present(endpoints.map(({ address }) => address)),
    v6: present(endpoints.map(({ address6 }) => address6)),
  };
}
