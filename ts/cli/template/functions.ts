/** The functions of Go's templates, and those that docker adds: json, split, join, title, lower, upper, pad, truncate. */
import { quote, show, sprintf } from './show.ts';

/** What a template may call: its arguments are evaluated. */
export type TemplateFunction = (...values: unknown[]) => unknown;

/** What Go takes for false: nothing, 0, an empty text, list or map. */
export function isTrue(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === 0 || value === '') return false;
  if (Array.isArray(value)) return value.length > 0;
  return typeof value === 'object' ? Object.keys(value).length > 0 : true;
}

function length(value: unknown): number {
  if (typeof value === 'string') return Buffer.byteLength(value);
  if (Array.isArray(value)) return value.length;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length;
  throw new Error(`error calling len: len of type ${value === undefined || value === null ? 'nil' : typeof value}`);
}

function index(value: unknown, key: unknown): unknown {
  if (Array.isArray(value) || typeof value === 'string') {
    if (typeof key !== 'number')
      throw new Error(`error calling index: cannot index slice/array with type ${typeof key}`);
    if (key < 0 || key >= value.length) throw new Error(`error calling index: index out of range: ${key}`);
    return typeof value === 'string' ? Buffer.from(value)[key] : value[key];
  }
  if (typeof value === 'object' && value !== null)
    return Object.hasOwn(value, String(key)) ? (value as Record<string, unknown>)[String(key)] : undefined;
  throw new Error('error calling index: index of untyped nil');
}

function compare(name: string, a: unknown, b: unknown): number {
  if (typeof a !== typeof b || (typeof a !== 'number' && typeof a !== 'string'))
    throw new Error(`error calling ${name}: incompatible types for comparison`);
  return a < (b as typeof a) ? -1 : a === b ? 0 : 1;
}

function equal(a: unknown, others: unknown[]): boolean {
  if (others.length === 0) throw new Error('error calling eq: missing argument for comparison');
  return others.some((other) => {
    if (a === null || a === undefined || other === null || other === undefined)
      return (a ?? undefined) === (other ?? undefined);
    if (typeof a !== typeof other) throw new Error('error calling eq: incompatible types for comparison');
    return a === other;
  });
}

const text = (value: unknown): string => (typeof value === 'string' ? value : show(value));

/** Between two that are no texts stands a space. */
const print = (values: unknown[]): string =>
  values
    .map(
      (value, i) => (i > 0 && typeof value !== 'string' && typeof values[i - 1] !== 'string' ? ' ' : '') + show(value),
    )
    .join('');

const html = (value: string): string =>
  value.replace(
    /[<>&"'\0]/g,
    (c) => ({ '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&#34;', "'": '&#39;' })[c] ?? '\uFFFD',
  );

export const FUNCTIONS: Readonly<Record<string, TemplateFunction>> = {
  not: (value) => !isTrue(value),
  len: length,
  index: (value, ...keys) => keys.reduce(index, value),
  slice: (value, from = 0, to) =>
    typeof value === 'string' || Array.isArray(value)
      ? value.slice(Number(from), to === undefined ? undefined : Number(to))
      : value,
  print: (...values) => print(values),
  printf: (format, ...values) => sprintf(text(format), values),
  println: (...values) => `${values.map(show).join(' ')}\n`,
  html: (...values) => html(print(values)),
  urlquery: (...values) => encodeURIComponent(print(values)).replaceAll('%20', '+'),
  eq: (value, ...others) => equal(value, others),
  ne: (a, b) => !equal(a, [b]),
  lt: (a, b) => compare('lt', a, b) < 0,
  le: (a, b) => compare('le', a, b) <= 0,
  gt: (a, b) => compare('gt', a, b) > 0,
  ge: (a, b) => compare('ge', a, b) >= 0,
  json: (value) => JSON.stringify(value ?? null),
  split: (value, separator) => text(value).split(text(separator)),
  join: (values, separator) => (Array.isArray(values) ? values.map(text).join(text(separator)) : text(values)),
  title: (value) => text(value).replace(/(?<![\p{L}\p{N}_'])\p{L}/gu, (letter) => letter.toUpperCase()),
  lower: (value) => text(value).toLowerCase(),
  upper: (value) => text(value).toUpperCase(),
  pad: (value, before, after) =>
    text(value) === '' ? '' : ' '.repeat(Number(before)) + text(value) + ' '.repeat(Number(after)),
  truncate: (value, most) => [...text(value)].slice(0, Number(most)).join(''),
  js: (value) => quote(text(value)).slice(1, -1),
};
