/** Lists of objects: as a table that fits the terminal, as JSON, or by a template. */
import { CaissonError } from '../client/index.ts';
import { template } from './format.ts';

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

/** `fields`: what templates and JSON see of an item. */
export async function printList<T>(
  items: readonly T[],
  columns: readonly Column<T>[],
  flags: ListFlags,
  more: readonly Column<T>[] = [],
): Promise<void> {
  const fields = (item: T): Record<string, string> =>
    Object.fromEntries([...columns, ...more].map(({ field, value }) => [field, value(item)]));
  const { format = flags.json ? 'json' : 'table' } = flags;
  const [, chosen] = /^table(?:\s+(.*))?$/s.exec(format) ?? [];
  if (!format.startsWith('table')) {
    const render = template(format);
    for (const item of items) process.stdout.write(`${render(fields(item))}\n`);
    return;
  }
  const shown = chosen === undefined ? columns : chosenColumns(chosen, [...columns, ...more]);
  await printTable(
    shown.map(({ title }) => title),
    items.map((item) => shown.map(({ value }) => value(item))),
    shown.map(({ flexible }) => flexible === true),
  );
}

/** `table {{.Names}}\t{{.Image}}` */
function chosenColumns<T>(format: string, columns: readonly Column<T>[]): Column<T>[] {
  return format.split(/\\t|\t/).map((cell) => {
    const names = [...cell.matchAll(/\.(\w+)/g)].map(([, name]) => name);
    const known = names.map((name) => columns.find(({ field }) => field === name));
    const [first] = known;
    if (first === undefined || known.includes(undefined))
      throw new CaissonError('InvalidParameter', `template: unknown field in ${cell}`, {
        hint: `fields are ${columns.map(({ field }) => field).join(', ')}`,
      });
    const render = template(cell);
    const value = (item: T): string => render(Object.fromEntries(columns.map((c) => [c.field, c.value(item)])));
    return { ...first, value };
  });
}

/** Columns are as wide as they must; flexible ones give way when the terminal is too narrow. */
export async function printTable(
  titles: readonly string[],
  rows: readonly string[][],
  flexible: readonly boolean[] = [],
): Promise<void> {
  const { default: Table } = await import('cli-table3');
  const gap = 3;
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)) + gap);
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
