/** What of a network and of an attachment is refused, in the words of dockerd 28.5.2. */
import { describe, expect, it } from 'vitest';
import type { IpamConfigBody } from '../../ts/engine/api/schemas/networks.ts';
import { checkOptions } from '../../ts/engine/network/driverOptions.ts';
import { type Addressing, chooseAddressing } from '../../ts/engine/network/ipam.ts';
import { DEFAULT_POOLS } from '../../ts/engine/network/pools.ts';
import { checkSettings, type EndpointBody, endpointSettings } from '../../ts/engine/network/settings.ts';
import type { NetworkRow } from '../../ts/graph/networks.ts';

function choose(config: IpamConfigBody[], has: { ipv4?: boolean; ipv6?: boolean } = {}): Addressing {
  const request = { id: 'n', ipv4: true, ipv6: false, config, isolated: { 4: false, 6: false } as const, ...has };
  return chooseAddressing(request, DEFAULT_POOLS, [], []).addressing;
}

describe('subnets of a network', () => {
  const Subnet = '10.9.0.0/24';
  it.each<[IpamConfigBody[], string]>([
    [[{ Subnet: '10.300.0.0/24' }], 'invalid subnet 10.300.0.0/24: invalid CIDR block notation'],
    [[{ Subnet: '10.9.0.1/24' }], 'invalid subnet 10.9.0.1/24: it should be 10.9.0.0/24'],
    [
      [{ Subnet, IPRange: '10.9.0.0/16', Gateway: '10.8.0.1' }],
      "* invalid ip-range 10.9.0.0/16: CIDR block is bigger than its parent subnet 10.9.0.0/24\n* invalid gateway 10.8.0.1: parent subnet 10.9.0.0/24 doesn't contain this address",
    ],
    [[{ Subnet, IPRange: 'fd00::/64' }], 'invalid ip-range fd00::/64: parent subnet is an IPv4 block'],
    [[{ Subnet, Gateway: '1.2.3' }], 'invalid gateway 1.2.3: invalid address'],
    [[{ Subnet, Gateway: '10.9.0.0' }], 'failed to allocate gateway (10.9.0.0): Address already in use'],
    [
      [{ Subnet, AuxiliaryAddresses: { router: '10.9.0.1' } }],
      'failed to allocate secondary ip address (router:10.9.0.1): Address already in use',
    ],
  ])('%j: %s', (config, message) => {
    expect(() => choose(config)).toThrow(message);
  });

  it('those of a family that it does not have are passed over', () => {
    const config = [{ Subnet }, { Subnet: 'fd00::1/64' }];
    expect(choose(config)).toMatchObject({ subnet: Subnet, gateway: '10.9.0.1', subnet6: null });
    expect(() => choose(config, { ipv6: true })).toThrow('invalid subnet fd00::1/64: it should be fd00::/64');
    expect(() => choose(config, { ipv4: false })).toThrow('IPv4 or IPv6 must be enabled');
  });
});

describe('settings of an attachment', () => {
  const NO_SUBNETS =
    'user specified IP address is supported only when connecting to networks with user configured subnets';
  const network = (subnets: string[]): NetworkRow =>
    ({
      subnet: '10.9.0.0/24',
      subnet6: 'fd00:9::/64',
      detail: JSON.stringify({ ipamConfig: subnets.map((Subnet) => ({ Subnet })) }),
    }) as NetworkRow;
  const v4 = { IPAMConfig: { IPv4Address: '10.9.0.7' } };

  it.each<[string, string[], EndpointBody, string | undefined]>([
    ['own', ['10.9.0.0/24'], v4, undefined],
    ['own', ['fd00:9::/64'], v4, NO_SUBNETS],
    ['own', ['10.9.0.0/24'], { IPAMConfig: { IPv4Address: '10.8.0.1' } }, 'contain the IP address 10.8.0.1'],
    ['own', ['10.9.0.0/24'], { IPAMConfig: { IPv4Address: '0.0.0.0' } }, 'invalid IPv4 address: 0.0.0.0'],
    ['own', ['fd00:9::/64'], { IPAMConfig: { IPv6Address: '::ffff:10.9.0.7' } }, 'invalid IPv6 address: ::ffff:'],
    ['own', [], { IPAMConfig: { LinkLocalIPs: ['10.1.2.3'] } }, 'invalid link-local IP address: 10.1.2.3'],
    ['bridge', [], v4, `* user specified IP address is supported on user defined networks only\n* ${NO_SUBNETS}`],
    [
      'bridge',
      [],
      { Aliases: ['db'] },
      'network-scoped alias is supported only for containers in user defined networks',
    ],
  ])('on network %s of %j: %j', (name, subnets, body, message) => {
    const check = (): void => checkSettings(name, network(subnets), endpointSettings(body));
    if (message === undefined) check();
    else expect(check).toThrow(message);
  });
});

describe('options of a bridge network', () => {
  const BRIDGE = 'com.docker.network.bridge';
  it.each([
    [`${BRIDGE}.enable_icc`, 'maybe', 'value: maybe (strconv.ParseBool: parsing "maybe": invalid syntax)'],
    [`${BRIDGE}.enable_icc`, '', 'value:  (strconv.ParseBool: parsing "": invalid syntax)'],
    [`${BRIDGE}.host_binding_ipv4`, 'x', 'value: x (nil ip)'],
    [`${BRIDGE}.gateway_mode_ipv4`, 'bad', 'value: bad (unknown gateway mode bad)'],
    ['com.docker.network.enable_ipv6', 'x', 'driver-opt "com.docker.network.enable_ipv6" is not a valid bool'],
    ['com.docker.network.driver.mtu', '67', 'invalid value for com.docker.network.driver.mtu: 67'],
  ])('%s=%s', (key, value, message) => {
    expect(() => checkOptions('bridge', { [key]: value }, false)).toThrow(message);
  });

  it('an empty name and an MTU of 0 ask for the usual ones', () => {
    checkOptions('bridge', { [`${BRIDGE}.name`]: '', 'com.docker.network.driver.mtu': '0' }, false);
  });
});
