/** Go's text/template, parsed: actions, pipelines, variables, `if`, `with`, `range`. */
import { type Token, tokens } from './tokens.ts';

export type Node =
  | { kind: 'text'; text: string }
  | { kind: 'output'; pipe: Pipe }
  | { kind: 'if' | 'with' | 'range'; pipe: Pipe; body: Node[]; otherwise: Node[] }
  | { kind: 'break' | 'continue' };

export interface Pipe {
  /** Variables that take its value (of a range, its key and its element). */
  variables: string[];
  /** `=`: they are there already. */
  assigns: boolean;
  commands: Operand[][];
}

export type Operand =
  | { kind: 'literal'; value: unknown }
  | { kind: 'dot' }
  | { kind: 'function'; name: string }
  | { kind: 'path'; of: 'dot' | Pipe | { variable: string }; fields: string[]; text: string };

export class TemplateError extends Error {}

interface Piece {
  text: string;
  action: boolean;
  line: number;
}

const fail = (line: number, why: string): TemplateError => new TemplateError(`template: :${line}: ${why}`);

/** Texts and the insides of actions, in turn; `{{-` and `-}}` take the space beside them away. */
function pieces(source: string): Piece[] {
  const found: Piece[] = [];
  let at = 0;
  let trim = false;
  const line = (offset: number): number => source.slice(0, offset).split('\n').length;
  for (;;) {
    const open = source.indexOf('{{', at);
    let text = source.slice(at, open < 0 ? source.length : open);
    if (trim) text = text.trimStart();
    if (open < 0) return [...found, { text, action: false, line: line(at) }];
    const comment = /^\{\{(-\s)?\s*\/\*/.test(source.slice(open));
    const close = comment ? source.indexOf('*/', open) : endOfAction(source, open + 2);
    const end = close < 0 ? -1 : source.indexOf('}}', close);
    if (end < 0) throw fail(line(open), 'unclosed action');
    const inside = source.slice(open + 2, end);
    if (/^-\s/.test(inside)) text = text.trimEnd();
    trim = /\s-$/.test(inside);
    found.push({ text, action: false, line: line(at) });
    if (!comment) found.push({ text: inside.replace(/^-(?=\s)|(?<=\s)-$/g, ''), action: true, line: line(open) });
    at = end + 2;
  }
}

/** Where `}}` stands outside of quotes; -1: nowhere. */
function endOfAction(source: string, from: number): number {
  const skip = /"(?:[^"\\\n]|\\.)*"|`[^`]*`|'(?:[^'\\\n]|\\.)*'|\}\}/g;
  skip.lastIndex = from;
  for (let found = skip.exec(source); found !== null; found = skip.exec(source))
    if (found[0] === '}}') return found.index;
  return -1;
}

class Parser {
  readonly #pieces: Piece[];
  readonly #functions: ReadonlySet<string>;
  #at = 0;
  #tokens: Token[] = [];
  #next = 0;
  #line = 1;
  readonly #variables = ['$'];
  #ranges = 0;

  constructor(source: string, functions: ReadonlySet<string>) {
    this.#pieces = pieces(source);
    this.#functions = functions;
  }

  all(): Node[] {
    const { nodes, end } = this.#list(false);
    if (end !== '') throw fail(this.#line, `unexpected {{${end}}}`);
    return nodes;
  }

  /** Nodes up to `{{end}}` or `{{else …}}`; `end` tells which. */
  #list(inner: boolean): { nodes: Node[]; end: '' | 'end' | 'else' } {
    const nodes: Node[] = [];
    const known = this.#variables.length;
    while (this.#at < this.#pieces.length) {
      const piece = this.#pieces[this.#at++];
      if (piece === undefined) break;
      this.#line = piece.line;
      if (!piece.action) {
        if (piece.text !== '') nodes.push({ kind: 'text', text: piece.text });
        continue;
      }
      this.#tokens = tokens(piece.text, (why) => fail(piece.line, why));
      this.#next = 0;
      const word = this.#peek()?.kind === 'word' ? this.#peek()?.text : undefined;
      if (word === 'end' || word === 'else') {
        this.#next++;
        if (word === 'end') this.#done('end');
        this.#variables.length = known;
        return { nodes, end: word };
      }
      nodes.push(this.#action(word));
    }
    if (inner) throw fail(this.#line, 'unexpected EOF');
    return { nodes, end: '' };
  }

  #action(word: string | undefined): Node {
    if (word === 'if' || word === 'with' || word === 'range') {
      this.#next++;
      return this.#block(word);
    }
    if (word === 'break' || word === 'continue') {
      if (this.#ranges === 0) throw fail(this.#line, `{{${word}}} outside {{range}}`);
      this.#next++;
      this.#done(word);
      return { kind: word };
    }
    if (word === 'define' || word === 'template' || word === 'block')
      throw fail(this.#line, `{{${word}}} is not supported`);
    const pipe = this.#pipe();
    this.#done('command');
    return { kind: 'output', pipe };
  }

  #block(kind: 'if' | 'with' | 'range'): Node {
    const known = this.#variables.length;
    const pipe = this.#pipe();
    this.#done(kind);
    if (kind === 'range') this.#ranges++;
    const { nodes: body, end } = this.#list(true);
    if (kind === 'range') this.#ranges--;
    let otherwise: Node[] = [];
    if (end === 'else') {
      const next = this.#peek();
      if (next?.kind === 'word' && next.text === kind && kind !== 'range') {
        this.#next++;
        otherwise = [this.#block(kind)];
      } else {
        this.#done('else');
        const rest = this.#list(true);
        if (rest.end === 'else') throw fail(this.#line, 'expected end; found {{else}}');
        otherwise = rest.nodes;
      }
    }
    this.#variables.length = known;
    return { kind, pipe, body, otherwise };
  }

  #pipe(): Pipe {
    const pipe: Pipe = { variables: [], assigns: false, commands: [] };
    const names = this.#declared();
    if (names !== undefined) {
      Object.assign(pipe, names);
      for (const name of pipe.variables)
        if (!pipe.assigns) this.#variables.push(name);
        else if (!this.#variables.includes(name)) throw fail(this.#line, `undefined variable ${JSON.stringify(name)}`);
    }
    do pipe.commands.push(this.#command());
    while (this.#take('|'));
    return pipe;
  }

  /** `$a :=`, `$a, $b :=`, `$a =` */
  #declared(): { variables: string[]; assigns: boolean } | undefined {
    const start = this.#next;
    const variables: string[] = [];
    do {
      const token = this.#peek();
      if (token?.kind !== 'variable' || token.fields.length > 0) break;
      variables.push(token.text);
      this.#next++;
    } while (this.#take(','));
    if (variables.length > 0 && this.#take(':=')) return { variables, assigns: false };
    if (variables.length > 0 && this.#take('=')) return { variables, assigns: true };
    this.#next = start;
    return undefined;
  }

  #command(): Operand[] {
    const operands: Operand[] = [];
    for (let operand = this.#operand(); operand !== undefined; operand = this.#operand()) operands.push(operand);
    if (operands.length === 0) throw fail(this.#line, 'missing value for command');
    return operands;
  }

  #operand(): Operand | undefined {
    const token = this.#peek();
    if (token === undefined) return undefined;
    switch (token.kind) {
      case 'literal':
        this.#next++;
        return { kind: 'literal', value: token.value };
      case 'dot':
        this.#next++;
        return { kind: 'dot' };
      case 'field':
        this.#next++;
        return { kind: 'path', of: 'dot', fields: token.fields, text: token.text };
      case 'variable': {
        this.#next++;
        const name = token.text.split('.', 1)[0] ?? '';
        if (!this.#variables.includes(name)) throw fail(this.#line, `undefined variable ${JSON.stringify(name)}`);
        return { kind: 'path', of: { variable: name }, fields: token.fields, text: token.text };
      }
      case 'word':
        if (!this.#functions.has(token.text))
          throw fail(this.#line, `function ${JSON.stringify(token.text)} not defined`);
        this.#next++;
        return { kind: 'function', name: token.text };
      default:
        return token.text === '(' ? this.#parenthesized() : undefined;
    }
  }

  #parenthesized(): Operand {
    this.#next++;
    const pipe = this.#pipe();
    if (!this.#take(')')) throw fail(this.#line, 'unclosed left paren');
    const after = this.#peek();
    if (after?.kind !== 'field' || !after.attached) return { kind: 'path', of: pipe, fields: [], text: '(…)' };
    this.#next++;
    return { kind: 'path', of: pipe, fields: after.fields, text: `(…)${after.text}` };
  }

  #peek(): Token | undefined {
    return this.#tokens[this.#next];
  }

  #take(symbol: string): boolean {
    const token = this.#peek();
    if (token?.kind !== 'symbol' || token.text !== symbol) return false;
    this.#next++;
    return true;
  }

  #done(where: string): void {
    const token = this.#peek();
    if (token !== undefined) throw fail(this.#line, `unexpected ${JSON.stringify(token.text)} in ${where}`);
  }
}

/** Throws TemplateError. `functions`: the names that may be called. */
export const parse = (source: string, functions: ReadonlySet<string>): Node[] => new Parser(source, functions).all();
