/**
 * The three predefined networks: `bridge` (a Linux bridge with NAT), `host` and `none`. Rows are the truth; the bridge,
 * its veth pairs and the firewall table are made to match them at every start of the daemon.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { EndpointRow, NetworkRow } from '../../graph/networks.ts';
import type { Logger } from '../../log.ts';
import type { DaemonConfig } from '../config.ts';
import { nowRfc3339 } from '../containers/time.ts';
import type { Native, PublishedPort } from '../native/index.ts';
import { formatIpv4, formatSubnet, freeSubnet, nextAddress, parseIpv4, parseSubnet, randomMac } from './addresses.ts';
import { Firewall } from './firewall.ts';

/** An attachment with everything chosen in advance. */
export interface EndpointPlan {
  endpointId: string;
  networkId: string;
  /** The host's end. */
  hostName: string;
  mac: string;
  address: string;
  prefixLength: number;
  gateway: string;
}

const DEFAULT_BRIDGE = 'caisson0';
const PREDEFINED = ['bridge', 'host', 'none'];

const newId = (): string => randomBytes(32).toString('hex');

export class BridgeNetwork {
  readonly #graph: Graph;
  readonly #native: Native;
  readonly #config: DaemonConfig;
  readonly #log: Logger;
  /** Address given out last: the next search starts behind it. */
  #last: number | undefined;
  readonly firewall: Firewall;

  constructor(graph: Graph, native: Native, config: DaemonConfig, log: Logger) {
    this.#graph = graph;
    this.#native = native;
    this.#config = config;
    this.#log = log;
    const table = this.device === DEFAULT_BRIDGE ? 'caisson' : `caisson_${this.device}`;
    this.firewall = new Firewall(native, config, log, table);
  }

  /** Name of the bridge device. */
  get device(): string {
    return this.#config.bridge || DEFAULT_BRIDGE;
  }

  get enabled(): boolean {
    return this.#config.bridge !== 'none';
  }

  get row(): NetworkRow {
    return this.#graph.networks.resolve('bridge');
  }

  static isPredefined(name: string): boolean {
    return PREDEFINED.includes(name);
  }

  /** Rows of the predefined networks, then the bridge and the table. `ports`: of the containers that run. */
  async prepare(ports: PublishedPort[]): Promise<void> {
    await this.#insertRows();
    if (!this.enabled) return;
    const { row } = this;
    const { subnet, gateway } = row;
    if (subnet === null || gateway === null)
      throw new CaissonError('DataLoss', 'network bridge: its row has no subnet');
    await this.#native.ensureBridge({
      name: this.device,
      addresses: [`${gateway}/${parseSubnet(subnet).prefix}`],
      mtu: this.#config.mtu,
    });
    if (await this.#native.enableForwarding(false)) this.#log.info('IPv4 forwarding of the host was off and is on now');
    const { icc } = this.#config;
    const rules = { bridge: this.device, subnets: [subnet], icc, masquerade: true, internal: false };
    await this.firewall.open([rules], ports);
  }

  async #insertRows(): Promise<void> {
    const { networks } = this.#graph;
    const base = { ipRange: null, internal: false, attachable: false, options: '{}', labels: '{}', detail: '{}' };
    const plain = { ...base, bridge: null, subnet: null, gateway: null };
    for (const [name, driver] of [
      ['none', 'null'],
      ['host', 'host'],
    ] as const) {
      if (!networks.byName(name)) networks.insert({ ...plain, id: newId(), name, driver, created: nowRfc3339() });
    }
    const existing = networks.byName('bridge');
    if (existing && !this.#changed(existing)) return;
    const addressing = this.enabled ? await this.#chooseSubnet() : { subnet: null, gateway: null };
    this.#graph.db.transaction(() => {
      const id = existing?.id ?? newId();
      const row = { ...base, ...addressing, id, name: 'bridge', driver: 'bridge', created: nowRfc3339() };
      if (existing) this.#replace(existing, { ...row, bridge: this.device, created: existing.created });
      else networks.insert({ ...row, bridge: this.device });
    });
  }

  /** The settings name another device or address than the row. */
  #changed(row: NetworkRow): boolean {
    const { bip } = this.#config;
    if (!this.enabled) return false;
    return row.bridge !== this.device || row.subnet === null || (bip !== '' && `${row.gateway}` !== bip.split('/')[0]);
  }

  /** Endpoints refer to the row, so they are put aside while it is written anew. */
  #replace(existing: NetworkRow, row: NetworkRow): void {
    const { networks } = this.#graph;
    const endpoints = networks.endpointsOn(existing.id);
    if (endpoints.some(({ address }) => address !== null)) {
      throw new CaissonError('Conflict', 'the default bridge cannot change while containers run on it', {
        hint: 'stop them, or start the daemon with its former --bip and --bridge',
      });
    }
    for (const { id } of endpoints) networks.deleteEndpoint(id);
    networks.delete(existing.id);
    networks.insert(row);
    for (const endpoint of endpoints) networks.insertEndpoint(endpoint);
  }

  async #chooseSubnet(): Promise<{ subnet: string; gateway: string }> {
    const { bip } = this.#config;
    if (bip) return { subnet: formatSubnet(parseSubnet(bip)), gateway: bip.split('/')[0] ?? '' };
    const routes = await this.#native.listRoutes();
    // a default route covers everything and says nothing; a route over our own bridge is our own
    const foreign = routes.filter(
      ({ destination, device }) =>
        device !== this.device && /^\d+(\.\d+){3}\/\d+$/.test(destination) && !destination.endsWith('/0'),
    );
    const subnet = freeSubnet(foreign.map(({ destination }) => parseSubnet(destination)));
    return { subnet: formatSubnet(subnet), gateway: formatIpv4(subnet.base + 1) };
  }

  /** The row of a new container's attachment; its address is chosen at each start. */
  endpoint(containerId: string): EndpointRow {
    return {
      id: newId(),
      containerId,
      networkId: this.row.id,
      interface: 'eth0',
      hostName: null,
      mac: null,
      address: null,
      prefixLength: null,
      gateway: null,
      aliases: '[]',
      config: '{}',
    };
  }

  /** Chooses address, MAC and device name and writes them into the endpoint's row, in the caller's transaction. */
  allocate(containerId: string): EndpointPlan {
    const { row } = this;
    const endpoint = this.#graph.networks.endpointsOf(containerId)[0];
    if (!endpoint || row.subnet === null || row.gateway === null) {
      throw new CaissonError('NotFound', 'network bridge is not available: the daemon runs with --bridge none');
    }
    const taken = this.#graph.networks.addresses(row.id);
    const subnet = parseSubnet(row.subnet);
    const address = nextAddress(subnet, (one) => one === row.gateway || taken.has(one), this.#last);
    this.#last = parseIpv4(address);
    const plan: EndpointPlan = {
      endpointId: endpoint.id,
      networkId: row.id,
      hostName: `veth${randomBytes(4).toString('hex')}`,
      mac: randomMac(),
      address,
      prefixLength: subnet.prefix,
      gateway: row.gateway,
    };
    const { endpointId: id, hostName, mac, prefixLength, gateway } = plan;
    this.#graph.networks.updateEndpoint({ id, hostName, mac, address, prefixLength, gateway });
    return plan;
  }

  async attach(plan: EndpointPlan, netnsFd: number): Promise<void> {
    await this.#native.createEndpoint({
      netnsFd,
      bridge: this.device,
      hostName: plan.hostName,
      containerName: 'eth0',
      mac: plan.mac,
      addresses: [`${plan.address}/${plan.prefixLength}`],
      gateways: [plan.gateway],
      mtu: this.#config.mtu,
    });
  }

  /** Host ends of veth pairs on the bridge that no endpoint names: left by a daemon that was killed. */
  async sweep(): Promise<void> {
    if (!this.enabled) return;
    const known = new Set(this.#graph.networks.allEndpoints().map(({ hostName }) => hostName));
    let members: string[] = [];
    try {
      members = readdirSync(`/sys/class/net/${this.device}/brif`);
    } catch {
      // the bridge is made by prepare; where /sys shows another network namespace there is nothing to compare
    }
    for (const name of members) {
      if (/^veth[0-9a-f]{8}$/.test(name) && !known.has(name)) await this.#native.deleteLink(name);
    }
  }
}
