/** From flags to what a container asks of its networks. */
import type { EndpointConfig } from '../client/index.ts';
import { invalidFlag, parseInteger } from './units.ts';

export interface EndpointFlags {
  alias?: readonly string[] | undefined;
  ip?: string | undefined;
  ip6?: string | undefined;
  link?: readonly string[] | undefined;
  linkLocalIp?: readonly string[] | undefined;
  mac?: string | undefined;
  driverOpt?: readonly string[] | undefined;
  gwPriority?: string | undefined;
}

/** `key=value`, or `key` for ''. */
export const keyValues = (values: readonly string[]): Record<string, string> =>
  Object.fromEntries(values.map((value) => [value.split('=', 1)[0] ?? '', value.split(/=(.*)/s)[1] ?? '']));

export function endpointConfig(flags: EndpointFlags): EndpointConfig {
  const { alias = [], ip, ip6, link = [], linkLocalIp = [], mac, driverOpt = [], gwPriority } = flags;
  const ipam = {
    ...(ip === undefined ? {} : { IPv4Address: ip }),
    ...(ip6 === undefined ? {} : { IPv6Address: ip6 }),
    ...(linkLocalIp.length > 0 ? { LinkLocalIPs: [...linkLocalIp] } : {}),
  };
  return {
    ...(alias.length > 0 ? { Aliases: [...alias] } : {}),
    ...(Object.keys(ipam).length > 0 ? { IPAMConfig: ipam } : {}),
    ...(link.length > 0 ? { Links: [...link] } : {}),
    ...(mac === undefined ? {} : { MacAddress: mac }),
    ...(driverOpt.length > 0 ? { DriverOpts: keyValues(driverOpt) } : {}),
    ...(gwPriority === undefined ? {} : { GwPriority: parseInteger(gwPriority, '--gw-priority') }),
  };
}

const LONG = new Set(['name', 'alias', 'ip', 'ip6', 'link-local-ip', 'mac-address', 'driver-opt', 'gw-priority']);

/** `--network web`, or the long form `--network name=web,alias=a,ip=10.0.0.9`. */
function parseNetwork(text: string): { name: string; flags: EndpointFlags } {
  if (!/^[a-z0-9-]+=/.test(text)) return { name: text, flags: {} };
  const fields = new Map<string, string[]>();
  for (const field of text.split(',')) {
    const [key = '', value] = field.split(/=(.*)/s);
    if (!LONG.has(key) || value === undefined) throw invalidFlag('--network', text, `invalid field ${field}`);
    fields.set(key, [...(fields.get(key) ?? []), value]);
  }
  const one = (key: string): string | undefined => fields.get(key)?.at(-1);
  const name = one('name');
  if (!name) throw invalidFlag('--network', text, 'a name is missing');
  return {
    name,
    flags: {
      alias: fields.get('alias'),
      ip: one('ip'),
      ip6: one('ip6'),
      linkLocalIp: fields.get('link-local-ip'),
      mac: one('mac-address'),
      driverOpt: fields.get('driver-opt'),
      gwPriority: one('gw-priority'),
    },
  };
}

export interface NetworkFlags {
  network: readonly string[];
  networkAlias: readonly string[];
  ip?: string;
  ip6?: string;
  link: readonly string[];
  linkLocalIp?: readonly string[];
  macAddress?: string;
}

const isUserDefined = (name: string): boolean => !/^(?:default|bridge|host|none)$|^container:/.test(name);

/** The network of the container's mode, and all that it joins. What the other flags say is about the first. */
export function parseNetworks(flags: NetworkFlags): { mode: string; endpoints: Record<string, EndpointConfig> } {
  const asked = (flags.network.length > 0 ? flags.network : ['default']).map(parseNetwork);
  const endpoints: Record<string, EndpointConfig> = {};
  for (const [index, { name, flags: own }] of asked.entries()) {
    if (Object.hasOwn(endpoints, name)) throw invalidFlag('--network', name, 'network is specified multiple times');
    const first = index === 0;
    endpoints[name] = endpointConfig({
      ...own,
      alias: [...(own.alias ?? []), ...(first ? flags.networkAlias : [])],
      // Those of the default bridge are the container's own.
      link: first && isUserDefined(name) ? flags.link : [],
      ...(first && flags.linkLocalIp && flags.linkLocalIp.length > 0 && { linkLocalIp: flags.linkLocalIp }),
      ...(first && flags.ip !== undefined ? { ip: flags.ip } : {}),
      ...(first && flags.ip6 !== undefined ? { ip6: flags.ip6 } : {}),
      ...(first && flags.macAddress !== undefined ? { mac: flags.macAddress } : {}),
    });
  }
  return { mode: asked[0]?.name ?? 'default', endpoints };
}
