/** The daemon's settings about networks, with dockerd's names. */
import { CaissonError } from '../../errdefs.ts';
import type { DaemonConfig } from '../config.ts';
import { addressPool, bridgeAddress, invalid, ipAddress, oneOf, subnetOf } from '../configValues.ts';
import { flag, list, number, type Setting, text } from '../settings.ts';
import { familyOf } from './addresses.ts';

function gateway(name: string, family: 4 | 6, value: string): string {
  if (familyOf(value) !== family)
    throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not of IPv${family}`);
  return value;
}

export const NETWORK_SETTINGS: Setting[] = [
  text('bridge', (c, v) => (c.bridge = v), { short: 'b' }),
  text('bridge-name', (c, v) => (c.bridgeName = deviceName('bridge-name', v))),
  text('bip', (c, v) => (c.bip = bridgeAddress('bip', 4, v))),
  text('bip6', (c, v) => (c.bip6 = bridgeAddress('bip6', 6, v))),
  text('fixed-cidr', (c, v) => (c.fixedCidr = subnetOf('fixed-cidr', 4, v))),
  flag('ipv6', (c, v) => (c.ipv6 = v)),
  text('fixed-cidr-v6', (c, v) => (c.fixedCidrV6 = subnetOf('fixed-cidr-v6', 6, v))),
  text('default-gateway', (c, v) => (c.defaultGateways[4] = gateway('default-gateway', 4, v))),
  text('default-gateway-v6', (c, v) => (c.defaultGateways[6] = gateway('default-gateway-v6', 6, v))),
  number('mtu', (c, v) => (c.mtu = v)),
  list('default-address-pool', 'default-address-pools', (c, v) => (c.defaultAddressPools = v.map(addressPool))),
  list('dns', 'dns', (c, v) => (c.dns = v)),
  list('dns-opt', 'dns-opts', (c, v) => (c.dnsOptions = v)),
  list('dns-search', 'dns-search', (c, v) => (c.dnsSearch = v)),
  list('host-gateway-ip', 'host-gateway-ips', (c, v) => {
    c.hostGatewayIps = v.map((one) => ipAddress('host-gateway-ip', one));
  }),
  text('ip', (c, v) => (c.ip = ipAddress('ip', v))),
  flag('icc', (c, v) => (c.icc = v)),
  flag('ip-masq', (c, v) => (c.ipMasq = v)),
  flag('allow-direct-routing', (c, v) => (c.allowDirectRouting = v)),
  flag('ip-forward', (c, v) => (c.ipForward = v)),
  flag('ip-forward-no-drop', (c, v) => (c.ipForwardNoDrop = v)),
  flag('iptables', (c, v) => (c.iptables = v)),
  flag('ip6tables', (c, v) => (c.ip6tables = v)),
  text('firewall', (c, v) => (c.firewall = oneOf('firewall', v, ['open', 'respect']))),
  // what either value asks for is so: loopback reaches published ports, and no process runs for a port
  flag('userland-proxy', () => {}),
];

function deviceName(name: string, value: string): string {
  if (!/^[\w.-]{1,15}$/.test(value))
    throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: no name of a device`);
  return value;
}

/** Settings that contradict each other. */
export function checkNetworking(config: DaemonConfig): void {
  const { bridge, bip, bip6, bridgeName } = config;
  for (const [name, value] of Object.entries({ bip, bip6, 'bridge-name': bridgeName }))
    if (bridge !== '' && bridge !== 'none' && value !== '')
      throw invalid(`bridge and ${name} exclude each other: a bridge that is there has its name and addresses`);
  if (!config.icc && !config.iptables)
    throw invalid('icc=false needs the rules of iptables: set icc or iptables to true');
  // one table holds the rules of both families: it is there, or it is not
  if (config.ip6tables || !config.iptables) return;
  throw new CaissonError(
    'NotImplemented',
    'ip6tables=false without iptables=false is not supported by caisson: one table has the rules of both families',
    { code: 'OPTION_NOT_SUPPORTED', hint: 'set iptables to false as well, or leave ip6tables out' },
  );
}

/** `bridge=com.docker.network.driver.mtu=1400` of the flag, objects of objects of the file. */
export function networkOptions(flags: unknown, file: unknown): DaemonConfig['defaultNetworkOpts'] {
  const options: DaemonConfig['defaultNetworkOpts'] = {};
  for (const [driver, given] of Object.entries((file ?? {}) as Record<string, Record<string, string>>)) {
    const values = Object.entries(given ?? {});
    if (values.some(([, value]) => typeof value !== 'string')) {
      throw invalid(`invalid default-network-opts of driver ${driver}: every value is a text`);
    }
    options[driver] = Object.fromEntries(values);
  }
  for (const one of (flags ?? []) as string[]) {
    const [, driver = '', key = '', value = ''] = /^([^=]+)=([^=]+)=(.*)$/s.exec(one) ?? [];
    if (driver === '') throw invalid(`invalid default-network-opt ${JSON.stringify(one)}: not driver=option=value`);
    options[driver] = { ...options[driver], [key]: value };
  }
  return options;
}
