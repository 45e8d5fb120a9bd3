/** Query parameters, read as Docker reads them. */
import { CaissonError } from '../../errdefs.ts';

const FALSE = new Set(['', '0', 'no', 'false', 'none']);

/** `filters`: each key with the values given for it. */
export type Filters = ReadonlyMap<string, readonly string[]>;

export class Query {
  readonly #params: URLSearchParams;

  constructor(url: string) {
    const at = url.indexOf('?');
    this.#params = new URLSearchParams(at < 0 ? '' : url.slice(at + 1));
  }

  has(name: string): boolean {
    return this.#params.has(name);
  }

  /** The first value; '' when absent. */
  string(name: string): string {
    return this.#params.get(name) ?? '';
  }

  all(name: string): string[] {
    return this.#params.getAll(name);
  }

  bool(name: string, absent = false): boolean {
    const value = this.#params.get(name);
    return value === null ? absent : !FALSE.has(value.trim().toLowerCase());
  }

  /** JSON; `byDefault` when absent or null. `what`: how the error begins. */
  json<T>(name: string, byDefault: T, what = `error reading ${name}`): T {
    const text = this.string(name);
    if (text === '') return byDefault;
    try {
      return (JSON.parse(text) as T | null) ?? byDefault;
    } catch (error) {
      throw new CaissonError('InvalidParameter', `${what}: ${(error as Error).message}`, { cause: error });
    }
  }

  /** A whole number; undefined when absent or empty. */
  int(name: string): number | undefined {
    const value = this.string(name);
    if (value === '') return undefined;
    if (!/^[+-]?\d{1,15}$/.test(value))
      throw new CaissonError('InvalidParameter', `invalid value ${JSON.stringify(value)} for ${name}: not an integer`);
    return Number(value);
  }

  /**
   * `filters={"label":{"a=b":true}}`, or the older `{"label":["a=b"]}`. A key that `accepted` does not name is refused:
   * a filter that is ignored would make `prune` remove more than was asked for.
   */
  filters(accepted: readonly string[], unknown: 'refused' | 'ignored' = 'refused'): Filters {
    const text = this.string('filters');
    const found = new Map<string, string[]>();
    if (text === '') return found;
    const bad = (): CaissonError => new CaissonError('InvalidParameter', `invalid filter: ${JSON.stringify(text)}`);
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      throw bad();
    }
    if (typeof parsed !== 'object' || Array.isArray(parsed)) throw bad();
    for (const [key, values] of Object.entries(parsed ?? {})) {
      if (!accepted.includes(key) && unknown === 'refused')
        throw new CaissonError('InvalidParameter', `invalid filter '${key}'`);
      if (typeof values !== 'object' || values === null) throw bad();
      const list = Array.isArray(values) ? values : Object.keys(values).filter((value) => Reflect.get(values, value));
      if (!list.every((value) => typeof value === 'string')) throw bad();
      found.set(key, list);
    }
    return found;
  }
}

/** A boolean filter such as `dangling`: one value, true or false. */
export function boolFilter(filters: Filters, name: string): boolean | undefined {
  const values = filters.get(name);
  if (values === undefined || values.length === 0) return undefined;
  const parsed = new Set(values.map((value) => ({ 1: true, true: true, 0: false, false: false })[value.toLowerCase()]));
  const [only] = parsed;
  if (parsed.size !== 1 || only === undefined)
    throw new CaissonError('InvalidParameter', `invalid filter '${name}=${JSON.stringify(values)}'`);
  return only;
}

/** `label` filters: `key` or `key=value`, all must match. */
export function labelsMatch(labels: Readonly<Record<string, string>>, wanted: readonly string[] = []): boolean {
  return wanted.every((label) => {
    const at = label.indexOf('=');
    return at < 0
      ? Object.hasOwn(labels, label)
      : Object.hasOwn(labels, label.slice(0, at)) && labels[label.slice(0, at)] === label.slice(at + 1);
  });
}

/** `name` and `id` filters: the text itself, or a regular expression that is found in it. */
export function textMatches(text: string, wanted: string): boolean {
  if (text === wanted) return true;
  try {
    return new RegExp(wanted).test(text);
  } catch {
    return false;
  }
}
