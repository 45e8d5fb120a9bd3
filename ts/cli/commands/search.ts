/** `caisson search`. */
import type { SearchResult } from '../../client/index.ts';
import { type CommandShape, command } from '../command.ts';
import { engineOrStart } from '../connect.ts';
import { credentialsOfServer } from '../credentials.ts';
import { ExitCode } from '../failure.ts';
import { parseFilters } from '../filters.ts';
import { type Column, type ListFlags, printList } from '../table.ts';

const SHAPE: CommandShape = {
  name: 'search',
  usage: '[OPTIONS] TERM',
  takes: [1, 1],
  summary: 'Search Docker Hub for images',
  flags: [
    ['-f, --filter <filter>', 'stars=N, is-official=true', 'list'],
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['--limit <number>', 'Results at most (25 unless given, up to 100)'],
    ['--no-trunc', 'Nothing is shortened'],
  ],
  examples: ['caisson search --filter is-official=true nginx'],
};

interface SearchFlags extends ListFlags {
  filter: string[];
  limit?: string;
  trunc: boolean;
}

export default command<SearchFlags>(SHAPE, async ({ flags, args }) => {
  const [term = ''] = args;
  if (flags.limit !== undefined && !/^\d{1,3}$/.test(flags.limit))
    throw new ExitCode(1, `caisson: invalid argument "${flags.limit}" for "--limit" flag`);
  const engine = await engineOrStart();
  const host = /^(localhost|[^/]*[.:][^/]*)\//.exec(term)?.[1] ?? 'docker.io';
  const results = await engine.images.search(term, {
    filters: parseFilters(flags.filter),
    credentials: credentialsOfServer(host),
    ...(flags.limit !== undefined && { limit: Number(flags.limit) }),
  });
  const short = (text: string): string => (flags.trunc && text.length > 45 ? `${text.slice(0, 44)}…` : text);
  const columns: Column<SearchResult>[] = [
    { title: 'NAME', field: 'Name', value: ({ name }) => name },
    { title: 'DESCRIPTION', field: 'Description', value: ({ description }) => short(description), flexible: true },
    { title: 'STARS', field: 'StarCount', value: ({ star_count }) => String(star_count) },
    { title: 'OFFICIAL', field: 'IsOfficial', value: ({ is_official }) => (is_official ? '[OK]' : '') },
  ];
  await printList(results, { columns }, flags);
  return 0;
});
