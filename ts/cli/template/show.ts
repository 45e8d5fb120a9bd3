/** Values as Go prints them: `%v`, and what a template writes of one. */

const sortedEntries = (value: object): [string, unknown][] =>
  Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));

export function show(value: unknown): string {
  if (value === undefined) return '<no value>';
  if (value === null) return '<nil>';
  if (Array.isArray(value)) return `[${value.map(show).join(' ')}]`;
  if (typeof value === 'object')
    return `map[${sortedEntries(value)
      .map(([key, item]) => `${key}:${show(item)}`)
      .join(' ')}]`;
  return String(value);
}

export const quote = (text: string): string => JSON.stringify(text);

/** `printf` of Go for the verbs that templates use: %s %v %d %q %t %x %X %o %b %c %f %e %g %T %%, with flags and widths. */
export function sprintf(format: string, values: readonly unknown[]): string {
  let next = 0;
  const take = (): unknown => (next < values.length ? values[next++] : MISSING);
  const text = format.replace(
    /%([-+# 0]*)(\d+|\*)?(?:\.(\d+|\*)?)?([a-zA-Z%])/g,
    (all, flags: string, width?: string, precision?: string, verb: string = '') => {
      if (verb === '%') return '%';
      const wide = width === '*' ? Number(take()) : Number(width ?? 0);
      const exact = /\./.test(all) ? (precision === '*' ? Number(take()) : Number(precision ?? 0)) : undefined;
      const value = take();
      if (value === MISSING) return `%!${verb}(MISSING)`;
      return pad(convert(verb, value, exact, flags), wide, flags, typeof value === 'number');
    },
  );
  const extra = values.slice(next);
  return extra.length === 0
    ? text
    : `${text}%!(EXTRA ${extra.map((value) => `${typeOf(value)}=${show(value)}`).join(', ')})`;
}

const MISSING = Symbol('missing');

const typeOf = (value: unknown): string =>
  typeof value === 'string'
    ? 'string'
    : typeof value === 'boolean'
      ? 'bool'
      : typeof value === 'number'
        ? Number.isInteger(value)
          ? 'int'
          : 'float64'
        : Array.isArray(value)
          ? '[]interface {}'
          : value === null || value === undefined
            ? '<nil>'
            : 'map[string]interface {}';

const INTEGERS: Record<string, number> = { d: 10, x: 16, X: 16, o: 8, b: 2 };

function convert(verb: string, value: unknown, precision: number | undefined, flags: string): string {
  const wrong = `%!${verb}(${typeOf(value)}=${show(value)})`;
  const plus = (text: string): string => (flags.includes('+') && !text.startsWith('-') ? `+${text}` : text);
  const base = INTEGERS[verb];
  if (verb === 'v') return typeof value === 'number' ? plus(show(value)) : show(value);
  if (verb === 'T') return typeOf(value);
  if (verb === 't') return typeof value === 'boolean' ? String(value) : wrong;
  if (verb === 's' || verb === 'q') {
    if (typeof value === 'number' || typeof value === 'boolean') return wrong;
    if (Array.isArray(value)) return `[${value.map((item) => convert(verb, item, precision, flags)).join(' ')}]`;
    const text = [...show(value)].slice(0, precision).join('');
    return verb === 'q' ? quote(text) : text;
  }
  if (typeof value === 'string' && (verb === 'x' || verb === 'X')) {
    const hex = Buffer.from(value).toString('hex');
    return verb === 'x' ? hex : hex.toUpperCase();
  }
  if (typeof value !== 'number') return wrong;
  if (verb === 'c') return String.fromCodePoint(value);
  if (base !== undefined) {
    if (!Number.isInteger(value)) return wrong;
    const digits = plus(value.toString(base));
    return verb === 'X' ? digits.toUpperCase() : digits;
  }
  if (verb === 'f' || verb === 'F') return plus(value.toFixed(precision ?? 6));
  if (verb === 'e') return plus(value.toExponential(precision ?? 6).replace(/e([+-])(\d)$/, 'e$10$2'));
  return verb === 'g' ? plus(String(value)) : wrong;
}

function pad(text: string, width: number, flags: string, isNumber: boolean): string {
  const length = [...text].length;
  if (length >= width) return text;
  if (flags.includes('-')) return text + ' '.repeat(width - length);
  if (!flags.includes('0') || !isNumber) return ' '.repeat(width - length) + text;
  const sign = /^[+-]/.test(text) ? (text[0] ?? '') : '';
  return sign + '0'.repeat(width - length) + text.slice(sign.length);
}
