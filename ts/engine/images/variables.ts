/** Words of a Dockerfile instruction: quotes, backslashes and `$variables` as Docker's builder resolves them. */
import { CaissonError } from '../../errdefs.ts';

/** Undefined: not set. */
export type Lookup = (name: string) => string | undefined;

/** In `KEY=VALUE` entries. */
export const lookupIn =
  (env: readonly string[]): Lookup =>
  (name) =>
    env.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);

const WORD = /(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+/gs;

/** Split at spaces outside of quotes; quotes and variables stay. */
export const rawWords = (text: string): string[] => text.match(WORD) ?? [];

/** Split at spaces outside of quotes, each resolved. */
export function words(text: string, lookup: Lookup): string[] {
  return rawWords(text).map((word) => resolve(word, lookup));
}

/** For people: what is set in place of its variables, all else as it is written. */
export const shownWith = (text: string, lookup: Lookup): string =>
  text.replace(
    /\\.|\$(?:(\w+)|\{(\w+)\})/gs,
    (all, plain?: string, braced?: string) => lookup(plain ?? braced ?? '') ?? all,
  );

/** One value, with the spaces that it has. */
export function resolve(text: string, lookup: Lookup): string {
  return new Reader(text, lookup).until('');
}

/** Goes through a text once, left to right. */
class Reader {
  readonly #text: string;
  readonly #lookup: Lookup;
  #at = 0;

  constructor(text: string, lookup: Lookup) {
    this.#text = text;
    this.#lookup = lookup;
  }

  /** To the end, or to a sign that is taken too. */
  until(stop: string): string {
    let out = '';
    for (;;) {
      const sign = this.#text[this.#at++];
      if (sign === undefined) {
        if (stop !== '') throw this.#wrong(`missing '${stop}'`);
        return out;
      }
      if (sign === stop) return out;
      if (sign === "'") out += this.#single();
      else if (sign === '"') out += this.#double();
      else if (sign === '\\') out += this.#text[this.#at++] ?? '';
      else if (sign === '$') out += this.#variable();
      else out += sign;
    }
  }

  #single(): string {
    const end = this.#text.indexOf("'", this.#at);
    if (end < 0) throw this.#wrong('unexpected end of statement while looking for matching single-quote');
    const inside = this.#text.slice(this.#at, end);
    this.#at = end + 1;
    return inside;
  }

  #double(): string {
    let out = '';
    for (;;) {
      const sign = this.#text[this.#at++];
      if (sign === undefined) throw this.#wrong('unexpected end of statement while looking for matching double-quote');
      if (sign === '"') return out;
      const next = this.#text[this.#at] ?? '';
      if (sign === '\\' && '"$\\'.includes(next)) out += this.#text[this.#at++] ?? '';
      else out += sign === '$' ? this.#variable() : sign;
    }
  }

  /** Behind the dollar sign. */
  #variable(): string {
    if (this.#text[this.#at] !== '{') {
      const name = this.#take(/\w+/y);
      return name === '' ? '$' : (this.#lookup(name) ?? '');
    }
    this.#at++;
    const name = this.#take(/\w+/y);
    if (name === '') throw this.#wrong('bad substitution');
    const value = this.#lookup(name);
    const operator = this.#take(/:?[-+?]|##?|%%?|\/\/?|\}/y);
    switch (operator.at(-1)) {
      case '}':
        return value ?? '';
      case '#':
      case '%':
        return strip(value ?? '', operator, this.until('}'));
      case '/': {
        const [pattern, replacement] = [this.until('/'), this.until('}')];
        const found = new RegExp(shellPattern(pattern, true), operator === '//' ? 'gs' : 's');
        return (value ?? '').replace(found, () => replacement);
      }
      case undefined:
        throw this.#wrong(`unsupported modifier (${this.#text[this.#at] ?? ''}) in substitution`);
    }
    const word = this.until('}');
    const isSet = value !== undefined && !(operator.startsWith(':') && value === '');
    if (operator.endsWith('+')) return isSet ? word : '';
    if (isSet) return value;
    if (operator.endsWith('-')) return word;
    throw new CaissonError('InvalidParameter', `${name}: ${word || 'is not allowed to be unset'}`);
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += found.length;
    return found;
  }

  #wrong(reason: string): CaissonError {
    return new CaissonError('InvalidParameter', `failed to process ${JSON.stringify(this.#text)}: ${reason}`);
  }
}

/** Of a shell's pattern; greedy or not. */
function shellPattern(pattern: string, greedy: boolean): string {
  return pattern.replace(/\\(.)|[\s\S]/g, (sign, escaped?: string) => {
    if (escaped !== undefined) return escaped.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
    if (sign === '*') return greedy ? '.*' : '.*?';
    if (sign === '?') return '.';
    return sign.replace(/[\\^$.+()[\]{}|/]/g, '\\$&');
  });
}

/** `#` and `%` take the shortest beginning or end away that fits, doubled the longest. */
function strip(value: string, operator: string, pattern: string): string {
  const greedy = operator.length === 2;
  if (operator.startsWith('#')) return value.replace(new RegExp(`^${shellPattern(pattern, greedy)}`, 's'), '');
  // from the right, the first that fits is the shortest
  const places = Array.from({ length: value.length + 1 }, (_, i) => (greedy ? i : value.length - i));
  const fits = new RegExp(`^${shellPattern(pattern, true)}$`, 's');
  const at = places.find((place) => fits.test(value.slice(place)));
  return at === undefined ? value : value.slice(0, at);
}
