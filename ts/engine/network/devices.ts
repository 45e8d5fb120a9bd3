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
import {
  contains,
  type Family,
  firstAddress,
  formatSubnet,
  parseSubnet,
  type Subnet,
  uniqueLocalSubnet,
} from './addresses.ts';
import { bridgeSettings, isChildOfDevice, parentOf } from './driverOptions.ts';
import { Firewall } from './firewall.ts';
import { freeSubnet } from './pools.ts';

const DEFAULT_BRIDGE = 'caisson0';
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

  constructor(graph: Graph, native: Native, config: DaemonConfig, log: Logger) {
    this.#graph = graph;
    this.#native = native;
    this.#config = config;
    this.#log = log;
    this.firewall = new Firewall(native, config, log, tableOf(this.device, config.dataRoot));
  }

  /** Name of the default bridge's device. */
  get device(): string {
    return this.#config.bridge || DEFAULT_BRIDGE;
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
    await this.#native.ensureBridge({ name: row.bridge ?? '', addresses, mtu });
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

  /** Idempotent, and knows the network by what its plan says: its row may be gone. */
  async remove(row: NetworkRow): Promise<void> {
    this.#present.delete(row.id);
    if (isChildOfDevice(row)) {
      const { name } = parentOf(row);
      const others = this.#graph.networks.all().filter((other) => other.id !== row.id && isChildOfDevice(other));
      if (others.some((other) => parentOf(other).name === name)) return;
      await this.#native.deleteParent(name).catch(ignoreMissing);
      return;
    }
    if (row.driver !== 'bridge' || row.bridge === null) return;
    await this.firewall.removeBridge(this.#rules(row));
    await this.#native.deleteLink(row.bridge).catch(ignoreMissing);
  }

  async #insertRows(): Promise<void> {
    const { networks } = this.#graph;
    const base = {
      ipRange: null,
      subnet6: null,
      gateway6: null,
      ipRange6: null,
      internal: false,
      attachable: false,
      options: '{}',
      labels: '{}',
      detail: '{}',
    };
    const plain = { ...base, bridge: null, subnet: null, gateway: null };
    for (const [name, driver] of [
      ['none', 'null'],
      ['host', 'host'],
    ] as const) {
      if (!networks.byName(name)) networks.insert({ ...plain, id: newId(), name, driver, created: nowRfc3339() });
    }
    const existing = networks.byName('bridge');
    if (existing && !this.#changed(existing)) return;
    const addressing = this.enabled ? await this.#chooseSubnets(existing) : { subnet: null, gateway: null };
    this.#graph.db.transaction(() => {
      const id = existing?.id ?? newId();
      const row = {
        ...base,
        subnet: null,
        gateway: null,
        ...addressing,
        id,
        name: 'bridge',
        driver: 'bridge',
        created: nowRfc3339(),
      };
      if (existing) this.#replace(existing, { ...row, bridge: this.device, created: existing.created });
      else networks.insert({ ...row, bridge: this.device });
    });
  }

  /** The settings name another device or address than the row. */
  #changed(row: NetworkRow): boolean {
    const { bip, bip6, ipv6, fixedCidr, fixedCidrV6 } = this.#config;
    if (!this.enabled) return false;
    const differs = (address: string, subnet: string | null, gateway: string | null): boolean =>
      address !== '' && (gateway !== address.split('/')[0] || subnet !== formatSubnet(parseSubnet(address)));
    const moved = differs(bip, row.subnet, row.gateway) || (ipv6 && differs(bip6, row.subnet6, row.gateway6));
    const ranged = (row.ipRange ?? '') !== fixedCidr;
    const otherV6 =
      ipv6 !== (row.subnet6 !== null) || (ipv6 && bip6 === '' && fixedCidrV6 !== '' && row.subnet6 !== fixedCidrV6);
    return row.bridge !== this.device || row.subnet === null || moved || ranged || otherV6;
  }

  #replace(existing: NetworkRow, row: NetworkRow): void {
    const { networks } = this.#graph;
    if (networks.endpointsOn(existing.id).some(({ address }) => address !== null)) {
      throw new CaissonError('Conflict', 'the default bridge cannot change while containers run on it', {
        hint: 'stop them, or start the daemon with its former --bip and --bridge',
      });
    }
    networks.delete(existing.id);
    networks.insert(row);
  }

  /** What the settings say, then what the row has, then what is free. */
  async #chooseSubnets(existing: NetworkRow | undefined): Promise<Partial<NetworkRow>> {
    const { bip, bip6, ipv6, fixedCidr, fixedCidrV6 } = this.#config;
    const kept = existing?.bridge === this.device ? existing : undefined;
    const fits = kept?.subnet && (fixedCidr === '' || contains(parseSubnet(kept.subnet), parseSubnet(fixedCidr)));
    const v4 = bip
      ? ofBridge(bip)
      : fits
        ? { subnet: kept.subnet as string, gateway: kept.gateway }
        : fixedCidr
          ? { subnet: fixedCidr, gateway: firstAddress(parseSubnet(fixedCidr)) }
          : await this.#freeSubnet();
    if (fixedCidr && !contains(parseSubnet(v4.subnet), parseSubnet(fixedCidr))) {
      throw new CaissonError(
        'InvalidParameter',
        `fixed-cidr ${fixedCidr} is no part of the bridge's subnet ${v4.subnet}`,
      );
    }
    const range = { ipRange: fixedCidr || null };
    if (!ipv6) return { ...v4, ...range };
    if (bip6) return { ...v4, ...range, ...rangeOf(bip6, fixedCidrV6) };
    const own = kept?.subnet6 ? parseSubnet(kept.subnet6) : uniqueLocalSubnet(newId());
    const subnet6 = fixedCidrV6 ? parseSubnet(fixedCidrV6) : own;
    return { ...v4, ...range, subnet6: formatSubnet(subnet6), gateway6: firstAddress(subnet6) };
  }

  async #freeSubnet(): Promise<{ subnet: string; gateway: string }> {
    const others = this.#graph.networks.all().filter(({ name }) => name !== 'bridge');
    const own = others.flatMap(subnetsOf).map(parseSubnet);
    const taken = routedSubnets(await this.#native.listRoutes(), this.device);
    const subnet = freeSubnet(this.#config.defaultAddressPools, [...taken, ...own]);
    return { subnet: formatSubnet(subnet), gateway: firstAddress(subnet) };
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

/** The subnet of an address that a bridge is to have. */
const ofBridge = (address: string): { subnet: string; gateway: string } => ({
  subnet: formatSubnet(parseSubnet(address)),
  gateway: address.split('/')[0] ?? '',
});

function rangeOf(bip6: string, fixedCidrV6: string): Pick<NetworkRow, 'subnet6' | 'gateway6' | 'ipRange6'> {
  const { subnet, gateway } = ofBridge(bip6);
  if (fixedCidrV6 && !contains(parseSubnet(subnet), parseSubnet(fixedCidrV6))) {
    throw new CaissonError(
      'InvalidParameter',
      `fixed-cidr-v6 ${fixedCidrV6} is no part of the bridge's subnet ${subnet}`,
    );
  }
  return { subnet6: subnet, gateway6: gateway, ipRange6: fixedCidrV6 || null };
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
