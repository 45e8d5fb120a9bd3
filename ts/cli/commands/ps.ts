/** `caisson ps`. */
import type { ContainerSummary } from '../../client/index.ts';
import { humanSize } from '../../humanSize.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { parseFilters } from '../filters.ts';
import { type Column, type ListFlags, type Listing, printList, showLabels } from '../table.ts';
import { parseInteger, showAge, showTime } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'ps',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'List containers',
  flags: [
    ['-a, --all', 'Stopped ones too'],
    ['-f, --filter <name=value>', 'Only those that match', 'list'],
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['-n, --last <n>', 'The n that were created last'],
    ['-l, --latest', 'The one that was created last'],
    ['--no-trunc', 'Nothing is shortened'],
    ['-q, --quiet', 'Only ids'],
    ['-s, --size', 'Show sizes'],
  ],
  examples: ['caisson ps -a', "caisson ps --format '{{.Names}}: {{.Status}}'", 'caisson ps -qf status=exited'],
};

interface PsFlags extends ListFlags {
  all?: boolean;
  filter: string[];
  last?: string;
  latest?: boolean;
  trunc: boolean;
  size?: boolean;
}

export default command<PsFlags>(SHAPE, async ({ flags }) => {
  const caisson = engine();
  const limit = flags.latest ? 1 : flags.last === undefined ? 0 : parseInteger(flags.last, '-n, --last');
  const size = flags.size === true || /\.Size\b/.test(flags.format ?? '');
  const list = await caisson.containers.list({
    all: flags.all === true || limit > 0,
    ...(limit > 0 && { limit }),
    ...(size && { size }),
    filters: parseFilters(flags.filter),
  });
  if (flags.quiet && flags.format === undefined && !flags.json) {
    for (const { Id } of list) process.stdout.write(`${flags.trunc ? Id.slice(0, 12) : Id}\n`);
    return 0;
  }
  const isPublished = list.some(({ Ports }) => Ports?.some(({ PublicPort }) => PublicPort !== undefined));
  const backend = isPublished ? (await caisson.info()).FirewallBackend : undefined;
  const isClosed = backend?.Info?.some(([name]) => name === 'ClosedBy') === true;
  const listing = containerListing({ size: flags.size === true, trunc: flags.trunc });
  const reach = reachColumn(isClosed);
  const shown = isPublished ? { columns: [...listing.columns, reach] } : { more: [...(listing.more ?? []), reach] };
  await printList(list, { ...listing, ...shown }, flags);
  return 0;
});

export function containerListing({ size, trunc }: { size: boolean; trunc: boolean }): Listing<ContainerSummary> {
  const columns = psColumns(trunc);
  const labels = ({ Labels }: ContainerSummary): ContainerSummary['Labels'] => Labels;
  return size ? { columns: [...columns, SIZE], more: MORE, labels } : { columns, more: [SIZE, ...MORE], labels };
}

const psColumns = (trunc: boolean): Column<ContainerSummary>[] => [
  { title: 'CONTAINER ID', field: 'ID', value: ({ Id }) => (trunc ? Id.slice(0, 12) : Id) },
  { title: 'IMAGE', field: 'Image', value: ({ Image }) => Image, flexible: true },
  {
    title: 'COMMAND',
    field: 'Command',
    value: ({ Command }) => `"${trunc && Command.length > 20 ? `${Command.slice(0, 19)}…` : Command}"`,
  },
  { title: 'CREATED', field: 'RunningFor', value: ({ Created }) => `${showAge(Date.now() / 1000 - Created)} ago` },
  { title: 'STATUS', field: 'Status', value: ({ Status }) => Status },
  { title: 'PORTS', field: 'Ports', value: ({ Ports }) => showPorts(Ports ?? []), flexible: true },
  { title: 'NAMES', field: 'Names', value: ({ Names }) => Names.map((name) => name.replace(/^\//, '')).join(',') },
];

/** `isClosed`: the host drops what comes for published ports from elsewhere. */
const reachColumn = (isClosed: boolean): Column<ContainerSummary> => ({
  title: 'REACHABLE FROM',
  field: 'ReachableFrom',
  value: ({ Ports }) => showReach(Ports ?? [], isClosed),
});

const SIZE: Column<ContainerSummary> = {
  title: 'SIZE',
  field: 'Size',
  value: ({ SizeRw = 0, SizeRootFs = 0 }) =>
    SizeRootFs > 0 ? `${humanSize(SizeRw)} (virtual ${humanSize(SizeRootFs)})` : humanSize(SizeRw),
};

const MORE: Column<ContainerSummary>[] = [
  { title: 'STATE', field: 'State', value: ({ State }) => State },
  { title: 'CREATED AT', field: 'CreatedAt', value: ({ Created }) => showTime(Created * 1000) },
  { title: 'LABELS', field: 'Labels', value: ({ Labels }) => showLabels(Labels) },
  {
    title: 'NETWORKS',
    field: 'Networks',
    value: ({ NetworkSettings }) => Object.keys(NetworkSettings?.Networks ?? {}).join(','),
  },
  {
    title: 'LOCAL VOLUMES',
    field: 'LocalVolumes',
    value: ({ Mounts }) => String((Mounts ?? []).filter(({ Driver }) => Driver === 'local').length),
  },
  {
    title: 'MOUNTS',
    field: 'Mounts',
    value: ({ Mounts }) => (Mounts ?? []).map(({ Name, Source }) => Name || Source).join(','),
  },
];

export function showPorts(ports: NonNullable<ContainerSummary['Ports']>): string {
  return [...ports]
    .sort((a, b) => a.PrivatePort - b.PrivatePort || a.Type.localeCompare(b.Type))
    .map(({ IP = '', PublicPort, PrivatePort, Type }) => {
      if (PublicPort === undefined) return `${PrivatePort}/${Type}`;
      return `${IP.includes(':') ? `[${IP}]` : IP}:${PublicPort}->${PrivatePort}/${Type}`;
    })
    .join(', ');
}

/** Who reaches published ports: `LAN`, `loopback` or `blocked by host firewall`, by port where they differ. */
export function showReach(ports: NonNullable<ContainerSummary['Ports']>, isClosed: boolean): string {
  const reach = new Map<number, string>();
  for (const { IP = '', PublicPort: port } of [...ports].sort((a, b) => a.PrivatePort - b.PrivatePort)) {
    if (port === undefined) continue;
    const isLocal = IP.startsWith('127.') || IP === '::1';
    if (isLocal && reach.has(port)) continue;
    reach.set(port, isLocal ? 'loopback' : isClosed ? 'blocked by host firewall' : 'LAN');
  }
  const kinds = new Set(reach.values());
  if (kinds.size < 2) return [...kinds].join('');
  return [...reach].map(([port, from]) => `${port}: ${from}`).join(', ');
}
