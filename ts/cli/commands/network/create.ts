/** `caisson network create`. */
import type { NetworkCreateBody } from '../../../client/index.ts';
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { keyValues } from '../../networks.ts';
import { invalidFlag } from '../../units.ts';

const SHAPE: CommandShape = {
  name: 'network create',
  usage: '[OPTIONS] NETWORK',
  takes: [1, 1],
  summary: 'Create a network',
  flags: [
    ['--attachable', 'Kept for Docker’s sake: every network is'],
    ['--aux-address <name=address>', 'An address that no container gets', 'list'],
    ['--config-from <network>', 'Take the configuration of another network'],
    ['--config-only', 'Only a configuration, for --config-from'],
    ['-d, --driver <driver>', 'bridge, macvlan or ipvlan'],
    ['--gateway <address>', 'Gateway of a subnet', 'list'],
    ['--ingress', 'A network of a swarm'],
    ['--internal', 'Nothing leads in or out'],
    ['--ip-range <cidr>', 'Part of a subnet that containers get addresses of', 'list'],
    ['--ipam-driver <driver>', 'Driver that manages the addresses'],
    ['--ipam-opt <key=value>', 'Option of the driver of addresses', 'list'],
    ['--ipv4', 'With IPv4; --ipv4=false: without', 'on'],
    ['--ipv6', 'With IPv6'],
    ['--label <key=value>', 'Set a label', 'list'],
    ['-o, --opt <key=value>', 'Option of the driver', 'list'],
    ['--scope <scope>', 'local'],
    ['--subnet <cidr>', 'Subnet; one of each family', 'list'],
  ],
  examples: ['caisson network create web', 'caisson network create --internal --subnet 10.1.0.0/24 backend'],
};

interface CreateFlags {
  attachable?: boolean;
  auxAddress: string[];
  configFrom?: string;
  configOnly?: boolean;
  driver?: string;
  gateway: string[];
  ingress?: boolean;
  internal?: boolean;
  ipRange: string[];
  ipamDriver?: string;
  ipamOpt: string[];
  ipv4: boolean;
  ipv6?: boolean;
  label: string[];
  opt: string[];
  scope?: string;
  subnet: string[];
}

/** Several may stand in one value. */
const split = (values: readonly string[]): string[] => values.flatMap((value) => value.split(','));

const isV6 = (text: string): boolean => text.includes(':');

/** Gateways, ranges and further addresses belong to the subnet of their family. */
function ipamConfig(flags: CreateFlags): NonNullable<NetworkCreateBody['IPAM']>['Config'] {
  const parts = split(flags.subnet).map((subnet) => ({ subnet, v6: isV6(subnet) }));
  const take = (flag: string, values: string[]): Map<string, string> =>
    new Map(
      values.map((value) => {
        const owner = parts.find(({ v6 }) => v6 === isV6(value));
        if (!owner) throw invalidFlag(flag, value, 'no matching subnet');
        return [owner.subnet, value];
      }),
    );
  const gateways = take('--gateway', split(flags.gateway));
  const ranges = take('--ip-range', split(flags.ipRange));
  return parts.map(({ subnet, v6 }) => {
    const aux = flags.auxAddress.filter((pair) => isV6(pair.slice(pair.indexOf('=') + 1)) === v6);
    const [gateway, range] = [gateways.get(subnet), ranges.get(subnet)];
    return {
      Subnet: subnet,
      ...(gateway === undefined ? {} : { Gateway: gateway }),
      ...(range === undefined ? {} : { IPRange: range }),
      ...(aux.length > 0 ? { AuxiliaryAddresses: keyValues(aux) } : {}),
    };
  });
}

export default command<CreateFlags>(SHAPE, async ({ flags, args }) => {
  const { Id, Warning } = await engine().networks.create({
    Name: args[0] ?? '',
    Driver: flags.driver ?? 'bridge',
    IPAM: {
      Config: ipamConfig(flags),
      ...(flags.ipamDriver === undefined ? {} : { Driver: flags.ipamDriver }),
      ...(flags.ipamOpt.length > 0 ? { Options: keyValues(flags.ipamOpt) } : {}),
    },
    Options: keyValues(flags.opt),
    Labels: keyValues(flags.label),
    ...(flags.internal ? { Internal: true } : {}),
    ...(flags.attachable ? { Attachable: true } : {}),
    ...(flags.ipv6 ? { EnableIPv6: true } : {}),
    ...(flags.ipv4 ? {} : { EnableIPv4: false }),
    ...(flags.ingress ? { Ingress: true } : {}),
    ...(flags.scope === undefined ? {} : { Scope: flags.scope }),
    ...(flags.configOnly ? { ConfigOnly: true } : {}),
    ...(flags.configFrom === undefined ? {} : { ConfigFrom: { Network: flags.configFrom } }),
  });
  if (Warning) process.stderr.write(`WARNING: ${Warning}\n`);
  process.stdout.write(`${Id}\n`);
  return 0;
});
