/** Lists of objects: as a table that fits the terminal, as JSON, or by a template. */
import { template } from './format.ts';
import type { TemplateFunction } from './template/functions.ts';

export interface Column<T> {
  title: string;
  /** Name in templates. */
  field: string;
  value(item: T): string;
  /** May be cut when the terminal is narrow. */
  flexible?: boolean;
}

export interface ListFlags {
  format?: string;
  json?: boolean;
  quiet?: boolean;
}

/** What a list shows of each item. */
export interface Listing<T> {
  columns: readonly Column<T>[];
  /** Fields that only templates and JSON show. */
  more?: readonly Column<T>[];
  /** `{{.Label "name"}}` */
  labels?(item: T): Record<string, string> | null | undefined;
}

/** Without a prototype: a field that is not here is a mistake in the template. */
export function rowOf<T>(item: T, { columns, more = [], labels }: Listing<T>): object {
  const all = [...columns, ...more].sort((a, b) => (a.field < b.field ? -1 : 1));
  return Object.assign(Object.create(null), Object.fromEntries(all.map(({ field, value }) => [field, value(item)])), {
    ...(labels && { Label: (name: unknown) => labels(item)?.[String(name)] ?? '' }),
  });
}

export async function printList<T>(items: readonly T[], listing: Listing<T>, flags: ListFlags): Promise<void> {
  const { columns, more = [], labels } = listing;
  const { format = flags.json ? 'json' : 'table' } = flags;
  const [, chosen] = /^table(.*)$/s.exec(format) ?? [];
  if (chosen === undefined) {
    const render = template(format);
    for (const item of items) process.stdout.write(`${render(rowOf(item, listing))}\n`);
  } else if (chosen.trim() === '') {
    await printTable(
      columns.map(({ title }) => title),
      items.map((item) => columns.map(({ value }) => value(item))),
      columns.map(({ flexible }) => flexible === true),
    );
  } else {
    const render = template(chosen.trimStart());
    const titles = Object.fromEntries([...columns, ...more].map(({ field, title }) => [field, title]));
    const head = { ...titles, ...(labels && { Label: titleOfLabel }) };
    await printTable(
      render(Object.assign(Object.create(null), head), HEADER_FUNCTIONS).split('\t'),
      items.map((item) => render(rowOf(item, listing)).split('\t')),
    );
  }
}

/** `a=1,b=2` */
export const showLabels = (labels: Record<string, string> | null | undefined): string =>
  Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(',');

/** `com.example.my-name`: `my name` */
const titleOfLabel = (name: unknown): string => (String(name).split('.').at(-1) ?? '').replace(/[-_]/g, ' ');

/** In the head of a table a title stands as it is. */
const same = (title: unknown): unknown => title;
const HEADER_FUNCTIONS: Readonly<Record<string, TemplateFunction>> = {
  json: same,
  split: same,
  join: same,
  title: same,
  lower: same,
  upper: same,
  truncate: same,
};

/** Columns are as wide as they must, `narrowest` at least, as docker's are; flexible ones give way when the terminal is too narrow. */
export async function printTable(
  titles: readonly string[],
  rows: readonly string[][],
  flexible: readonly boolean[] = [],
  narrowest = 10,
): Promise<void> {
  const { default: Table } = await import('cli-table3');
  const gap = 3;
  const widths = titles.map((title, i) =>
    Math.max(narrowest, Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)) + gap),
  );
  const excess =
    widths.reduce((sum, width) => sum + width, 0) - gap - (process.stdout.columns ?? Number.POSITIVE_INFINITY);
  for (let left = excess, i = 0; left > 0 && i < widths.length; i++) {
    const width = widths[i] ?? 0;
    const spare = flexible[i] ? Math.min(left, width - Math.max(12, (titles[i] ?? '').length + gap)) : 0;
    if (spare <= 0) continue;
    widths[i] = width - spare;
    left -= spare;
  }
  const none = [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
    'middle',
  ];
  const table = new Table({
    colWidths: widths,
    chars: Object.fromEntries(none.map((name) => [name, ''])),
    style: { 'padding-left': 0, 'padding-right': gap - 2, head: [], border: [] },
  });
  table.push([...titles], ...rows.map((row) => [...row]));
  process.stdout.write(`${table.toString().replace(/[ ]+$/gm, '')}\n`);
}
