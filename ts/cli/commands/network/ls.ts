/** `caisson network ls`. */
import type { NetworkDetails } from '../../../client/index.ts';
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { parseFilters } from '../../filters.ts';
import { type Column, type ListFlags, printList, showLabels } from '../../table.ts';

const SHAPE: CommandShape = {
  name: 'network ls',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'List networks',
  flags: [
    ['-f, --filter <name=value>', 'Only those that match', 'list'],
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['--no-trunc', 'Nothing is shortened'],
    ['-q, --quiet', 'Only ids'],
  ],
  examples: ['caisson network ls -f label=team=web'],
};

export default command<ListFlags & { filter: string[]; trunc: boolean }>(SHAPE, async ({ flags }) => {
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
  const more: Column<NetworkDetails>[] = [
    { title: 'IPV4', field: 'IPv4', value: ({ EnableIPv4 }) => String(EnableIPv4) },
    { title: 'IPV6', field: 'IPv6', value: ({ EnableIPv6 }) => String(EnableIPv6) },
    { title: 'INTERNAL', field: 'Internal', value: ({ Internal }) => String(Internal) },
    {
      title: 'CREATED AT',
      field: 'CreatedAt',
      value: ({ Created }) => Created.replace('T', ' ').replace('Z', ' +0000 UTC'),
    },
    { title: 'LABELS', field: 'Labels', value: ({ Labels }) => showLabels(Labels) },
  ];
  await printList(networks, { columns, more, labels: ({ Labels }) => Labels }, flags);
  return 0;
});
