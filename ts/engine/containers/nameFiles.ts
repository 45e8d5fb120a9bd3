/** hosts, hostname and resolv.conf of a container, from its rows: at each start, and when it joins or leaves a network. */

import type { EndpointRow } from '../../graph/networks.ts';
import { followContainerFiles, type NamingOptions, writeContainerFiles } from '../network/containerFiles.ts';
import { gatewaysOf, knowsNames } from '../network/endpoints.ts';
import { hasIpv6 } from './attachments.ts';
import type { ContainerContext } from './context.ts';
import { linkHosts } from './links.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';

export function namingOptions(ctx: ContainerContext, record: ContainerRecord): NamingOptions {
  const { config, graph } = ctx;
  const endpoints = graph.networks.endpointsOf(record.row.id);
  const addresses = endpoints.flatMap(({ address, address6 }) => [address, address6]).filter((one) => one !== null);
  return {
    config: record.config,
    hostConfig: record.hostConfig,
    links: linkHosts(ctx, record),
    addresses,
    userDefined: endpoints.some(({ networkName }) => knowsNames(networkName)),
    ipv6: hasIpv6(record.hostConfig),
    hostGateways: config.hostGatewayIps.length > 0 ? config.hostGatewayIps : hostAddresses(ctx, endpoints),
    dns: { servers: config.dns, options: config.dnsOptions, search: config.dnsSearch },
  };
}

/** Of the default bridge, where services of the host listen for containers of any network; else of the container's own. */
function hostAddresses({ config, graph }: ContainerContext, endpoints: EndpointRow[]): string[] {
  const bridge = config.bridge === 'none' ? undefined : graph.networks.byName('bridge');
  const own = endpoints.flatMap(({ leadsOut, gateway, gateway6 }) =>
    gatewaysOf({ gateway: leadsOut[4] ? gateway : null, gateway6: leadsOut[6] ? gateway6 : null }),
  );
  const found = [bridge ? gatewaysOf(bridge) : [], own].find((list) => list.length > 0);
  return found ?? ['127.0.0.1'];
}

/** At a start. */
export const writeNames = (ctx: ContainerContext, record: ContainerRecord): void =>
  writeContainerFiles(ctx.paths.containerDir(record.row.id), namingOptions(ctx, record));

/** In place, since the container has them mounted. */
export function followNames(ctx: ContainerContext, id: string): void {
  const row = ctx.graph.containers.get(id);
  if (row && isRunning(row)) followContainerFiles(ctx.paths.containerDir(id), namingOptions(ctx, readRecord(row)));
}

/** Of those that are linked to a container, when its address on the default bridge may be another. */
export function followLinks(ctx: ContainerContext, targetId: string): void {
  for (const owner of ctx.graph.links.to(targetId)) {
    try {
      followNames(ctx, owner);
    } catch (error) {
      // the target's start or end goes on
      ctx.log.warn({ err: error, container: owner }, 'the addresses of links could not be written to /etc/hosts');
    }
  }
}
