/** `caisson system df`. */
import type { BuildCacheRecord, DiskUsage } from '../../../client/index.ts';
import { humanSize } from '../../../humanSize.ts';
import { type CommandShape, command } from '../../command.ts';
import { engine } from '../../connect.ts';
import { type UsageRow, usageRows } from '../../diskUsage.ts';
import { template } from '../../format.ts';
import { type Column, type ListFlags, printList, rowOf } from '../../table.ts';
import { showAge } from '../../units.ts';
import { imageListing, imageRows } from '../images.ts';
import { containerListing } from '../ps.ts';
import { VOLUME_LISTING } from '../volume/ls.ts';

const SHAPE: CommandShape = {
  name: 'system df',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Show what takes room on the disk',
  flags: [
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['-v, --verbose', 'Each image, container and volume'],
  ],
  examples: ['caisson system df', 'caisson system df -v'],
};

const COLUMNS: Column<UsageRow>[] = [
  { title: 'TYPE', field: 'Type', value: ({ Type }) => Type },
  { title: 'TOTAL', field: 'TotalCount', value: ({ TotalCount }) => TotalCount },
  { title: 'ACTIVE', field: 'Active', value: ({ Active }) => Active },
  { title: 'SIZE', field: 'Size', value: ({ Size }) => Size },
  { title: 'RECLAIMABLE', field: 'Reclaimable', value: ({ Reclaimable }) => Reclaimable },
];

const CACHE_COLUMNS: Column<BuildCacheRecord>[] = [
  { title: 'CACHE ID', field: 'ID', value: ({ ID }) => ID.slice(0, 12) },
  { title: 'CACHE TYPE', field: 'CacheType', value: ({ Type }) => Type },
  { title: 'SIZE', field: 'Size', value: ({ Size }) => humanSize(Size) },
  { title: 'CREATED', field: 'CreatedSince', value: ({ CreatedAt }) => since(CreatedAt) },
  { title: 'LAST USED', field: 'LastUsedSince', value: ({ LastUsedAt }) => (LastUsedAt ? since(LastUsedAt) : '') },
  { title: 'USAGE', field: 'UsageCount', value: ({ UsageCount }) => String(UsageCount) },
  { title: 'SHARED', field: 'Shared', value: ({ Shared }) => String(Shared) },
];

const since = (time: string): string => `${showAge((Date.now() - Date.parse(time)) / 1000)} ago`;

export default command<ListFlags & { verbose?: boolean }>(SHAPE, async ({ flags }) => {
  const usage = await engine().diskUsage();
  if (flags.verbose) await verbose(usage, flags);
  else await printList(usageRows(usage), { columns: COLUMNS }, flags);
  return 0;
});

async function verbose(usage: DiskUsage, flags: ListFlags): Promise<void> {
  const images = imageRows(usage.Images ?? []);
  const imageList = imageListing({ digests: false, trunc: true, shared: true });
  const containerList = containerListing({ size: true, trunc: true });
  const cacheList = { columns: CACHE_COLUMNS };
  const format = flags.format ?? (flags.json ? 'json' : undefined);
  if (format !== undefined && format !== 'table') {
    const all = {
      Images: images.map((item) => rowOf(item, imageList)),
      Containers: (usage.Containers ?? []).map((item) => rowOf(item, containerList)),
      Volumes: (usage.Volumes ?? []).map((item) => rowOf(item, VOLUME_LISTING)),
      BuildCache: (usage.BuildCache ?? []).map((item) => rowOf(item, cacheList)),
    };
    process.stdout.write(`${template(format)(all)}\n`);
    return;
  }
  process.stdout.write('Images space usage:\n\n');
  await printList(images, imageList, {});
  process.stdout.write('\nContainers space usage:\n\n');
  await printList(usage.Containers ?? [], containerList, {});
  process.stdout.write('\nLocal Volumes space usage:\n\n');
  await printList(usage.Volumes ?? [], { columns: VOLUME_LISTING.sizes }, {});
  const cache = usage.BuildCache ?? [];
  process.stdout.write(
    `\nBuild cache usage: ${humanSize(
      cache.reduce((total, { Size }) => total + Size, 0),
      4,
    )}\n\n`,
  );
  await printList(cache, cacheList, {});
}
