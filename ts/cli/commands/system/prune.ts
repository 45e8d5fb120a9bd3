/** `caisson system prune`. */
import { type CommandShape, command } from '../../command.ts';
import { confirm } from '../../confirm.ts';
import { engine } from '../../connect.ts';
import { ExitCode } from '../../failure.ts';
import { parseFilters } from '../../filters.ts';
import { pruneContainers, pruneImages, pruneNetworks, pruneVolumes, tellTotal } from '../../pruned.ts';

const SHAPE: CommandShape = {
  name: 'system prune',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Remove all that nothing uses',
  flags: [
    ['-a, --all', 'All images that no container uses, not only those without a name'],
    ['--filter <name=value>', 'Only what matches (until, label, label!)', 'list'],
    ['-f, --force', 'Do not ask'],
    ['--volumes', 'Anonymous volumes too'],
  ],
  examples: ['caisson system prune -f', 'caisson system prune -af --filter until=24h'],
};

interface PruneFlags {
  all?: boolean;
  filter: string[];
  force?: boolean;
  volumes?: boolean;
}

export default command<PruneFlags>(SHAPE, async ({ flags }) => {
  const filters = parseFilters(flags.filter);
  if (flags.volumes && filters['until'])
    throw new ExitCode(1, 'caisson: the "until" filter is not supported with "--volumes"');
  const removed = [
    'all stopped containers',
    'all networks not used by at least one container',
    ...(flags.volumes ? ['all anonymous volumes not used by at least one container'] : []),
    flags.all ? 'all images without at least one container associated to them' : 'all dangling images',
    flags.all ? 'all build cache' : 'unused build cache',
  ];
  await confirm(`This will remove:\n${removed.map((what) => `  - ${what}`).join('\n')}\n`, flags.force);
  const client = engine();
  let bytes = await pruneContainers(client, filters);
  await pruneNetworks(client, filters);
  if (flags.volumes) bytes += await pruneVolumes(client, filters);
  bytes += await pruneImages(client, { ...filters, dangling: [String(!flags.all)] });
  const { CachesDeleted, SpaceReclaimed } = await client.pruneBuildCache({ all: flags.all === true, filters });
  if (CachesDeleted?.length) process.stdout.write(`Deleted build cache objects:\n${CachesDeleted.join('\n')}\n\n`);
  tellTotal(bytes + SpaceReclaimed);
  return 0;
});
