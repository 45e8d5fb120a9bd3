/** `caisson history`. */
import type { HistoryItem } from '../../client/index.ts';
import { type CommandShape, parseArguments, requireArguments } from '../arguments.ts';
import { engine } from '../connect.ts';
import { type Column, type ListFlags, printList } from '../table.ts';
import { showAge, showSize } from '../units.ts';

const SHAPE: CommandShape = {
  name: 'history',
  usage: '[OPTIONS] IMAGE',
  summary: 'Show how an image was made',
  flags: [
    ['--format <format>', 'table, json or a template'],
    ['--json', 'As --format json'],
    ['--no-trunc', 'Nothing is shortened'],
    ['-q, --quiet', 'Only ids'],
  ],
  examples: ['caisson history alpine'],
  usageCode: 1,
};

export async function run(argv: string[]): Promise<number> {
  const { flags, args } = parseArguments<ListFlags & { trunc: boolean }>(SHAPE, argv);
  requireArguments(SHAPE, args, 1, 1);
  const items = await engine().images.history(args[0] ?? '');
  const short = (text: string, length: number): string =>
    flags.trunc && text.length > length ? `${text.slice(0, length - 1)}…` : text;
  const id = ({ Id }: HistoryItem): string => (flags.trunc ? Id.replace(/^sha256:/, '').slice(0, 12) : Id);
  const columns: Column<HistoryItem>[] = [
    { title: 'IMAGE', field: 'ID', value: id },
    { title: 'CREATED', field: 'CreatedSince', value: ({ Created }) => `${showAge(Date.now() / 1000 - Created)} ago` },
    {
      title: 'CREATED BY',
      field: 'CreatedBy',
      value: ({ CreatedBy }) => short(CreatedBy.replaceAll('\t', ' '), 45),
      flexible: true,
    },
    { title: 'SIZE', field: 'Size', value: ({ Size }) => showSize(Size) },
    { title: 'COMMENT', field: 'Comment', value: ({ Comment }) => Comment },
  ];
  if (flags.quiet) for (const item of items) process.stdout.write(`${id(item)}\n`);
  else await printList(items, columns, flags);
  return 0;
}
