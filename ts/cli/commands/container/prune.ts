/** `caisson container prune`. */
import { type CommandShape, command } from '../../command.ts';
import { confirm } from '../../confirm.ts';
import { engine } from '../../connect.ts';
import { parseFilters } from '../../filters.ts';
import { pruneContainers, tellTotal } from '../../pruned.ts';

const SHAPE: CommandShape = {
  name: 'container prune',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Remove all containers that do not run',
  flags: [
    ['--filter <name=value>', 'Only those that match (until, label, label!)', 'list'],
    ['-f, --force', 'Do not ask'],
  ],
  examples: ['caisson container prune -f --filter until=24h'],
};

export default command<{ filter: string[]; force?: boolean }>(SHAPE, async ({ flags }) => {
  await confirm('This will remove all stopped containers.', flags.force);
  tellTotal(await pruneContainers(engine(), parseFilters(flags.filter)));
  return 0;
});
