/** `caisson image prune`. */
import { type CommandShape, command } from '../../command.ts';
import { confirm } from '../../confirm.ts';
import { engine } from '../../connect.ts';
import { parseFilters } from '../../filters.ts';
import { pruneImages, tellTotal } from '../../pruned.ts';

const SHAPE: CommandShape = {
  name: 'image prune',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Remove images that nothing uses',
  flags: [
    ['-a, --all', 'All that no container uses, not only those without a name'],
    ['--filter <name=value>', 'Only those that match (until, label, label!)', 'list'],
    ['-f, --force', 'Do not ask'],
  ],
  examples: ['caisson image prune -af --filter until=240h'],
};

export default command<{ all?: boolean; filter: string[]; force?: boolean }>(SHAPE, async ({ flags }) => {
  const which = flags.all ? 'images without at least one container associated to them' : 'dangling images';
  await confirm(`This will remove all ${which}.`, flags.force);
  const filters = { ...parseFilters(flags.filter), dangling: [String(!flags.all)] };
  tellTotal(await pruneImages(engine(), filters));
  return 0;
});
