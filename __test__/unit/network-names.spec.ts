import { describe, expect, it } from 'vitest';
import type { HostConfig } from '../../ts/engine/containers/config.ts';
import {
  formatSubnet,
  nextAddress,
  normalAddress,
  overlaps,
  parseSubnet,
  piecesOf,
  randomMac,
  type Subnet,
} from '../../ts/engine/network/addresses.ts';
import { hostsFile, type NamingOptions, resolvConf } from '../../ts/engine/network/containerFiles.ts';
import { DEFAULT_POOLS, freeSubnet } from '../../ts/engine/network/pools.ts';
import { expandPort, parsePort, portRequests } from '../../ts/engine/network/ports.ts';

const naming = (own: Partial<NamingOptions['hostConfig']> = {}): NamingOptions => ({
  config: { Hostname: 'web', Domainname: '' },
  hostConfig: { NetworkMode: 'bridge', Dns: [], DnsOptions: [], DnsSearch: [], ExtraHosts: null, ...own },
  addresses: ['172.17.0.2'],
  userDefined: false,
  ipv6: true,
  hostGateways: ['172.17.0.1'],
  dns: { servers: [], options: [], search: [] },
});
const reading = (files: Record<string, string>) => (path: string) => files[path];

describe('hosts', () => {
  it('names the container at its address, and host-gateway at the gateway', () => {
    const lines = hostsFile(
      naming({ ExtraHosts: ['db:10.0.0.9', 'host.docker.internal=host-gateway', 'six:[::5]'] }),
    ).split('\n');
    expect(lines[0]).toBe('127.0.0.1\tlocalhost');
    expect(lines).toContain('10.0.0.9\tdb');
    expect(lines).toContain('172.17.0.1\thost.docker.internal');
    expect(lines).toContain('::5\tsix');
    expect(lines.at(-2)).toBe('172.17.0.2\tweb');
  });
});

describe('names of the container itself', () => {
  it.each([
    ['web', '', 'web'],
    ['web', 'example.org', 'web.example.org web'],
    ['web.example.org', '', 'web.example.org web'],
  ])('%s of domain "%s": %s', (Hostname, Domainname, names) => {
    const text = hostsFile({ ...naming(), config: { Hostname, Domainname } });
    expect(text.split('\n').at(-2)).toBe(`172.17.0.2\t${names}`);
  });
});

describe('resolv.conf', () => {
  const servers = (text: string): string[] => text.split('\n').filter((line) => line.startsWith('nameserver'));

  it('takes the host over, less servers on its loopback', () => {
    const files = { '/etc/resolv.conf': 'nameserver 127.0.0.53\nnameserver 10.1.1.1\nsearch a b\noptions ndots:2\n' };
    const text = resolvConf(naming(), reading(files));
    expect(servers(text)).toEqual(['nameserver 10.1.1.1']);
    expect(text).toContain('search a b');
    expect(text).toContain('options ndots:2');
  });

  it('reads the real servers of systemd-resolved when the host has only its stub', () => {
    const files = {
      '/etc/resolv.conf': 'nameserver 127.0.0.53\n',
      '/run/systemd/resolve/resolv.conf': 'nameserver 192.168.1.1\n',
    };
    expect(servers(resolvConf(naming(), reading(files)))).toEqual(['nameserver 192.168.1.1']);
    const none = resolvConf(naming(), reading({ '/etc/resolv.conf': 'nameserver ::1\n' }));
    expect(servers(none)).toEqual(['nameserver 8.8.8.8', 'nameserver 8.8.4.4']);
  });

  it('lets the user win over the daemon, and the daemon over the host', () => {
    const files = { '/etc/resolv.conf': 'nameserver 10.1.1.1\nsearch corp\n' };
    const options = { ...naming({ DnsSearch: ['.'] }), dns: { servers: ['9.9.9.9'], options: [], search: [] } };
    expect(servers(resolvConf(options, reading(files)))).toEqual(['nameserver 9.9.9.9']);
    expect(resolvConf(options, reading(files))).not.toContain('search');
    options.hostConfig.Dns = ['1.1.1.1'];
    expect(servers(resolvConf(options, reading(files)))).toEqual(['nameserver 1.1.1.1']);
  });

  it('is the very file of the host with the network of the host', () => {
    const text = 'nameserver 127.0.0.53\n';
    expect(resolvConf(naming({ NetworkMode: 'host' }), reading({ '/etc/resolv.conf': text }))).toBe(text);
  });
});

describe('addresses', () => {
  it('a subnet that a route touches is not chosen', () => {
    expect(freeSubnet(DEFAULT_POOLS, [])).toEqual(parseSubnet('172.17.0.0/16'));
    expect(freeSubnet(DEFAULT_POOLS, [parseSubnet('172.16.0.0/12')])).toEqual(parseSubnet('192.168.0.0/20'));
    expect(overlaps(parseSubnet('10.0.0.0/8'), parseSubnet('10.9.0.0/24'))).toBe(true);
    expect(() => freeSubnet(DEFAULT_POOLS, [parseSubnet('0.0.0.0/0')])).toThrow('fully subnetted');
  });

  it('two thousand networks find a subnet each', () => {
    const taken: Subnet[] = [];
    for (let count = 0; count < 40; count++) taken.push(freeSubnet(DEFAULT_POOLS, taken));
    expect(new Set(taken.map(formatSubnet)).size).toBe(40);
    expect(formatSubnet(taken[31] as Subnet)).toBe('10.208.0.0/24');
    const pieces = [...piecesOf(parseSubnet('10.208.0.0/12'), 24)];
    expect(pieces).toHaveLength(4096);
    expect(formatSubnet(freeSubnet(DEFAULT_POOLS, [...taken, ...pieces.slice(0, 2000)]))).toBe('10.215.208.0/24');
  });

  it('IPv6 is read and written in its one form', () => {
    const forms = { 'FD00:0:0::01': 'fd00::1', '::': '::', '::ffff:1.2.3.4': '::ffff:1.2.3.4', '10.0.0.1': '10.0.0.1' };
    for (const [text, normal] of Object.entries(forms)) expect(normalAddress(text)).toBe(normal);
    for (const text of ['1.2.3', 'fe80::1%eth0', '']) expect(() => normalAddress(text)).toThrow('invalid IP address');
    expect(formatSubnet(parseSubnet('fd00:1:2:3:4::9/64'))).toBe('fd00:1:2:3::/64');
    expect(nextAddress(parseSubnet('fd00::/64'), (one) => one === 'fd00::1', undefined)).toBe('fd00::2');
  });

  it('is the first that is free behind the last one, wraps around and ends with an error', () => {
    const subnet = parseSubnet('10.0.0.0/29');
    const taken = new Set(['10.0.0.1', '10.0.0.2']);
    expect(nextAddress(subnet, (one) => taken.has(one), undefined)).toBe('10.0.0.3');
    expect(nextAddress(subnet, (one) => taken.has(one), parseSubnet('10.0.0.6/32').base)).toBe('10.0.0.3');
    expect(() => nextAddress(subnet, () => true, undefined)).toThrow('no available IPv4 addresses');
  });

  it('a MAC is unicast and locally administered', () => {
    const macs = Array.from({ length: 64 }, randomMac);
    for (const mac of macs) expect(Number.parseInt(mac.slice(0, 2), 16) & 0b11).toBe(0b10);
    expect(new Set(macs).size).toBe(64);
  });
});

describe('ports', () => {
  const config = (own: Partial<HostConfig>): HostConfig =>
    ({ PortBindings: {}, PublishAllPorts: false, ...own }) as HostConfig;

  it('are read as Docker reads them', () => {
    expect(parsePort('53/udp')).toEqual({ port: 53, proto: 'udp' });
    expect(() => parsePort('x/tcp')).toThrow('invalid port specification: "x/tcp"');
    expect(() => parsePort('1/foo')).toThrow('invalid proto: foo');
    expect(expandPort('8000-8002/tcp')).toEqual(['8000/tcp', '8001/tcp', '8002/tcp']);
  });

  it('become requests; -P adds what is exposed and not asked for', () => {
    const hostConfig = config({
      PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '8000-8010' }] },
      PublishAllPorts: true,
    });
    expect(portRequests({ ExposedPorts: { '80/tcp': {}, '53/udp': {} } }, hostConfig)).toEqual([
      { proto: 'tcp', containerPort: 80, hostIp: '', hostPorts: [8000, 8010] },
      { proto: 'udp', containerPort: 53, hostIp: '', hostPorts: [0, 0] },
    ]);
    const wrong = config({ PortBindings: { '80/tcp': [{ HostIp: '', HostPort: 'foo' }] } });
    expect(() => portRequests({}, wrong)).toThrow('invalid port specification: "foo"');
  });
});
