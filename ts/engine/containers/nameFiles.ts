/** hosts, hostname and resolv.conf of a container, from its rows: at each start, and when it joins or leaves a network. */
import { type NamingOptions, writeContainerFiles } from '../network/containerFiles.ts';
import { gatewaysOf } from '../network/endpoints.ts';
import { hasIpv6, hasOwnNetworks } from './attachments.ts';
import type { ContainerContext } from './context.ts';
import { linkHosts } from './links.ts';
import { type ContainerRecord, readRecord } from './record.ts';

export function namingOptions(ctx: ContainerContext, record: ContainerRecord): NamingOptions {
  const { config, graph } = ctx;
  const endpoints = graph.networks.endpointsOf(record.row.id);
  const addresses = endpoints.flatMap(({ address, address6 }) => [address, address6]).filter((one) => one !== null);
  const leader = endpoints.find(({ leadsOut }) => leadsOut) ?? endpoints[0];
  const gateways = leader ? gatewaysOf(leader) : [];
  return {
    config: record.config,
    hostConfig: record.hostConfig,
    links: linkHosts(ctx, record),
    addresses,
    userDefined: hasOwnNetworks(record.hostConfig) && endpoints.some(({ networkName }) => networkName !== 'bridge'),
    ipv6: hasIpv6(record.hostConfig),
    hostGateways: [config.hostGatewayIps, gateways, ['127.0.0.1']].find((list) => list.length > 0) ?? [],
    dns: { servers: config.dns, options: config.dnsOptions, search: config.dnsSearch },
  };
}

/** The files are written in place: the container has them mounted. */
export function writeNames(ctx: ContainerContext, id: string): void {
  const row = ctx.graph.containers.get(id);
  if (!row) return;
  writeContainerFiles(ctx.paths.containerDir(id), namingOptions(ctx, readRecord(row)));
}
