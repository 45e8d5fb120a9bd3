/** `caisson network VERB`. */
import type { NetworkCreateBody, NetworkDetails } from '../../client/index.ts';
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { each } from '../each.ts';
import { ExitCode, reportFailure } from '../failure.ts';
import { parseFilters } from '../filters.ts';
import { template } from '../format.ts';
import { endpointConfig, keyValues } from '../networks.ts';
import { type Column, type ListFlags, printList } from '../table.ts';
import { invalidFlag } from '../units.ts';

interface Verb {
  shape: CommandShape;
  run(argv: string[]): Promise<number>;
}

const CREATE: CommandShape = {
  name: 'network create',
  usage: '[OPTIONS] NETWORK',
  summary: 'Create a network',
  flags: [
    ['--attachable', 'Kept for Docker’s sake: every network is'],
    ['--aux-address <name=address>', 'An address that no container gets', 'list'],
    ['-d, --driver <driver>', 'bridge, macvlan or ipvlan'],
    ['--gateway <address>', 'Gateway of a subnet', 'list'],
    ['--internal', 'Nothing leads in or out'],
    ['--ip-range <cidr>', 'Part of a subnet that containers get addresses of', 'list'],
    ['--ipv4', 'With IPv4; --ipv4=false: without'],
    ['--ipv6', 'With IPv6'],
    ['--label <key=value>', 'Set a label', 'list'],
    ['-o, --opt <key=value>', 'Option of the driver', 'list'],
    ['--subnet <cidr>', 'Subnet; one of each family', 'list'],
  ],
  examples: ['caisson network create web', 'caisson network create --internal --subnet 10.1.0.0/24 backend'],
  usageCode: 1,
};

interface CreateFlags {
  attachable?: boolean;
  auxAddress: string[];
  driver?: string;
  gateway: string[];
  internal?: boolean;
  ipRange: string[];
  ipv4?: boolean;
  ipv6?: boolean;
  label: string[];
  opt: string[];
  subnet: string[];
}

const isV6 = (text: string): boolean => text.includes(':');

/** Gateways, ranges and further addresses belong to the subnet of their family. */
function ipamConfig(flags: CreateFlags): NonNullable<NetworkCreateBody['IPAM']>['Config'] {
  const parts = flags.subnet.map((subnet) => ({ subnet, v6: isV6(subnet) }));
  const take = (flag: string, values: string[]): Map<string, string> =>
    new Map(
      values.map((value) => {
        const owner = parts.find(({ v6 }) => v6 === isV6(value));
        if (!owner) throw invalidFlag(flag, value, 'no matching subnet');
        return [owner.subnet, value];
      }),
    );
  const gateways = take('--gateway', flags.gateway);
  const ranges = take('--ip-range', flags.ipRange);
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

async function create(argv: string[]): Promise<number> {
  const ipv4 = argv.some((arg) => arg === '--ipv4=false' || arg === '--no-ipv4') ? false : undefined;
  const { flags, args } = parseArguments<CreateFlags>(CREATE, argv);
  requireArguments(CREATE, args, 1, 1);
  const { Id, Warning } = await engine().networks.create({
    Name: args[0] ?? '',
    Driver: flags.driver ?? 'bridge',
    IPAM: { Config: ipamConfig(flags) },
    Options: keyValues(flags.opt),
    Labels: keyValues(flags.label),
    ...(flags.internal ? { Internal: true } : {}),
    ...(flags.attachable ? { Attachable: true } : {}),
    ...(flags.ipv6 ? { EnableIPv6: true } : {}),
    ...(ipv4 === undefined ? {} : { EnableIPv4: ipv4 }),
  });
  if (Warning) process.stderr.write(`WARNING: ${Warning}\n`);
  process.stdout.write(`${Id}\n`);
  return 0;
}

const LS: CommandShape = {
  name: 'network ls',
  usage: '[OPTIONS]',
  summary: 'List networks',
  flags: [
    ['-f, --filter <name=value>', 'Only those that match', 'list'],
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['--no-trunc', 'Nothing is shortened'],
    ['-q, --quiet', 'Only ids'],
  ],
  examples: ['caisson network ls -f label=team=web'],
  usageCode: 1,
};

async function ls(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<ListFlags & { filter: string[]; trunc: boolean }>(LS, argv);
  requireArguments(LS, args, 0, 0);
  const networks = await engine().networks.list({ filters: parseFilters(flags.filter) });
  networks.sort((a, b) => a.Name.localeCompare(b.Name, 'en', { numeric: true }));
  const short = ({ Id }: NetworkDetails): string => (flags.trunc ? Id.slice(0, 12) : Id);
  if (flags.quiet && flags.format === undefined && !flags.json) {
    for (const network of networks) process.stdout.write(`${short(network)}\n`);
    return 0;
  }
  const columns: Column<NetworkDetails>[] = [
    { title: 'NETWORK ID', field: 'ID', value: short },
    { title: 'NAME', field: 'Name', value: ({ Name }) => Name, flexible: true },
    { title: 'DRIVER', field: 'Driver', value: ({ Driver }) => Driver },
    { title: 'SCOPE', field: 'Scope', value: ({ Scope }) => Scope },
  ];
  const labels = ({ Labels }: NetworkDetails): string =>
    Object.entries(Labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(',');
  await printList(networks, columns, flags, [
    { title: 'IPV6', field: 'IPv6', value: ({ EnableIPv6 }) => String(EnableIPv6) },
    { title: 'INTERNAL', field: 'Internal', value: ({ Internal }) => String(Internal) },
    { title: 'CREATED AT', field: 'CreatedAt', value: ({ Created }) => Created },
    { title: 'LABELS', field: 'Labels', value: labels },
  ]);
  return 0;
}

const INSPECT: CommandShape = {
  name: 'network inspect',
  usage: '[OPTIONS] NETWORK [NETWORK...]',
  summary: 'Show all about networks',
  flags: [['-f, --format <format>', 'json or a template']],
  examples: ['caisson network inspect web'],
  usageCode: 1,
};

async function inspect(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ format?: string }>(INSPECT, argv);
  requireArguments(INSPECT, args, 1);
  const render = flags.format === undefined ? undefined : template(flags.format);
  const results = await Promise.allSettled(args.map((name) => engine().networks.inspect(name)));
  const found = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  if (render === undefined) process.stdout.write(`${JSON.stringify(found, null, 4)}\n`);
  else for (const network of found) process.stdout.write(`${render(network)}\n`);
  let code = 0;
  for (const result of results) if (result.status === 'rejected') code = reportFailure(result.reason);
  return code;
}

const RM: CommandShape = {
  name: 'network rm',
  usage: '[OPTIONS] NETWORK [NETWORK...]',
  summary: 'Remove networks',
  flags: [['-f, --force', 'One that is not there is no failure']],
  examples: ['caisson network rm web'],
  usageCode: 1,
};

async function rm(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ force?: boolean }>(RM, argv);
  requireArguments(RM, args, 1);
  return each(args, async (name) => {
    try {
      await engine().networks.remove(name);
    } catch (error) {
      if (flags.force && (error as { kind?: string }).kind === 'NotFound') return undefined;
      throw error;
    }
    return name;
  });
}

const CONNECT: CommandShape = {
  name: 'network connect',
  usage: '[OPTIONS] NETWORK CONTAINER',
  summary: 'Let a container join a network',
  flags: [
    ['--alias <name>', 'Further name in the network', 'list'],
    ['--driver-opt <key=value>', 'Option of the driver', 'list'],
    ['--gw-priority <n>', 'The highest of a container’s networks has its default route'],
    ['--ip <address>', 'IPv4 address'],
    ['--ip6 <address>', 'IPv6 address'],
    ['--link <container:alias>', 'Know another container by a name of one’s own', 'list'],
    ['--link-local-ip <address>', 'Link-local address', 'list'],
  ],
  examples: ['caisson network connect --alias db backend postgres'],
  usageCode: 1,
};

interface ConnectFlags {
  alias: string[];
  driverOpt: string[];
  gwPriority?: string;
  ip?: string;
  ip6?: string;
  link: string[];
  linkLocalIp: string[];
}

async function connect(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<ConnectFlags>(CONNECT, argv);
  requireArguments(CONNECT, args, 2, 2);
  await engine().networks.connect(args[0] ?? '', args[1] ?? '', endpointConfig(flags));
  return 0;
}

const DISCONNECT: CommandShape = {
  name: 'network disconnect',
  usage: '[OPTIONS] NETWORK CONTAINER',
  summary: 'Let a container leave a network',
  flags: [['-f, --force', 'Also when the container has gone']],
  examples: ['caisson network disconnect backend postgres'],
  usageCode: 1,
};

async function disconnect(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ force?: boolean }>(DISCONNECT, argv);
  requireArguments(DISCONNECT, args, 2, 2);
  await engine().networks.disconnect(args[0] ?? '', args[1] ?? '', { force: flags.force === true });
  return 0;
}

const PRUNE: CommandShape = {
  name: 'network prune',
  usage: '[OPTIONS]',
  summary: 'Remove networks that no container runs on',
  flags: [
    ['--filter <name=value>', 'Only those that match (until, label)', 'list'],
    ['-f, --force', 'Kept for Docker’s sake: nothing is asked'],
  ],
  examples: ['caisson network prune --filter until=24h'],
  usageCode: 1,
};

async function prune(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<{ filter: string[] }>(PRUNE, argv);
  requireArguments(PRUNE, args, 0, 0);
  const removed = await engine().networks.prune({ filters: parseFilters(flags.filter) });
  if (removed.length > 0) process.stdout.write(`Deleted Networks:\n${removed.join('\n')}\n`);
  return 0;
}

const VERBS: Record<string, Verb> = {
  create: { shape: CREATE, run: create },
  ls: { shape: LS, run: ls },
  inspect: { shape: INSPECT, run: inspect },
  rm: { shape: RM, run: rm },
  connect: { shape: CONNECT, run: connect },
  disconnect: { shape: DISCONNECT, run: disconnect },
  prune: { shape: PRUNE, run: prune },
};

const ALIASES: Record<string, string> = { list: 'ls', remove: 'rm' };

export async function run(argv: string[]): Promise<number> {
  const [name = '', ...rest] = argv;
  const verb = VERBS[ALIASES[name] ?? name];
  if (verb) return verb.run(rest);
  const lines = Object.entries(VERBS).map(([key, { shape }]) => `  ${key.padEnd(11)} ${shape.summary}`);
  const usage = `Usage:  caisson network COMMAND\n\nCommands:\n${lines.join('\n')}\n`;
  if (name === '' || name === '--help' || name === 'help') {
    process.stdout.write(usage);
    return 0;
  }
  throw new ExitCode(1, `caisson: unknown command: caisson network ${name}\n\n${usage}`);
}
