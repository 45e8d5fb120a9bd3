/** `caisson network prune`. */
import { type CommandShape, command } from '../../command.ts';
import { confirm } from '../../confirm.ts';
import { engine } from '../../connect.ts';
import { parseFilters } from '../../filters.ts';
import { pruneNetworks } from '../../pruned.ts';

const SHAPE: CommandShape = {
  name: 'network prune',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Remove networks that no container uses',
  flags: [
    ['--filter <name=value>', 'Only those that match (until, label, label!)', 'list'],
    ['-f, --force', 'Do not ask'],
  ],
  examples: ['caisson network prune -f --filter until=24h'],
};

export default command<{ filter: string[]; force?: boolean }>(SHAPE, async ({ flags }) => {
  await confirm('This will remove all custom networks not used by at least one container.', flags.force);
  await pruneNetworks(engine(), parseFilters(flags.filter));
  return 0;
});
