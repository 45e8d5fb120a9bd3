/** Words of a Dockerfile instruction: quotes, backslashes and `$variables` as Docker's builder resolves them. */

/** Undefined: not set. */
export type Lookup = (name: string) => string | undefined;

/** In `KEY=VALUE` entries. */
export const lookupIn =
  (env: readonly string[]): Lookup =>
  (name) =>
    env.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);

const WORD = /(?:"(?:\\.|[^"\\])*"|'[^']*'|\$\{[^}]*\}|\\.|[^\s"'\\])+/gs;
const PART = /"((?:\\.|[^"\\])*)"|'([^']*)'|\\(.)|\$(\w+|\{[^}]*\})/gs;
const QUOTED_PART = /\\(["$\\])|\$(\w+|\{[^}]*\})/g;

/** Split at spaces outside of quotes, each resolved. */
export function words(text: string, lookup: Lookup): string[] {
  return [...text.matchAll(WORD)].map(([word]) => resolve(word, lookup));
}

/** One value, with the spaces that it has. */
export function resolve(text: string, lookup: Lookup): string {
  return text.replace(PART, (_all, double?: string, single?: string, escaped?: string, variable?: string) => {
    if (double !== undefined)
      return double.replace(
        QUOTED_PART,
        (_inner, plain?: string, inside?: string) => plain ?? value(inside ?? '', lookup),
      );
    return single ?? escaped ?? value(variable ?? '', lookup);
  });
}

/** Of `name`, or of `{name}`, `{name:-word}`, `{name-word}`, `{name:+word}` or `{name+word}`. */
function value(variable: string, lookup: Lookup): string {
  const [, name = '', colon = '', operator, word = ''] = /^\{?(\w+)(?:(:?)([-+])(.*))?\}?$/s.exec(variable) ?? [];
  const found = lookup(name);
  if (operator === undefined) return found ?? '';
  const isSet = found !== undefined && !(colon && found === '');
  const alternative = resolve(word.replace(/\}$/, ''), lookup);
  if (operator === '-') return isSet ? found : alternative;
  return isSet ? alternative : '';
}
