/** The words inside one action. */

export type Token =
  | { kind: 'literal'; value: unknown; text: string }
  | { kind: 'dot' | 'word' | 'symbol'; text: string }
  | { kind: 'variable'; text: string; fields: string[] }
  /** `attached`: it stands right behind a parenthesis. */
  | { kind: 'field'; text: string; fields: string[]; attached: boolean };

const TOKEN =
  /\s+|("(?:[^"\\\n]|\\.)*")|`([^`]*)`|'((?:[^'\\\n]|\\.)+)'|([+-]?(?:0[xX][\da-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?))|(\$\w*(?:\.\w+)*)|((?:\.\w+)+)|(\.)|([\p{L}_]\w*)|(:=|[=|,()])/uy;

const CONSTANTS = new Map<string, unknown>([
  ['true', true],
  ['false', false],
  ['nil', null],
]);

export function tokens(text: string, fail: (why: string) => Error): Token[] {
  const found: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) throw fail(`unexpected ${JSON.stringify(text[at])} in command`);
    const [all, quoted, raw, char, number, variable, field, dot, word, symbol] = match;
    if (quoted !== undefined) found.push({ kind: 'literal', value: unquote(quoted, fail), text: all });
    else if (raw !== undefined) found.push({ kind: 'literal', value: raw, text: all });
    else if (char !== undefined)
      found.push({ kind: 'literal', value: unquote(`"${char}"`, fail).codePointAt(0), text: all });
    else if (number !== undefined) found.push({ kind: 'literal', value: Number(number), text: all });
    else if (variable !== undefined)
      found.push({ kind: 'variable', text: variable, fields: variable.split('.').slice(1) });
    else if (field !== undefined)
      found.push({ kind: 'field', text: field, fields: field.split('.').slice(1), attached: text[at - 1] === ')' });
    else if (dot !== undefined) found.push({ kind: 'dot', text: all });
    else if (word !== undefined)
      found.push(
        CONSTANTS.has(word) ? { kind: 'literal', value: CONSTANTS.get(word), text: all } : { kind: 'word', text: word },
      );
    else if (symbol !== undefined) found.push({ kind: 'symbol', text: symbol });
  }
  return found;
}

const ESCAPES: Record<string, string> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

/** Go's escapes in a quoted text. */
function unquote(quoted: string, fail: (why: string) => Error): string {
  return quoted
    .slice(1, -1)
    .replace(
      /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{3})|(.))/g,
      (all, hex?: string, short?: string, long?: string, octal?: string, letter: string = '') => {
        const code = hex ?? short ?? long;
        if (code !== undefined) return String.fromCodePoint(Number.parseInt(code, 16));
        if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
        if (`"'\\`.includes(letter)) return letter;
        const escaped = ESCAPES[letter];
        if (escaped === undefined) throw fail(`invalid syntax: ${all}`);
        return escaped;
      },
    );
}
