/** `caisson history`. */
import type { HistoryItem } from '../../client/index.ts';
import { humanSize } from '../../humanSize.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { type Column, type ListFlags, printList } from '../table.ts';
import { showAge } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'history',
  usage: '[OPTIONS] IMAGE',
  takes: [1, 1],
  summary: 'Show how an image was made',
  flags: [
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['-H, --human', 'Sizes and times to be read by people', 'on'],
    ['--no-trunc', 'Nothing is shortened'],
    ['--platform <os/arch>', 'Of this platform'],
    ['-q, --quiet', 'Only ids'],
  ],
  examples: ['caisson history alpine'],
};

const CREATED_AT: Column<HistoryItem> = {
  title: 'CREATED AT',
  field: 'CreatedAt',
  value: ({ Created }) => new Date(Created * 1000).toISOString().replace('.000Z', 'Z'),
};

export default command<ListFlags & { human: boolean; platform?: string; trunc: boolean }>(
  SHAPE,
  async ({ flags, args }) => {
    const items = await engine().images.history(args[0] ?? '', { platform: flags.platform });
    const short = (text: string, length: number): string =>
      flags.trunc && text.length > length ? `${text.slice(0, length - 1)}…` : text;
    const id = ({ Id }: HistoryItem): string => (flags.trunc ? Id.replace(/^sha256:/, '').slice(0, 12) : Id);
    const columns: Column<HistoryItem>[] = [
      { title: 'IMAGE', field: 'ID', value: id },
      {
        title: 'CREATED',
        field: 'CreatedSince',
        value: (item) => (flags.human ? `${showAge(Date.now() / 1000 - item.Created)} ago` : CREATED_AT.value(item)),
      },
      {
        title: 'CREATED BY',
        field: 'CreatedBy',
        value: ({ CreatedBy }) => short(CreatedBy.replaceAll('\t', ' '), 45),
        flexible: true,
      },
      { title: 'SIZE', field: 'Size', value: ({ Size }) => (flags.human ? humanSize(Size) : String(Size)) },
      { title: 'COMMENT', field: 'Comment', value: ({ Comment }) => Comment },
    ];
    if (flags.quiet) for (const item of items) process.stdout.write(`${id(item)}\n`);
    else await printList(items, { columns, more: [CREATED_AT] }, flags);
    return 0;
  },
);
