/** `caisson volume ls`. */
import type { VolumeDetails } from '../../../client/index.ts';
import { humanSize } from '../../../humanSize.ts';
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { parseFilters } from '../../filters.ts';
import { type Column, type ListFlags, type Listing, printList, showLabels } from '../../table.ts';

const SHAPE: CommandShape = {
  name: 'volume ls',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'List volumes',
  flags: [
    ['-f, --filter <name=value>', 'Only those that match (dangling, driver, label, name)', 'list'],
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['-q, --quiet', 'Only names'],
  ],
  examples: ['caisson volume ls -qf dangling=true', "caisson volume ls --format '{{.Name}} {{.Mountpoint}}'"],
};

const NAME: Column<VolumeDetails> = { title: 'VOLUME NAME', field: 'Name', value: ({ Name }) => Name };
const LINKS: Column<VolumeDetails> = {
  title: 'LINKS',
  field: 'Links',
  value: ({ UsageData }) => (UsageData ? String(UsageData.RefCount) : 'N/A'),
};
const SIZE: Column<VolumeDetails> = {
  title: 'SIZE',
  field: 'Size',
  value: ({ UsageData }) => (UsageData ? humanSize(UsageData.Size, 4) : 'N/A'),
};

/** `sizes`: what `system df -v` shows. */
export const VOLUME_LISTING: Listing<VolumeDetails> & { sizes: readonly Column<VolumeDetails>[] } = {
  columns: [{ title: 'DRIVER', field: 'Driver', value: ({ Driver }) => Driver }, NAME],
  more: [
    { title: 'SCOPE', field: 'Scope', value: ({ Scope }) => Scope },
    { title: 'MOUNTPOINT', field: 'Mountpoint', value: ({ Mountpoint }) => Mountpoint },
    { title: 'LABELS', field: 'Labels', value: ({ Labels }) => showLabels(Labels) },
    LINKS,
    SIZE,
  ],
  labels: ({ Labels }) => Labels,
  sizes: [NAME, LINKS, SIZE],
};

export default command<ListFlags & { filter: string[] }>(SHAPE, async ({ flags }) => {
  const volumes = await engine().volumes.list({ filters: parseFilters(flags.filter) });
  volumes.sort((a, b) => a.Name.localeCompare(b.Name, 'en', { numeric: true }));
  if (flags.quiet && flags.format === undefined && !flags.json) {
    for (const { Name } of volumes) process.stdout.write(`${Name}\n`);
    return 0;
  }
  await printList(volumes, VOLUME_LISTING, flags);
  return 0;
});
