/** `/networks`: the three predefined ones. */
import { CaissonError } from '../../../errdefs.ts';
import type { Graph } from '../../../graph/graph.ts';
import type { NetworkRow } from '../../../graph/networks.ts';
import type { DaemonConfig } from '../../config.ts';
import { BridgeNetwork } from '../../network/bridge.ts';
import { type Filters, labelsMatch } from '../query.ts';
import type { Router } from '../router.ts';
import { notImplemented } from './unsupported.ts';

interface NetworkContext {
  graph: Graph;
  config: DaemonConfig;
}

function bridgeOptions(row: NetworkRow, config: DaemonConfig): Record<string, string> {
  return {
    'com.docker.network.bridge.default_bridge': 'true',
    'com.docker.network.bridge.enable_icc': String(config.icc),
    'com.docker.network.bridge.enable_ip_masquerade': 'true',
    'com.docker.network.bridge.host_binding_ipv4': config.ip,
    'com.docker.network.bridge.name': row.bridge ?? '',
    'com.docker.network.driver.mtu': String(config.mtu),
  };
}

function attached({ graph }: NetworkContext, row: NetworkRow): Record<string, object> {
  const described: Record<string, object> = {};
  for (const endpoint of graph.networks.endpointsOn(row.id)) {
    if (endpoint.address === null) continue;
    described[endpoint.containerId] = {
      Name: graph.containers.get(endpoint.containerId)?.name ?? '',
      EndpointID: endpoint.id,
      MacAddress: endpoint.mac ?? '',
      IPv4Address: `${endpoint.address}/${endpoint.prefixLength}`,
      IPv6Address: '',
    };
  }
  return described;
}

/** Docker's list leaves the containers out; inspect names them. */
function describe(context: NetworkContext, row: NetworkRow, withContainers: boolean): object {
  return {
    Name: row.name,
    Id: row.id,
    Created: row.created,
    Scope: 'local',
    Driver: row.driver,
    EnableIPv4: true,
    EnableIPv6: false,
    IPAM: {
      Driver: 'default',
      Options: null,
      Config: row.subnet === null ? null : [{ Subnet: row.subnet, Gateway: row.gateway ?? '' }],
    },
    Internal: row.internal,
    Attachable: row.attachable,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: withContainers ? attached(context, row) : {},
    Options: row.driver === 'bridge' ? bridgeOptions(row, context.config) : {},
    Labels: JSON.parse(row.labels) as object,
  };
}

function matches(context: NetworkContext, row: NetworkRow, filters: Filters): boolean {
  const any = (key: string, test: (value: string) => boolean): boolean => {
    const values = filters.get(key);
    return values === undefined || values.length === 0 || values.some(test);
  };
  const inUse = Object.keys(attached(context, row)).length > 0;
  return (
    any('id', (value) => row.id.includes(value)) &&
    any('name', (value) => row.name.includes(value)) &&
    any('driver', (value) => row.driver === value) &&
    any('scope', (value) => value === 'local') &&
    // the predefined networks are never dangling
    any('type', (value) => value === 'builtin') &&
    any('dangling', (value) => /^(0|false)$/i.test(value) || (!BridgeNetwork.isPredefined(row.name) && !inUse)) &&
    labelsMatch(JSON.parse(row.labels) as Record<string, string>, filters.get('label') ?? [])
  );
}

export function networkRoutes(router: Router, context: NetworkContext): void {
  router.plain({
    method: 'GET',
    path: '/networks',
    handle: (call) => {
      const filters = call.query.filters(['id', 'name', 'driver', 'scope', 'type', 'dangling', 'label']);
      return context.graph.networks
        .all()
        .filter((row) => matches(context, row, filters))
        .map((row) => describe(context, row, false));
    },
  });
  router.plain({
    method: 'GET',
    path: '/networks/:id',
    handle: (call) => describe(context, context.graph.networks.resolve(call.param('id')), true),
  });
  router.plain({
    method: 'DELETE',
    path: '/networks/:id',
    handle: (call) => {
      const row = context.graph.networks.resolve(call.param('id'));
      throw new CaissonError('Forbidden', `${row.name} is a pre-defined network and cannot be removed`);
    },
  });
  router.plain({ method: 'POST', path: '/networks/prune', handle: () => ({ NetworksDeleted: null }) });
  const missing: [string, string][] = [
    ['/networks/create', 'creating networks'],
    ['/networks/:id/connect', 'connecting a container to a further network'],
    ['/networks/:id/disconnect', 'disconnecting a container from a network'],
  ];
  for (const [path, what] of missing) {
    router.plain({
      method: 'POST',
      path,
      body: 'stream',
      handle: (call) => {
        call.stream.resume();
        throw notImplemented(`POST ${path.replace(':id', '{id}')}`, what);
      },
    });
  }
}
