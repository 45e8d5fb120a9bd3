/** What the command line says about networks, and what it becomes. */
import { describe, expect, it } from 'vitest';
import { parseNetworks } from '../../ts/cli/networks.ts';

const NONE = { network: [], networkAlias: [], link: [] };

describe('--network', () => {
  it('is the default one, or one by name with what the other flags say', () => {
    expect(parseNetworks(NONE)).toEqual({ mode: 'default', endpoints: { default: {} } });
    const flags = { ...NONE, network: ['web'], networkAlias: ['a'], link: ['db:d'], ip: '10.0.0.9', ip6: 'fd00::9' };
    expect(parseNetworks({ ...flags, macAddress: '02:00:00:00:00:01' })).toEqual({
      mode: 'web',
      endpoints: {
        web: {
          Aliases: ['a'],
          Links: ['db:d'],
          IPAMConfig: { IPv4Address: '10.0.0.9', IPv6Address: 'fd00::9' },
          MacAddress: '02:00:00:00:00:01',
        },
      },
    });
  });

  it('may be given several times, each in its long form', () => {
    const long = 'name=back,alias=x,alias=y,ip=10.0.0.7,mac-address=02:00:00:00:00:07,driver-opt=a=b=c,gw-priority=-1';
    expect(parseNetworks({ ...NONE, network: ['front', long] })).toEqual({
      mode: 'front',
      endpoints: {
        front: {},
        back: {
          Aliases: ['x', 'y'],
          IPAMConfig: { IPv4Address: '10.0.0.7' },
          MacAddress: '02:00:00:00:00:07',
          DriverOpts: { a: 'b=c' },
          GwPriority: -1,
        },
      },
    });
  });

  it.each([
    ['name=a,colour=red', 'invalid field colour=red'],
    ['alias=x', 'a name is missing'],
    ['name=a,alias', 'invalid field alias'],
  ])('%s is refused', (text, message) => {
    expect(() => parseNetworks({ ...NONE, network: [text] })).toThrow(message);
  });

  it('names no network twice', () => {
    expect(() => parseNetworks({ ...NONE, network: ['a', 'name=a'] })).toThrow('specified multiple times');
  });
});
