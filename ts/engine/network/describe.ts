/** `GET /networks` and `GET /networks/{id}`: networks in Docker's shape, and its filters. */
import { CaissonError } from '../../errdefs.ts';
import type { ContainerRow } from '../../graph/containers.ts';
import type { Graph } from '../../graph/graph.ts';
import type { EndpointRow, NetworkRow } from '../../graph/networks.ts';
import { type Filters, labelsMatch, textMatches } from '../api/query.ts';
import type { IpamConfigBody } from '../api/schemas/networks.ts';
import type { DaemonConfig } from '../config.ts';
import type { HostConfig } from '../containers/config.ts';
import { isRunning } from '../containers/record.ts';
import { isPredefined } from './devices.ts';
import { givenConfig, networkDetail } from './settings.ts';

export interface NetworkView {
  graph: Graph;
  config: DaemonConfig;
}

function optionsOf(row: NetworkRow, config: DaemonConfig): Record<string, string> {
  if (row.name !== 'bridge') return JSON.parse(row.options) as Record<string, string>;
  return {
    'com.docker.network.bridge.default_bridge': 'true',
    'com.docker.network.bridge.enable_icc': String(config.icc),
    'com.docker.network.bridge.enable_ip_masquerade': String(config.ipMasq),
    'com.docker.network.bridge.host_binding_ipv4': config.ip,
    'com.docker.network.bridge.name': row.bridge ?? '',
    'com.docker.network.driver.mtu': String(config.mtu),
  };
}

/** Containers that run on it. */
export function attached({ graph }: Pick<NetworkView, 'graph'>, row: NetworkRow): Record<string, { Name: string }> {
  const onHost = row.driver === 'host' ? graph.containers.all().filter(isOnHost) : [];
  const described = onHost.map(({ id, name }) => [id, describeAttached(name, { ...NOWHERE, id })] as const);
  for (const endpoint of graph.networks.endpointsOn(row.id)) {
    const container = graph.containers.get(endpoint.containerId);
    const isOn = row.driver === 'null' ? container && isRunning(container) : (endpoint.address ?? endpoint.address6);
    if (isOn) described.push([endpoint.containerId, describeAttached(container?.name ?? '', endpoint)]);
  }
  return Object.fromEntries(described);
}

const isOnHost = (container: ContainerRow): boolean =>
  isRunning(container) && (JSON.parse(container.hostConfig) as HostConfig).NetworkMode === 'host';

const NOWHERE = { mac: null, address: null, prefixLength: null, address6: null, prefixLength6: null };

const describeAttached = (
  name: string,
  { id, mac, address, prefixLength, address6, prefixLength6 }: Pick<EndpointRow, 'id' | keyof typeof NOWHERE>,
): { Name: string } => ({
  Name: name,
  ...{
    EndpointID: id,
    MacAddress: mac ?? '',
    IPv4Address: address === null ? '' : `${address}/${prefixLength}`,
    IPv6Address: address6 === null ? '' : `${address6}/${prefixLength6}`,
  },
});

function ipamConfig(row: NetworkRow): object[] {
  const { configOnly, ipamConfig } = networkDetail(row);
  if (configOnly) return ipamConfig;
  const families = [
    [4, row.subnet, row.ipRange, row.gateway],
    [6, row.subnet6, row.ipRange6, row.gateway6],
  ] as const;
  // a gateway that was not asked for is not shown: tools that compare what they have asked for would see a change
  const given = families.map(([family]) => givenConfig(row, family));
  const chosen = families.flatMap(([, Subnet, IPRange, Gateway], index) =>
    given[index]?.length || Subnet === null ? [] : [{ Subnet, IPRange, Gateway }],
  );
  return [...given.flat(), ...chosen].map(withoutEmpty);
}

const withoutEmpty = (settings: IpamConfigBody): object =>
  Object.fromEntries(Object.entries(settings).filter(([, value]) => value && Object.keys(value).length > 0));

/** Docker's list leaves the containers out; inspect names them. */
export function describeNetwork(view: NetworkView, row: NetworkRow, withContainers: boolean): object {
  const { ipamOptions, configOnly, configFrom, ipv6 } = networkDetail(row);
  const plain = !configOnly && (row.driver === 'host' || row.driver === 'null');
  const config = ipamConfig(row);
  return {
    Name: row.name,
    Id: row.id,
    Created: row.created,
    Scope: 'local',
    Driver: row.driver,
    EnableIPv4: plain || configOnly || row.subnet !== null,
    EnableIPv6: ipv6 || row.subnet6 !== null,
    IPAM: { Driver: 'default', Options: ipamOptions, Config: plain ? null : config },
    Internal: row.internal,
    Attachable: row.attachable,
    Ingress: false,
    ConfigFrom: { Network: configFrom },
    ConfigOnly: configOnly,
    Containers: withContainers ? attached(view, row) : {},
    Options: plain ? {} : optionsOf(row, view.config),
    Labels: JSON.parse(row.labels) as object,
  };
}

export const NETWORK_FILTERS = ['id', 'name', 'driver', 'scope', 'type', 'dangling', 'label'];

function isDangling(value: string): boolean {
  if (/^(1|true)$/i.test(value)) return true;
  if (/^(0|false)$/i.test(value)) return false;
  throw new CaissonError('InvalidParameter', `invalid filter 'dangling=${JSON.stringify([value])}'`);
}

export function networkMatches(view: NetworkView, row: NetworkRow, filters: Filters): boolean {
  const any = (key: string, test: (value: string) => boolean): boolean => {
    const values = filters.get(key);
    return values === undefined || values.length === 0 || values.some(test);
  };
  const type = isPredefined(row.name) ? 'builtin' : 'custom';
  for (const value of filters.get('type') ?? []) {
    if (value !== 'builtin' && value !== 'custom') {
      throw new CaissonError('InvalidParameter', `invalid filter: 'type'='${value}'`);
    }
  }
  if ((filters.get('dangling') ?? []).length > 1)
    throw new CaissonError('InvalidParameter', 'got more than one value for filter key "dangling"');
  // the predefined networks are never dangling
  const dangling = type === 'custom' && Object.keys(attached(view, row)).length === 0;
  return (
    any('id', (value) => textMatches(row.id, value)) &&
    any('name', (value) => textMatches(row.name, value)) &&
    any('driver', (value) => row.driver === value) &&
    any('scope', (value) => value === 'local') &&
    any('type', (value) => value === type) &&
    any('dangling', (value) => isDangling(value) === dangling) &&
    labelsMatch(JSON.parse(row.labels) as Record<string, string>, filters.get('label') ?? [])
  );
}
