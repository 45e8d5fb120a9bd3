/** A container's attachments: rows at create, addresses at each start, links in the kernel. */
import { randomBytes } from 'node:crypto';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { Addressing, EndpointRow, LeadsOut, NetworkRow } from '../../graph/networks.ts';
import type { DaemonConfig } from '../config.ts';
import type { Native } from '../native/index.ts';
import type { DeviceRoutes } from '../native/network.ts';
import {
  type Family,
  familyOf,
  formatAddress,
  holds,
  isReservedIn,
  nextAddress,
  parseAddress,
  parseSubnet,
  randomMac,
  type Subnet,
} from './addresses.ts';
import { type NetworkDevices, newId } from './devices.ts';
import {
  type BridgeSettings,
  bridgeSettings,
  interfacePrefix,
  isInternal,
  MTU,
  optionsOf,
  parentOf,
} from './driverOptions.ts';
import type { PortTarget } from './ports.ts';
import { type EndpointSettings, NO_SETTINGS, networkDetail } from './settings.ts';

/** An attachment with everything chosen in advance. */
export interface EndpointPlan extends Addressing {
  networkName: string;
  driver: 'bridge' | 'macvlan' | 'ipvlan';
  mtu: number;
  /** Containers on it know each other by name. */
  userDefined: boolean;
  internal: boolean;
  /** Further addresses, of the user's choice. */
  linkLocal: string[];
  advertise: BridgeSettings['advertise'];
  /** Of its device, by the kernel's names. */
  sysctls: Record<string, string>;
}

type Leading = Pick<EndpointRow, 'networkId' | 'networkName' | 'address' | 'address6' | 'leadsOut'>;

/** It has a default route, and the published ports of a family. */
export const leadsOut = ({ leadsOut }: Pick<EndpointRow, 'leadsOut'>): boolean => leadsOut[4] || leadsOut[6];

export const NOWHERE: LeadsOut = { 4: false, 6: false };

/** By what the addon knows an endpoint's announcements. */
export const announcerOf = ({ hostName, id }: Pick<EndpointRow, 'hostName' | 'id'>): string => hostName ?? id;

/** Its containers know each other by name: all but the default ones. */
export const knowsNames = (networkName: string): boolean => networkName !== 'bridge' && networkName !== 'none';

const withPrefix = (address: string | null, prefix: number | null): string[] =>
  address === null ? [] : [`${address}/${prefix}`];

export const settingsOf = (row: Pick<EndpointRow, 'config'>): EndpointSettings => ({
  ...NO_SETTINGS,
  ...(JSON.parse(row.config) as Partial<EndpointSettings>),
});

export class Endpoints {
  readonly #graph: Graph;
  readonly #native: Native;
  readonly #config: DaemonConfig;
  readonly #devices: NetworkDevices;
  /** Highest address given out in each network and family: the search starts behind it while all below are taken. */
  readonly #last = new Map<string, bigint>();

  constructor(graph: Graph, native: Native, config: DaemonConfig, devices: NetworkDevices) {
    this.#graph = graph;
    this.#native = native;
    this.#config = config;
    this.#devices = devices;
  }

  /** The row of a new attachment; its addresses are chosen when the container runs. `others`: names of its devices. */
  row(
    containerId: string,
    network: string,
    others: readonly string[],
    settings: EndpointSettings,
    names: string[],
  ): EndpointRow {
    const found = this.find(network);
    const userDefined = knowsNames(found?.name ?? network);
    return {
      id: newId(),
      containerId,
      networkId: found?.id ?? network,
      networkName: found?.name ?? network,
      interface: settings.ifname || freeName(found ? interfacePrefix(found) : 'eth', others),
      hostName: null,
      mac: null,
      address: null,
      prefixLength: null,
      gateway: null,
      address6: null,
      prefixLength6: null,
      gateway6: null,
      leadsOut: NOWHERE,
      aliases: JSON.stringify(userDefined ? names : []),
      config: JSON.stringify(settings),
    };
  }

  /** By id or name; undefined when there is none. */
  find(network: string): NetworkRow | undefined {
    try {
      return this.#graph.networks.resolve(network);
    } catch {
      return undefined;
    }
  }

  /** The network of an endpoint, also when it was made anew under its name. */
  networkOf(row: Pick<EndpointRow, 'networkId' | 'networkName'>): NetworkRow {
    const { networks } = this.#graph;
    const network = networks.get(row.networkId) ?? networks.byName(row.networkName);
    if (!network || (network.name === 'bridge' && !this.#devices.enabled)) {
      throw new CaissonError('NotFound', `network ${row.networkName} not found`, {
        code: 'NETWORK_NOT_FOUND',
      });
    }
    if (networkDetail(network).configOnly) {
      throw new CaissonError('Forbidden', 'cannot create endpoint on configuration-only network');
    }
    return network;
  }

  /**
   * Chooses addresses, MACs and device names of all endpoints and writes them, in the caller's transaction. `ipv6`: the
   * container has not switched it off.
   */
  allocate(containerId: string, ipv6: boolean): EndpointPlan[] {
    const rows = this.#named(this.#graph.networks.endpointsOf(containerId).filter((row) => !this.#isSwitchedOff(row)));
    const plans = rows.map((row) => this.#choose(row, ipv6));
    const leading = leadersOf(
      rows,
      plans.map((plan) => this.#able(plan)),
    );
    for (const [at, plan] of plans.entries()) {
      plan.leadsOut = leading[at] ?? NOWHERE;
      this.#graph.networks.updateEndpoint(plan);
    }
    return plans;
  }

  /** As `allocate`, for one endpoint of a container that runs. The default routes, when they are others now. */
  allocateOne(row: EndpointRow, ipv6: boolean): { plan: EndpointPlan; routes?: DeviceRoutes[] } {
    const others = this.#graph.networks.endpointsOf(row.containerId).filter(({ id }) => id !== row.id);
    checkName(row.interface, others);
    const plan = this.#choose(row, ipv6);
    this.#graph.networks.updateEndpoint(plan);
    const routes = this.lead(row.containerId);
    return { plan, ...(routes ? { routes } : {}) };
  }

  /** `none` has no devices, and a daemon without a default bridge gives those that ask for it none. */
  #isSwitchedOff({ networkName }: EndpointRow): boolean {
    return networkName === 'none' || (networkName === 'bridge' && !this.#devices.enabled);
  }

  /** Counted anew at each start: a network that was left leaves no gap. */
  #named(rows: EndpointRow[]): EndpointRow[] {
    const named: EndpointRow[] = [];
    for (const row of rows.sort(byInterface)) {
      const { ifname } = settingsOf(row);
      const others = [...named, ...rows.filter((other) => settingsOf(other).ifname !== '')];
      const names = others.filter(({ id }) => id !== row.id).map((other) => other.interface);
      if (ifname !== '')
        checkName(
          ifname,
          others.filter(({ id }) => id !== row.id),
        );
      named.push({ ...row, interface: ifname || freeName(interfacePrefix(this.networkOf(row)), names) });
    }
    return named;
  }

  /**
   * Chooses which endpoints of a running container lead out, without the one that is `leaving`, and writes it. The default
   * routes, when that has changed something.
   */
  lead(containerId: string, leaving?: string): DeviceRoutes[] | undefined {
    const { networks, db } = this.#graph;
    const rows = networks.endpointsOf(containerId).filter(({ address, address6 }) => address ?? address6);
    const able = rows.map((row) => (row.id === leaving ? NOWHERE : this.#able(row)));
    const leading = leadersOf(rows, able);
    const isSame = rows.every(
      ({ leadsOut }, at) => leadsOut[4] === leading[at]?.[4] && leadsOut[6] === leading[at]?.[6],
    );
    if (isSame) return undefined;
    const led = rows.map((row, at) => ({ ...row, leadsOut: leading[at] ?? NOWHERE }));
    db.transaction(() => {
      for (const row of led) networks.updateEndpoint(row);
    });
    return led.filter(leadsOut).map((row) => ({ device: row.interface, gateways: this.#gateways(row) }));
  }

  /** Families in which a way out of the host leads over it. */
  #able(row: Pick<EndpointRow, 'networkId' | 'networkName' | 'gateway' | 'gateway6'>): LeadsOut {
    if (isInternal(this.networkOf(row))) return NOWHERE;
    return { 4: row.gateway !== null, 6: row.gateway6 !== null };
  }

  /** Of the families that it leads out in; in mode l3 the device alone. */
  #gateways(row: Pick<EndpointRow, 'networkId' | 'networkName' | 'gateway' | 'gateway6' | 'leadsOut'>): string[] {
    const isL3 = optionsOf(this.networkOf(row))['ipvlan_mode']?.startsWith('l3');
    const [v4, v6] = isL3 ? ['0.0.0.0', '::'] : [row.gateway, row.gateway6];
    return [row.leadsOut[4] ? v4 : null, row.leadsOut[6] ? v6 : null].filter((one) => one != null);
  }

  /** Where published ports lead: in each family to the endpoint that leads out; undefined where none are published. */
  portTarget(owner: string, endpoints: readonly Leading[]): PortTarget | undefined {
    const ofFamily = (family: Family): { endpoint: Leading; settings: BridgeSettings } | undefined => {
      const endpoint = endpoints.find((one) => one.leadsOut[family]);
      if (!endpoint) return undefined;
      const network = this.networkOf(endpoint);
      return network.driver === 'bridge' ? { endpoint, settings: bridgeSettings(network, this.#config) } : undefined;
    };
    const [v4, v6] = [ofFamily(4), ofFamily(6)];
    const first = v4 ?? v6;
    if (!first) return undefined;
    const isTrusted = (one: typeof v4): boolean =>
      one !== undefined && (one.settings.direct || one.settings.trusted.length > 0);
    return {
      owner,
      address: v4?.endpoint.address ?? null,
      address6: v6?.endpoint.address6 ?? null,
      hostBinding: first.settings.hostBinding,
      modes: { 4: (v4 ?? first).settings.modes[4], 6: (v6 ?? first).settings.modes[6] },
      trusted: { 4: isTrusted(v4), 6: isTrusted(v6) },
    };
  }

  #choose(row: EndpointRow, ipv6: boolean): EndpointPlan {
    const network = this.networkOf(row);
    const settings = settingsOf(row);
    const { mtu, routers, advertise } = bridgeSettings(network, this.#config);
    const gateway = routers[4] || network.gateway;
    const gateway6 = routers[6] || network.gateway6;
    const v4 = this.#address(network, network.subnet, network.ipRange, [network.gateway, gateway], settings.ip);
    const subnet6 = ipv6 ? network.subnet6 : null;
    const v6 = this.#address(network, subnet6, network.ipRange6, [network.gateway6, gateway6], settings.ip6);
    const isBridge = network.driver === 'bridge';
    return {
      id: row.id,
      networkId: network.id,
      networkName: network.name,
      interface: row.interface,
      driver: network.driver as EndpointPlan['driver'],
      hostName: isBridge ? `veth${randomBytes(4).toString('hex')}` : null,
      mac: settings.mac || randomMac(),
      address: v4?.address ?? null,
      prefixLength: v4?.prefix ?? null,
      gateway: v4 ? gateway : null,
      address6: v6?.address ?? null,
      prefixLength6: v6?.prefix ?? null,
      gateway6: v6 ? gateway6 : null,
      leadsOut: NOWHERE,
      mtu: isBridge ? mtu : Number(optionsOf(network)[MTU] ?? 0),
      userDefined: knowsNames(network.name),
      internal: isInternal(network),
      linkLocal: settings.linkLocalIps,
      advertise,
      sysctls: sysctlsOf(row.interface, settings),
    };
  }

  #address(
    network: NetworkRow,
    subnetText: string | null,
    rangeText: string | null,
    gateways: (string | null)[],
    asked: string,
  ): { address: string; prefix: number } | undefined {
    if (subnetText === null) return undefined;
    const subnet = parseSubnet(subnetText);
    const { networks } = this.#graph;
    const reserved = new Set([...gateways, ...Object.values(networkDetail(network).auxAddresses)]);
    const isTaken = (one: string): boolean => reserved.has(one) || networks.hasAddress(network.id, one);
    if (asked !== '') {
      if (!holds(subnet, asked)) {
        throw new CaissonError('InvalidParameter', `no configured subnet contains IP address ${asked}`);
      }
      if (isTaken(asked) || isReservedIn(subnet, asked))
        throw new CaissonError('Forbidden', 'Address already in use', { code: 'ADDRESS_IN_USE' });
      return { address: asked, prefix: subnet.prefix };
    }
    const key = `${network.id} ${subnet.family}`;
    const range = rangeText === null ? subnet : parseSubnet(rangeText);
    let last = this.#last.get(key);
    // what was given last and is free again leaves no hole
    while (last !== undefined && last >= range.base && !isTaken(formatAddress(range.family, last))) last -= 1n;
    const own = BigInt(networks.addressCount(network.id, subnet.family));
    const isDense = last !== undefined && own + reservedIn(subnet, range, last, reserved) > last - range.base;
    const address = isDense
      ? nextAddress(subnet, isTaken, last, range)
      : this.#firstFree(network, subnet, range, reserved);
    const number = parseAddress(address);
    this.#last.set(key, last !== undefined && last > number ? last : number);
    return { address, prefix: subnet.prefix };
  }

  /** Of all that lie in between many are asked for. */
  #firstFree(network: NetworkRow, subnet: Subnet, range: Subnet, reserved: ReadonlySet<string | null>): string {
    const taken = this.#graph.networks.addresses(network.id);
    return nextAddress(subnet, (one) => taken.has(one) || reserved.has(one), undefined, range);
  }

  async attach(plan: EndpointPlan, netnsFd: number): Promise<void> {
    const network = this.#graph.networks.get(plan.networkId);
    if (!network) throw new CaissonError('NotFound', `network ${plan.networkName} not found`);
    const addresses = [
      ...withPrefix(plan.address, plan.prefixLength),
      ...withPrefix(plan.address6, plan.prefixLength6),
      ...plan.linkLocal.map((address) => `${address}/${familyOf(address) === 4 ? 16 : 64}`),
    ];
    const gateways = this.#gateways(plan);
    const { mtu, sysctls } = plan;
    const count = this.#devices.mayBeKnown(network.id, addresses) ? plan.advertise.count : 0;
    const advertise = { ...plan.advertise, count, announcer: announcerOf(plan) };
    const device = { netnsFd, containerName: plan.interface, mac: plan.mac ?? '', addresses, gateways, mtu, sysctls };
    const common = { ...device, advertise };
    await this.#devices.ensure(network);
    if (plan.driver === 'bridge') {
      const { hostName } = plan;
      const bridge = network.bridge ?? '';
      const isolated = !bridgeSettings(network, this.#config).icc;
      await this.#native.createEndpoint({ ...common, bridge, isolated, hostName: hostName ?? '' });
      return;
    }
    const options = optionsOf(network);
    await this.#native.createChild({
      ...common,
      kind: plan.driver,
      parent: parentOf(network).name,
      mode: options[`${plan.driver}_mode`] || (plan.driver === 'macvlan' ? 'bridge' : 'l2'),
      flag: options['ipvlan_flag'] ?? '',
    });
  }
}

export const gatewaysOf = ({ gateway, gateway6 }: Pick<EndpointRow, 'gateway' | 'gateway6'>): string[] =>
  [gateway, gateway6].filter((one) => one !== null);

/** eth2 before eth10. */
const byInterface = (a: EndpointRow, b: EndpointRow): number =>
  a.interface.localeCompare(b.interface, 'en', { numeric: true });

/** The first number behind the prefix that no other device has. */
function freeName(prefix: string, others: readonly string[]): string {
  let number = 0;
  while (others.includes(`${prefix}${number}`)) number++;
  return `${prefix}${number}`;
}

function checkName(name: string, others: readonly EndpointRow[]): void {
  const owner = others.find((other) => other.interface === name);
  if (!owner) return;
  throw new CaissonError('System', `error renaming interface to "${name}": file exists`, {
    code: 'INTERFACE_NAME_IN_USE',
    hint: `the container's device on network ${owner.networkName} is called so: choose another com.docker.network.endpoint.ifname`,
  });
}

/** The kernel's names: IFNAME stands for the device. */
const sysctlsOf = (device: string, { sysctls }: EndpointSettings): Record<string, string> =>
  Object.fromEntries(
    Object.entries(sysctls).map(([name, value]) => [
      name.replace(/\.ifname\./i, `.${device.replaceAll('.', '/')}.`),
      value,
    ]),
  );

/** Docker: the highest priority, then who could lead in both families, then the first by name; in each family by itself. */
function leadersOf(rows: readonly EndpointRow[], able: readonly LeadsOut[]): LeadsOut[] {
  const count = (at: number): number => Number(able[at]?.[4]) + Number(able[at]?.[6]);
  const ranked = rows
    .map((row, at) => ({ at, name: row.networkName, priority: settingsOf(row).gwPriority }))
    .sort((a, b) => b.priority - a.priority || count(b.at) - count(a.at) || (a.name < b.name ? -1 : 1));
  const first = (family: Family): number | undefined => ranked.find(({ at }) => able[at]?.[family])?.at;
  const [v4, v6] = [first(4), first(6)];
  return rows.map((_, at) => ({ 4: at === v4, 6: at === v6 }));
}

/** How many addresses from the beginning of a range up to `last` are never given out, the subnet's own one included. */
function reservedIn(subnet: Subnet, range: Subnet, last: bigint, reserved: ReadonlySet<string | null>): bigint {
  const first = formatAddress(range.family, range.base);
  const all = new Set([...reserved, ...(isReservedIn(subnet, first) ? [first] : [])]);
  const below = [...all].filter((one) => one !== null && holds(range, one) && parseAddress(one) <= last);
  return BigInt(below.length);
}
