/** `caisson events`. */
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { parseFilters } from '../filters.ts';
import { template } from '../format.ts';
import { timestamp } from '../time.ts';

const SHAPE: CommandShape = {
  name: 'events',
  usage: '[OPTIONS]',
  takes: [0, 0],
  summary: 'Show what happens in the engine',
  flags: [
    ['-f, --filter <name=value>', 'Only those that match', 'list'],
    ['--format <format>', 'json or a template'],
    ['--json', 'As --format json'],
    ['--since <time>', 'From a time or an age on'],
    ['--until <time>', 'Up to a time or an age'],
  ],
  examples: ['caisson events --since 10m', "caisson events -f type=container --format '{{.Action}} {{.Actor.ID}}'"],
};

interface EventsFlags {
  filter: string[];
  format?: string;
  json?: boolean;
  since?: string;
  until?: string;
}

export default command<EventsFlags>(SHAPE, async ({ flags }) => {
  const { format = flags.json ? 'json' : undefined, since, until } = flags;
  const render = format === undefined ? undefined : template(format);
  const events = engine().events({
    filters: parseFilters(flags.filter),
    ...(since !== undefined && { since: timestamp(since) }),
    ...(until !== undefined && { until: timestamp(until) }),
  });
  for await (const event of events) {
    const { Type, Action, Actor, timeNano } = event;
    const attributes = Object.entries(Actor.Attributes ?? {}).map(([key, value]) => `${key}=${value}`);
    const shown = `${new Date(timeNano / 1e6).toISOString()} ${Type} ${Action} ${Actor.ID}`;
    const text = render?.(event) ?? (attributes.length > 0 ? `${shown} (${attributes.join(', ')})` : shown);
    process.stdout.write(`${text}\n`);
  }
  return 0;
});
