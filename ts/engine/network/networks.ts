/** Networks that users make: created, listed, removed. Attaching containers is the containers' business. */
import { CaissonError, isKind } from '../../errdefs.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import { labelsAllow, madeUntil } from '../api/pruneFilters.ts';
import type { Filters } from '../api/query.ts';
import type { NetworkCreateBody } from '../api/schemas/networks.ts';
import type { DaemonConfig } from '../config.ts';
import { nowRfc3339 } from '../containers/time.ts';
import { exclusive, type JobKind, type KindRegistry, lock } from '../jobs/kinds.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { Native } from '../native/index.ts';
import type { RouteInfo } from '../native/network.ts';
import { formatSubnet, parseSubnet } from './addresses.ts';
import { checkConfigOnly, checkUnused, configOnlyRow, withConfig } from './configNetworks.ts';
import { attached, describeNetwork, type NetworkView, networkMatches } from './describe.ts';
import { isPredefined, type NetworkDevices, newId, routedSubnets } from './devices.ts';
import { bridgeSettings, checkOptions, ENABLE_IPV4, ENABLE_IPV6, egressMtu, MTU, NAME } from './driverOptions.ts';
import { type Choice, chooseAddressing } from './ipam.ts';
import { networkDetail } from './settings.ts';

interface NetworksOptions extends NetworkView {
  native: Native;
  runner: JobRunner;
  registry: KindRegistry;
  devices: NetworkDevices;
}

interface CreatePlan {
  row: NetworkRow;
  body: NetworkCreateBody;
  /** Of the host, when the request came; emptied once a subnet is chosen. */
  routed: string[];
}

interface RemovePlan {
  row: NetworkRow;
}

const refuse = (what: string): CaissonError =>
  new CaissonError('NotImplemented', `${what} is not supported by caisson`, { code: 'OPTION_NOT_SUPPORTED' });

export class Networks {
  readonly #options: NetworksOptions;
  readonly #create: JobKind<CreatePlan>;
  readonly #remove: JobKind<RemovePlan>;

  constructor(options: NetworksOptions) {
    this.#options = options;
    this.#create = options.registry.register(this.#createKind());
    this.#remove = options.registry.register(this.#removeKind());
  }

  list(filters: Filters): object[] {
    const rows = this.#options.graph.networks.all().filter((row) => networkMatches(this.#options, row, filters));
    return rows.map((row) => describeNetwork(this.#options, row, false));
  }

  /** `scope`: of which it must be, '' for any; all of ours are local. */
  inspect(idOrName: string, scope: string): object {
    if (scope !== '' && scope !== 'local')
      throw new CaissonError('NotFound', `network ${idOrName} not found`, { code: 'NETWORK_NOT_FOUND' });
    return describeNetwork(this.#options, this.#options.graph.networks.resolve(idOrName), true);
  }

  async create(request: NetworkCreateBody): Promise<{ Id: string; Warning: string }> {
    checkConfigOnly(request);
    const body = withDefaults(withConfig(this.#options.graph, request), this.#options.config);
    refuseUnsupported(body);
    const routes = await this.#options.native.listRoutes();
    const row = newRow(body, routes);
    const routed = routedSubnets(routes).map(formatSubnet);
    await this.#options.runner.run(this.#create, { row, body, routed });
    return { Id: row.id, Warning: '' };
  }

  async remove(idOrName: string): Promise<void> {
    const row = this.#options.graph.networks.resolve(idOrName);
    if (isPredefined(row.name)) {
      throw new CaissonError('Forbidden', `${row.name} is a pre-defined network and cannot be removed`);
    }
    await this.#options.runner.run(this.#remove, { row });
  }

  /** Removes what no container runs on; gives the names. */
  async prune(filters: Filters): Promise<string[]> {
    const isOld = madeUntil(filters);
    const removed: string[] = [];
    for (const row of this.#options.graph.networks.all()) {
      if (isPredefined(row.name) || !isOld(row.created)) continue;
      if (networkDetail(row).configOnly) continue;
      if (!labelsAllow(JSON.parse(row.labels) as Record<string, string>, filters)) continue;
      if (Object.keys(attached(this.#options, row)).length > 0) continue;
      try {
        await this.remove(row.id);
        removed.push(row.name);
      } catch (error) {
        // a container came meanwhile, or somebody else was faster
        if (!isKind(error, 'Forbidden') && !isKind(error, 'NotFound')) throw error;
      }
    }
    return removed;
  }

  #createKind(): JobKind<CreatePlan> {
    const { graph, devices } = this.#options;
    return {
      kind: 'network-create',
      subject: ({ row }) => row.name,
      claims: ({ row }) => [
        exclusive(`network-name:${row.name}`, `network with name ${row.name} already exists`),
        lock(`network:${row.id}`),
      ],
      begin: (plan) => this.#beginCreate(plan),
      rollback: ({ row }) => graph.networks.delete(row.id),
      commitPoint: 1,
      durable: true,
      steps: [
        {
          name: 'device',
          medium: 'kernel',
          do: async ({ row }) => {
            await devices.ensure(row);
            return { rows: () => this.#event('create', row) };
          },
          undo: ({ row }) => devices.remove(row),
        },
      ],
    };
  }

  /** The subnet is chosen with the row that takes it, so that two networks never get the same. */
  #beginCreate({ row, body, routed }: CreatePlan): CreatePlan {
    const { graph, config } = this.#options;
    const rows = graph.networks.all();
    if (rows.some(({ name }) => name === row.name)) {
      throw new CaissonError('Conflict', `network with name ${row.name} already exists`, { code: 'NAME_IN_USE' });
    }
    if (row.bridge !== null && rows.some(({ bridge }) => bridge === row.bridge)) {
      throw new CaissonError('Forbidden', `networks have same bridge name: ${row.bridge}`);
    }
    if (body.ConfigOnly) {
      const config = configOnlyRow(row, body);
      graph.networks.insert(config);
      return { row: config, body, routed: [] };
    }
    if (body.ConfigFrom?.Network) withConfig(graph, { ConfigFrom: body.ConfigFrom, Name: row.name });
    const own = rows
      .flatMap(({ subnet, subnet6 }) => [subnet, subnet6])
      .filter((one) => one !== null)
      .map(parseSubnet);
    const { modes, gateways } = bridgeSettings(row, config);
    const choice = chooseAddressing(
      {
        id: row.id,
        ipv4: wants(body.EnableIPv4, body.Options?.[ENABLE_IPV4], true),
        ipv6: wants(body.EnableIPv6, body.Options?.[ENABLE_IPV6], false),
        config: body.IPAM?.Config ?? [],
        isolated: {
          4: modes[4] === 'isolated' || (!gateways[4] && row.internal),
          6: modes[6] === 'isolated',
        },
      },
      config.defaultAddressPools,
      own,
      routed.map(parseSubnet),
    );
    const complete = completed(row, choice, body);
    graph.networks.insert(complete);
    return { row: complete, body, routed: [] };
  }

  #removeKind(): JobKind<RemovePlan> {
    const { graph, devices } = this.#options;
    return {
      kind: 'network-remove',
      subject: ({ row }) => row.name,
      claims: ({ row }) => [lock(`network:${row.id}`)],
      begin: ({ row }) => {
        const now = graph.networks.resolve(row.id);
        checkUnused(graph, now);
        const active = Object.entries(attached(this.#options, now));
        if (active.length > 0) {
          const names = active.map(([id, { Name }]) => `name:"${Name}" id:"${id.slice(0, 12)}"`).join(', ');
          throw new CaissonError(
            'Forbidden',
            `error while removing network: network ${now.name} has active endpoints (${names})`,
            { code: 'NETWORK_IN_USE', hint: 'stop the containers, or disconnect them (docker network disconnect)' },
          );
        }
        graph.networks.delete(now.id);
        this.#event('destroy', now);
        return { row: now };
      },
      commitPoint: 0,
      durable: true,
      steps: [{ name: 'device', medium: 'kernel', do: ({ row }) => devices.remove(row) }],
    };
  }

  #event(action: 'create' | 'destroy', row: NetworkRow): void {
    const attributes = { name: row.name, type: row.driver };
    this.#options.graph.events.append({ type: 'network', action, actorId: row.id, attributes });
  }
}

/** Options that the request does not give are the daemon's; what it says itself is not said a second time. */
function withDefaults(body: NetworkCreateBody, { defaultNetworkOpts }: DaemonConfig): NetworkCreateBody {
  const defaults = body.ConfigFrom?.Network ? {} : (defaultNetworkOpts[body.Driver || 'bridge'] ?? {});
  const options = { ...defaults, ...body.Options };
  if (typeof body.EnableIPv4 === 'boolean') delete options[ENABLE_IPV4];
  if (typeof body.EnableIPv6 === 'boolean') delete options[ENABLE_IPV6];
  return { ...body, Options: options };
}

function wants(field: boolean | null | undefined, option: string | undefined, absent: boolean): boolean {
  if (field !== null && field !== undefined) return field;
  return option === undefined ? absent : /^(1|t|true)$/i.test(option);
}

function refuseUnsupported(body: NetworkCreateBody): void {
  const { Name: name, Driver: driver, Scope: scope, IPAM: ipam } = body;
  if (name.trim() === '') throw new CaissonError('InvalidParameter', 'invalid name: name is empty');
  if (isPredefined(name) || name === 'default') {
    throw new CaissonError('Forbidden', `operation is not permitted on predefined ${name} network`);
  }
  const kind = driver || 'bridge';
  if (kind === 'host' || kind === 'null' || kind === 'none') {
    throw new CaissonError('Forbidden', `only one instance of "${kind}" network is allowed`);
  }
  if (!['bridge', 'macvlan', 'ipvlan'].includes(kind)) {
    throw new CaissonError('NotFound', `plugin "${kind}" not found`, {
      hint: 'caisson has the drivers bridge, macvlan and ipvlan',
    });
  }
  if (scope && scope !== 'local') throw refuse(`--scope ${scope}`);
  if (body.Ingress) throw refuse('--ingress');
  if (ipam?.Driver && ipam.Driver !== 'default') throw refuse(`--ipam-driver ${ipam.Driver}`);
  checkOptions(kind, body.Options ?? {}, body.Internal ?? false);
}

/** What does not depend on other networks. */
function newRow(body: NetworkCreateBody, routes: readonly RouteInfo[]): NetworkRow {
  const id = newId();
  const driver = body.Driver || 'bridge';
  const options = { ...body.Options };
  const uplink = routes.find(({ destination }) => destination === '0.0.0.0/0')?.device;
  const mtu = driver === 'bridge' && options[MTU] === undefined ? egressMtu(uplink) : undefined;
  if (mtu !== undefined) options[MTU] = String(mtu);
  return {
    id,
    name: body.Name,
    driver,
    bridge: driver === 'bridge' ? options[NAME] || `br-${id.slice(0, 12)}` : null,
    subnet: null,
    gateway: null,
    ipRange: null,
    subnet6: null,
    gateway6: null,
    ipRange6: null,
    internal: body.Internal ?? false,
    attachable: body.Attachable ?? false,
    options: JSON.stringify(options),
    labels: JSON.stringify(body.Labels ?? {}),
    detail: '{}',
    created: nowRfc3339(),
  };
}

function completed(row: NetworkRow, { addressing, auxAddresses }: Choice, body: NetworkCreateBody): NetworkRow {
  const ipamOptions = body.IPAM?.Options ?? null;
  const ipamConfig = body.IPAM?.Config ?? [];
  const detail = { auxAddresses, ipamOptions, ipamConfig, configFrom: body.ConfigFrom?.Network ?? '' };
  return { ...row, ...addressing, detail: JSON.stringify(detail) };
}
