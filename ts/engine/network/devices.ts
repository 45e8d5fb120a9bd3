/**
 * Networks in the kernel: the predefined rows and the default bridge at the daemon's start, the bridge of each further
 * network with its place in the firewall. Rows are the truth; what the kernel has is made to match them.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import type { Logger } from '../../log.ts';
import type { DaemonConfig } from '../config.ts';
import { nowRfc3339 } from '../containers/time.ts';
import type { Native } from '../native/index.ts';
import type { BridgeRules, PublishedPort, RouteInfo } from '../native/network.ts';
import { type Family, parseSubnet, type Subnet } from './addresses.ts';
import { bridgeName, chooseSubnets, DEFAULT_BRIDGE, isUsersBridge } from './defaultBridge.ts';
import { bridgeSettings, isChildOfDevice, NAME, optionsOf, parentOf } from './driverOptions.ts';
import { Firewall } from './firewall.ts';
import type { Addressing } from './ipam.ts';
import { freeSubnet } from './pools.ts';

/** Key of the graph's single values. */
const TABLE = 'firewall-table';
const PREDEFINED = ['bridge', 'host', 'none'];

export const isPredefined = (name: string): boolean => PREDEFINED.includes(name);

export const newId = (): string => randomBytes(32).toString('hex');

/** Every subnet that a route of the host leads to, but for those of one device. */
export function routedSubnets(routes: readonly RouteInfo[], exceptDevice?: string): Subnet[] {
  // a default route covers everything and says nothing
  return routes
    .filter(({ destination, device }) => device !== exceptDevice && !destination.endsWith('/0'))
    .map(({ destination }) => parseSubnet(destination));
}

/** One for each daemon of a host: by its bridge, and where it has none by its data. */
function tableOf(bridge: string, dataRoot: string): string {
  if (bridge === DEFAULT_BRIDGE) return 'caisson';
  if (bridge !== 'none') return `caisson_${bridge}`;
  return `caisson_none_${createHash('sha256').update(dataRoot).digest('hex').slice(0, 8)}`;
}

const NO_SUBNETS: Addressing = {
  subnet: null,
  gateway: null,
  ipRange: null,
  subnet6: null,
  gateway6: null,
  ipRange6: null,
};

/** What the predefined networks have in common. */
const PLAIN = {
  ...NO_SUBNETS,
  bridge: null,
  internal: false,
  attachable: false,
  options: '{}',
  labels: '{}',
  detail: '{}',
};

const subnetsOf = ({ subnet, subnet6 }: Pick<NetworkRow, 'subnet' | 'subnet6'>): string[] =>
  [subnet, subnet6].filter((one) => one !== null);

export class NetworkDevices {
  readonly firewall: Firewall;
  readonly #graph: Graph;
  readonly #native: Native;
  readonly #config: DaemonConfig;
  readonly #log: Logger;
  /** Bridges that are there with their rules; after a boot those of further networks are made when they are used. */
  readonly #present = new Map<string, Promise<void>>();
  readonly #forwards = new Set<Family>();
  /** Of each network whose bridge was made by this process, the addresses that containers have had since. */
  readonly #given = new Map<string, Set<string>>();

  constructor(graph: Graph, native: Native, config: DaemonConfig, log: Logger) {
    this.#graph = graph;
    this.#native = native;
    this.#config = config;
    this.#log = log;
    this.firewall = new Firewall(native, config, log, tableOf(this.device, config.dataRoot));
  }

  /** Name of the default bridge's device. */
  get device(): string {
    return bridgeName(this.#config);
  }

  /** There is a default bridge. */
  get enabled(): boolean {
    return this.#config.bridge !== 'none';
  }

  /** Rows of the predefined networks, then bridges and the table. `ports`: of the containers that run. */
  async prepare(ports: PublishedPort[]): Promise<void> {
    await this.#insertRows();
    const bridges = this.#graph.networks.all().filter(({ driver }) => driver === 'bridge');
    const rules: BridgeRules[] = [];
    // not by /sys alone, which may show another network namespace
    const routed = new Set((await this.#native.listRoutes()).map(({ device }) => device));
    const isThere = (bridge: string): boolean => routed.has(bridge) || existsSync(`/sys/class/net/${bridge}`);
    for (const row of bridges) {
      const isDefault = row.name === 'bridge';
      if (isDefault ? !this.enabled : !isThere(row.bridge ?? '')) continue;
      await this.#makeBridge(row);
      rules.push(this.#rules(row));
      this.#present.set(row.id, Promise.resolve());
    }
    await this.#leaveFormerTable();
    await this.firewall.open(rules, ports);
  }

  /** That of a start with another `--bridge` would decide about our networks too. */
  async #leaveFormerTable(): Promise<void> {
    const { meta } = this.#graph;
    const former = meta.get(TABLE);
    if (former === this.firewall.table) return;
    if (former !== undefined) await this.#native.deleteRuleset(former);
    meta.set(TABLE, this.firewall.table);
  }

  #rules(row: NetworkRow): BridgeRules {
    const { icc, masquerade, modes, trusted, direct, sources } = bridgeSettings(row, this.#config);
    const common = { icc, masquerade, trusted, direct, sources, internal: row.internal };
    return { ...common, bridge: row.bridge ?? '', subnets: subnetsOf(row), modeV4: modes[4], modeV6: modes[6] };
  }

  async #makeBridge(row: NetworkRow): Promise<void> {
    const { mtu, gateways } = bridgeSettings(row, this.#config);
    const families = [
      [4, row.subnet, row.gateway],
      [6, row.subnet6, row.gateway6],
    ] as const;
    const addresses = families.flatMap(([family, subnet, address]) =>
      gateways[family] && subnet !== null && address !== null ? [`${address}/${parseSubnet(subnet).prefix}`] : [],
    );
    const isNew = await this.#native.ensureBridge({ name: row.bridge ?? '', addresses, mtu });
    if (isNew) this.#given.set(row.id, new Set());
    if (row.subnet !== null) await this.#forward(4);
    if (row.subnet6 !== null) await this.#forward(6);
  }

  /** Once for each family: what a bridge needs, and what others' traffic must not gain by. */
  async #forward(family: Family): Promise<void> {
    if (this.#forwards.has(family) || !this.#config.ipForward) return;
    const dropsForeign = this.#config.iptables && !this.#config.ipForwardNoDrop;
    const switchedOn = await this.#native.enableForwarding(family === 6, dropsForeign);
    this.#forwards.add(family);
    if (!switchedOn) return;
    const rest = dropsForeign ? 'what is not ours stays closed' : 'it forwards for everybody';
    this.#log.info({ family }, `forwarding of the host was off and is on now; ${rest}`);
    await this.firewall.rewrite();
  }

  async #makeParent(row: NetworkRow): Promise<void> {
    const { name, dummy } = parentOf(row);
    await this.#native.ensureParent(name, dummy);
  }

  /** The network's device and rules are there when this resolves. */
  async ensure(row: NetworkRow): Promise<void> {
    if (row.driver !== 'bridge' && !isChildOfDevice(row)) return;
    const present = this.#present.get(row.id);
    if (present) return present;
    const made = isChildOfDevice(row)
      ? this.#makeParent(row)
      : this.#makeBridge(row).then(() => this.firewall.addBridge(this.#rules(row)));
    this.#present.set(row.id, made);
    made.catch(() => this.#present.delete(row.id));
    return made;
  }

  /**
   * Notes the addresses of a container that joins. False when none of them has ever been anybody's on this bridge: nobody knows
   * it by another's MAC, and to tell it to each of a thousand neighbours would cost more than the rest of a start.
   */
  mayBeKnown(networkId: string, addresses: readonly string[]): boolean {
    const given = this.#given.get(networkId);
    if (given === undefined) return true;
    const isKnown = addresses.some((address) => given.has(address));
    for (const address of addresses) given.add(address);
    return isKnown;
  }

  /** Idempotent, and knows the network by what its plan says: its row may be gone. */
  async remove(row: NetworkRow): Promise<void> {
    this.#present.delete(row.id);
    this.#given.delete(row.id);
    if (isChildOfDevice(row)) {
      const { name } = parentOf(row);
      const others = this.#graph.networks.all().filter((other) => other.id !== row.id && isChildOfDevice(other));
      if (others.some((other) => parentOf(other).name === name)) return;
      await this.#native.deleteOwnLink(name).catch(ignoreMissing);
      return;
    }
    if (row.driver !== 'bridge' || row.bridge === null) return;
    await this.firewall.removeBridge(this.#rules(row));
    const native = this.#native;
    // one that the user has named may have been there before
    const removed = optionsOf(row)[NAME] ? native.deleteOwnLink(row.bridge) : native.deleteLink(row.bridge);
    await removed.catch(ignoreMissing);
  }

  async #insertRows(): Promise<void> {
    const { networks } = this.#graph;
    for (const [name, driver] of [
      ['none', 'null'],
      ['host', 'host'],
    ] as const) {
      if (!networks.byName(name)) networks.insert({ ...PLAIN, id: newId(), name, driver, created: nowRfc3339() });
    }
    if (!this.enabled) return networks.byName('bridge') ? undefined : this.#writeDefault(undefined, NO_SUBNETS);
    const existing = networks.byName('bridge');
    const chosen = await this.#chooseSubnets(existing);
    const isSame =
      existing?.bridge === this.device &&
      (Object.keys(chosen) as (keyof Addressing)[]).every((key) => existing[key] === chosen[key]);
    if (isSame) return;
    if (existing && networks.endpointsOn(existing.id).some(({ address, address6 }) => address ?? address6)) {
      const { bridge: device, subnet, subnet6 } = existing;
      this.#log.warn(
        { device, subnet, subnet6 },
        'containers run on the default bridge: it stays as it is until they end and the daemon starts anew',
      );
      return;
    }
    this.#writeDefault(existing, chosen);
  }

  #writeDefault(existing: NetworkRow | undefined, addressing: Addressing): void {
    const { networks } = this.#graph;
    const own = { id: existing?.id ?? newId(), created: existing?.created ?? nowRfc3339() };
    const row = { ...PLAIN, ...addressing, ...own, name: 'bridge', driver: 'bridge', bridge: this.device };
    this.#graph.db.transaction(() => {
      if (existing) networks.delete(existing.id);
      networks.insert(row);
    });
  }

  async #chooseSubnets(existing: NetworkRow | undefined): Promise<Addressing> {
    const addresses = isUsersBridge(this.#config) ? await this.#addressesOf(this.device) : [];
    return chooseSubnets(this.#config, {
      row: existing?.bridge === this.device ? existing : undefined,
      addresses,
      free: () => this.#freeSubnet(),
      warn: (message) => this.#log.warn(message),
    });
  }

  /** Of a bridge that the user is to have made. */
  async #addressesOf(bridge: string): Promise<string[]> {
    try {
      return await this.#native.linkAddresses(bridge);
    } catch (cause) {
      if (!isKind(cause, 'NotFound')) throw cause;
      throw new CaissonError('NotFound', `there is no bridge ${bridge}: that of --bridge is made by hand`, {
        code: 'BRIDGE_NOT_FOUND',
        cause,
        hint: `make it (ip link add ${bridge} type bridge), or let the daemon make one of that name (--bridge-name ${bridge})`,
      });
    }
  }

  async #freeSubnet(): Promise<Subnet> {
    const others = this.#graph.networks.all().filter(({ name }) => name !== 'bridge');
    const own = others.flatMap(subnetsOf).map(parseSubnet);
    const taken = routedSubnets(await this.#native.listRoutes(), this.device);
    return freeSubnet(this.#config.defaultAddressPools, [...taken, ...own]);
  }

  /** Host ends of veth pairs on our bridges that no endpoint names: left by a daemon that was killed. */
  async sweep(): Promise<void> {
    const known = new Set(this.#graph.networks.allEndpoints().map(({ hostName }) => hostName));
    for (const { driver, bridge, name } of this.#graph.networks.all()) {
      if (driver !== 'bridge' || (name === 'bridge' && !this.enabled)) continue;
      for (const member of membersOf(bridge ?? '')) {
        if (/^veth[0-9a-f]{8}$/.test(member) && !known.has(member)) {
          await this.#native.deleteLink(member).catch(ignoreMissing);
        }
      }
    }
  }
}

function membersOf(bridge: string): string[] {
  try {
    return readdirSync(`/sys/class/net/${bridge}/brif`);
  } catch {
    // not made since the boot; or /sys shows another network namespace, and there is nothing to compare
    return [];
  }
}

export function ignoreMissing(error: unknown): void {
  if (!isKind(error, 'NotFound')) throw error;
}
