/** `caisson volume prune`. */
import { type CommandShape, command } from '../../command.ts';
import { confirm } from '../../confirm.ts';
import { engine } from '../../connect.ts';
import { parseFilters } from '../../filters.ts';
import { pruneVolumes, tellTotal } from '../../pruned.ts';

const SHAPE: CommandShape = {
  name: 'volume prune',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Remove volumes that no container has',
  flags: [
    ['-a, --all', 'Named ones too, not only anonymous ones'],
    ['--filter <name=value>', 'Only those that match (label, label!, all)', 'list'],
    ['-f, --force', 'Do not ask'],
  ],
  examples: ['caisson volume prune -f'],
};

export default command<{ all?: boolean; filter: string[]; force?: boolean }>(SHAPE, async ({ flags }) => {
  const which = flags.all ? 'all' : 'anonymous';
  await confirm(`This will remove ${which} local volumes not used by at least one container.`, flags.force);
  const filters = parseFilters(flags.filter);
  if (flags.all) filters['all'] = ['true'];
  tellTotal(await pruneVolumes(engine(), filters));
  return 0;
});
