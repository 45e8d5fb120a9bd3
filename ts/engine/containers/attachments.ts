/** Networks of a container: those that it asks for at create, and those that it joins and leaves later. */
import { CaissonError, isKind } from '../../errdefs.ts';
import type { EndpointRow, NetworkRow } from '../../graph/networks.ts';
import type { CreateBody } from '../api/schemas/containers.ts';
import { type JobKind, lock } from '../jobs/kinds.ts';
import type { DeviceRoutes } from '../native/network.ts';
import { ignoreMissing } from '../network/devices.ts';
import type { EndpointPlan } from '../network/endpoints.ts';
import { leadsOut, NOWHERE } from '../network/endpoints.ts';
import {
  checkSettings,
  checkSettingsOf,
  type EndpointBody,
  type EndpointSettings,
  endpointSettings,
  networkDetail,
} from '../network/settings.ts';
import type { ContainerConfig, HostConfig } from './config.ts';
import type { ContainerContext } from './context.ts';
import { followLinks, followNames } from './nameFiles.ts';
import type { Publisher } from './publisher.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';

/** Its network namespace is its own: that it may have devices, and join and leave networks. */
export const hasOwnNetworks = ({ NetworkMode: mode }: Pick<HostConfig, 'NetworkMode'>): boolean =>
  mode !== 'host' && !mode.startsWith('container:');

/** As dockerd: IPv6 is off in the container when its loopback has none. */
export const hasIpv6 = ({ Sysctls: sysctls }: Pick<HostConfig, 'Sysctls'>): boolean =>
  ['all', 'lo'].every((name) => /^\s*0*\s*$/.test(sysctls?.[`net.ipv6.conf.${name}.disable_ipv6`] ?? '0'));

/** Networks that a container belongs to; removed ones are left out. */
export function networksOf({ graph }: ContainerContext, record: ContainerRecord): NetworkRow[] {
  const { row, hostConfig } = record;
  if (!hasOwnNetworks(hostConfig)) {
    const network = graph.networks.byName(hostConfig.NetworkMode);
    return network ? [network] : [];
  }
  const rows = graph.networks.endpointsOf(row.id).map(({ networkId }) => graph.networks.get(networkId));
  return rows.filter((network) => network !== undefined);
}

/** All names that others know it by; its address is resolved to the first. */
const dnsNames = (
  id: string,
  name: string,
  { Hostname: hostname }: Pick<ContainerConfig, 'Hostname'>,
  { aliases }: EndpointSettings,
): string[] => [...new Set([name, ...aliases, id.slice(0, 12), hostname])];

/** Endpoints that a create request asks for; the network of its mode first, the others by name. */
export function requestedEndpoints(
  ctx: ContainerContext,
  container: { id: string; name: string; config: ContainerConfig; hostConfig: HostConfig },
  body: CreateBody,
): EndpointRow[] {
  const { id, name, config, hostConfig } = container;
  const asked = body.NetworkingConfig?.EndpointsConfig ?? {};
  const mode = hostConfig.NetworkMode;
  if (config.NetworkDisabled) return [];
  if (!hasOwnNetworks(hostConfig)) {
    for (const [network, endpoint] of Object.entries(asked))
      checkSettingsOf(network, undefined, endpointSettings(endpoint));
    for (const network of Object.keys(asked)
      .filter((one) => one !== mode)
      .sort())
      checkTogether([mode], mode, network);
    return [];
  }
  if (mode === 'none')
    for (const network of Object.keys(asked)) if (network !== mode) checkTogether([mode], mode, network);
  const isMode = (network: string): boolean =>
    network === mode || (network === 'default' && mode === 'bridge') || sameNetwork(ctx, network, mode);
  const others = Object.keys(asked)
    .filter((network) => !isMode(network))
    .sort();
  const own = Object.keys(asked).find(isMode);
  // who names networks, but not that of the mode, joins those alone: dockerd's rule
  const joined = own === undefined && others.length > 0 ? others : [mode, ...others];
  const chosen = Object.values(asked).map((endpoint) => endpointSettings(endpoint).ifname);
  const devices = chosen.filter((name) => name !== '');
  return joined.map((network, index) => {
    const endpoint = asked[network === mode ? (own ?? mode) : network];
    const settings = endpointSettings(endpoint);
    if (index === 0 && body.MacAddress && !settings.mac)
      settings.mac = endpointSettings({ MacAddress: body.MacAddress }).mac;
    checkSettingsOf(network, ctx.endpoints.find(network), settings);
    if (index > 0) checkTogether([mode], mode, network);
    const row = ctx.endpoints.row(id, network, devices, settings, dnsNames(id, name, config, settings));
    devices.push(row.interface);
    return row;
  });
}

function sameNetwork({ endpoints }: ContainerContext, a: string, b: string): boolean {
  const found = endpoints.find(a);
  return found !== undefined && found.id === endpoints.find(b)?.id;
}

interface ConnectPlan {
  containerId: string;
  row: EndpointRow;
  /** Of a container that runs. */
  plan?: EndpointPlan;
  /** When the default routes are others from now on. */
  routes?: DeviceRoutes[];
}

interface DisconnectPlan {
  containerId: string;
  row: EndpointRow;
  running: boolean;
  /** When the default routes are others from now on. */
  routes?: DeviceRoutes[];
}

export class Attachments {
  readonly kinds: [JobKind<ConnectPlan>, JobKind<DisconnectPlan>];
  readonly #ctx: ContainerContext;
  readonly #publisher: Publisher;

  constructor(ctx: ContainerContext, publisher: Publisher) {
    this.#ctx = ctx;
    this.#publisher = publisher;
    this.kinds = [this.#connectKind(), this.#disconnectKind()];
  }

  async connect(network: string, container: string, body: EndpointBody | null | undefined): Promise<void> {
    const { graph, endpoints, runner } = this.#ctx;
    const found = graph.networks.resolve(network);
    const record = readRecord(graph.containers.resolve(container));
    if (record.hostConfig.NetworkMode.startsWith('container:')) throw invalid(SHARED);
    if (networkDetail(found).configOnly) {
      throw new CaissonError('Forbidden', 'cannot create endpoint on configuration-only network');
    }
    const settings = endpointSettings(body);
    checkSettings(found.name, found, settings);
    const joined = graph.networks.endpointsOf(record.row.id);
    // as dockerd: one that does not run stays as it is
    if (!isRunning(record.row) && joined.some(({ networkId }) => networkId === found.id)) return;
    checkJoinable(record, found, joined);
    const names = dnsNames(record.row.id, record.row.name, record.config, settings);
    const devices = joined.map((other) => other.interface);
    const row = endpoints.row(record.row.id, found.id, devices, settings, names);
    await runner.run(this.kinds[0], { containerId: record.row.id, row });
  }

  /** `force`: also from a network that is gone. What a container that has gone would have left does not exist here. */
  async disconnect(network: string, container: string, force: boolean): Promise<void> {
    const { graph, runner } = this.#ctx;
    const found = this.#ctx.endpoints.find(network);
    let record: ContainerRecord;
    try {
      record = readRecord(graph.containers.resolve(container));
    } catch (error) {
      if (!force || !isKind(error, 'NotFound')) throw error;
      throw new CaissonError('NotFound', `endpoint ${container} not found`, { cause: error });
    }
    const running = isRunning(record.row);
    if (!found && !force && running) graph.networks.resolve(network);
    if (found?.name === 'host' && record.hostConfig.NetworkMode === 'host') throw invalid(HOST_STAYS);
    const rows = graph.networks.endpointsOf(record.row.id);
    // what is left of a network that has gone is known by its name
    const row = rows.find(({ networkId, networkName }) => (found ? networkId === found.id : networkName === network));
    if (!row) {
      const name = `${running && found ? '' : 'the '}network ${found?.name ?? network}`;
      throw forbid(`container ${record.row.id} is not connected to ${name}`);
    }
    await runner.run(this.kinds[1], { containerId: record.row.id, row, running });
  }

  #connectKind(): JobKind<ConnectPlan> {
    const { graph, events } = this.#ctx;
    return {
      kind: 'network-connect',
      subject: ({ containerId }) => containerId,
      claims: ({ containerId }) => [lock(`container:${containerId}`)],
      begin: (plan) => this.#beginConnect(plan),
      rollback: ({ row }) => {
        graph.networks.deleteEndpoint(row.id);
        this.#ctx.endpoints.lead(row.containerId);
      },
      commitPoint: 1,
      durable: true,
      steps: [
        {
          name: 'attach',
          medium: 'kernel',
          do: async ({ containerId, row, plan, routes }) => {
            if (plan) await this.#attach(containerId, plan, routes);
            return {
              rows: () => {
                const network = graph.networks.get(row.networkId);
                if (network) events.network('connect', network, containerId);
              },
            };
          },
          undo: async ({ containerId, plan }) => {
            if (!plan) return;
            const routes = this.#ctx.endpoints.lead(containerId, plan.id);
            await this.#detach(containerId, plan, routes);
            if (routes) await this.#publisher.follow(containerId);
          },
        },
      ],
    };
  }

  #beginConnect({ containerId, row }: ConnectPlan): ConnectPlan {
    const { graph, endpoints } = this.#ctx;
    const container = graph.containers.resolve(containerId);
    const existing = graph.networks.endpointsOf(containerId).find(({ networkId }) => networkId === row.networkId);
    const running = isRunning(container);
    if (existing) {
      throw new CaissonError(
        'Forbidden',
        `endpoint with name ${container.name} already exists in network ${row.networkName}`,
      );
    }
    graph.networks.insertEndpoint(row);
    if (!running || row.networkName === 'none') return { containerId, row };
    return { containerId, row, ...endpoints.allocateOne(row, hasIpv6(readRecord(container).hostConfig)) };
  }

  async #attach(containerId: string, plan: EndpointPlan, routes: DeviceRoutes[] | undefined): Promise<void> {
    const { native, endpoints, resolvers } = this.#ctx;
    const netnsFd = await native.containerNetns(containerId);
    try {
      // the route of another endpoint makes way first
      await endpoints.attach({ ...plan, leadsOut: NOWHERE }, netnsFd);
      if (routes) await native.setDefaultRoutes({ netnsFd, routes });
      if (plan.userDefined) await resolvers.ensure(containerId, netnsFd);
    } finally {
      native.closeFd(netnsFd);
    }
    if (routes) await this.#publisher.publish(containerId);
    followNames(this.#ctx, containerId);
    followLinks(this.#ctx, containerId);
  }

  async #detach(
    containerId: string,
    row: Pick<EndpointRow, 'hostName' | 'interface'>,
    routes: DeviceRoutes[] | undefined,
  ): Promise<void> {
    const { native } = this.#ctx;
    const isGone = row.hostName !== null && (await deleteHostEnd(native, row.hostName));
    if (isGone && !routes) return;
    let netnsFd: number;
    try {
      netnsFd = await native.containerNetns(containerId);
    } catch {
      // it has ended meanwhile, and its namespace with it
      return;
    }
    try {
      if (!isGone) await native.deleteChild(netnsFd, row.interface).catch(ignoreMissing);
      if (routes) await native.setDefaultRoutes({ netnsFd, routes });
    } finally {
      native.closeFd(netnsFd);
    }
  }

  #disconnectKind(): JobKind<DisconnectPlan> {
    const { graph, events, endpoints } = this.#ctx;
    return {
      kind: 'network-disconnect',
      subject: ({ containerId }) => containerId,
      claims: ({ containerId }) => [lock(`container:${containerId}`)],
      begin: ({ containerId, row, running }) => {
        const network = graph.networks.get(row.networkId);
        graph.networks.deleteEndpoint(row.id);
        const routes = running ? endpoints.lead(containerId) : undefined;
        if (network && running) events.network('disconnect', network, containerId);
        return { containerId, row, running, ...(routes ? { routes } : {}) };
      },
      commitPoint: 0,
      durable: true,
      steps: [
        {
          name: 'detach',
          medium: 'kernel',
          do: async ({ containerId, row, running, routes }) => {
            if (!running || row.networkName === 'none') return;
            await this.#detach(containerId, row, routes);
            if (leadsOut(row)) await this.#publisher.follow(containerId);
            followNames(this.#ctx, containerId);
            followLinks(this.#ctx, containerId);
          },
        },
      ],
    };
  }
}

/** False when there is none: the device shares a port of the bridge, or somebody else has deleted both ends. */
async function deleteHostEnd(native: ContainerContext['native'], name: string): Promise<boolean> {
  try {
    await native.deleteLink(name);
    return true;
  } catch (error) {
    ignoreMissing(error);
    return false;
  }
}

const forbid = (message: string): CaissonError => new CaissonError('Forbidden', message);
const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);
const HOST_STAYS = 'cannot disconnect container from host network - container was created in host network mode';
const SHARED =
  'container sharing network namespace with another container or host cannot be connected to any other network';

/** What a container that is on these networks can join besides, with Docker's texts. */
function checkTogether(joined: string[], mode: string, network: string): void {
  if (network === 'host')
    throw invalid('cannot connect container to host network - container must be created in host network mode');
  if (mode === 'host' || mode.startsWith('container:')) throw invalid(SHARED);
  if (joined.includes('none') || (joined.length > 0 && network === 'none'))
    throw invalid('container cannot be connected to multiple networks with one of the networks in private (none) mode');
}

function checkJoinable({ row, hostConfig }: ContainerRecord, network: NetworkRow, joined: EndpointRow[]): void {
  if (hostConfig.NetworkMode === network.name && !hasOwnNetworks(hostConfig))
    throw forbid(`endpoint with name ${row.name} already exists in network ${network.name}`);
  const others = joined.filter(({ networkId }) => networkId !== network.id).map(({ networkName }) => networkName);
  checkTogether(others, hostConfig.NetworkMode, network.name);
  if (row.status === 'removing' || row.status === 'dead') {
    throw forbid(`container ${row.id} is marked for removal and cannot be connected or disconnected to the network`);
  }
}
