/** A parsed template carried out over one value. */
import { FUNCTIONS, isTrue, type TemplateFunction } from './functions.ts';
import { type Node, type Operand, type Pipe, TemplateError } from './parse.ts';
import { show } from './show.ts';

/** `and` and `or` stop at the operand that decides. */
export const NAMES: ReadonlySet<string> = new Set([...Object.keys(FUNCTIONS), 'and', 'or']);

type Variables = { name: string; value: unknown }[];

/** How a `{{range}}` goes on. */
type Flow = 'next' | 'break' | 'continue';

export class Evaluation {
  readonly #functions: Readonly<Record<string, TemplateFunction>>;
  readonly #out: string[] = [];
  readonly #variables: Variables;

  /** `functions`: those that replace others of the same name. */
  constructor(root: unknown, functions: Readonly<Record<string, TemplateFunction>> = {}) {
    this.#functions = { ...FUNCTIONS, ...functions };
    this.#variables = [{ name: '$', value: root }];
  }

  /** Throws TemplateError. */
  run(nodes: readonly Node[]): string {
    this.#all(nodes, this.#variables[0]?.value);
    return this.#out.join('');
  }

  #all(nodes: readonly Node[], dot: unknown): Flow {
    const known = this.#variables.length;
    for (const node of nodes) {
      const flow = this.#one(node, dot);
      if (flow !== 'next') {
        this.#variables.length = known;
        return flow;
      }
    }
    this.#variables.length = known;
    return 'next';
  }

  #one(node: Node, dot: unknown): Flow {
    switch (node.kind) {
      case 'text':
        this.#out.push(node.text);
        return 'next';
      case 'output': {
        const value = this.#pipe(node.pipe, dot);
        if (node.pipe.variables.length === 0) this.#out.push(show(value));
        return 'next';
      }
      case 'break':
      case 'continue':
        return node.kind;
      case 'range':
        return this.#range(node, dot);
      default: {
        const known = this.#variables.length;
        const value = this.#pipe(node.pipe, dot);
        const inner = node.kind === 'with' ? value : dot;
        const flow = isTrue(value) ? this.#all(node.body, inner) : this.#all(node.otherwise, dot);
        this.#variables.length = known;
        return flow;
      }
    }
  }

  #range({ pipe, body, otherwise }: Node & { kind: 'range' | 'if' | 'with' }, dot: unknown): Flow {
    const known = this.#variables.length;
    const { variables, assigns, ...rest } = pipe;
    const items = entries(this.#pipe({ ...rest, variables: [], assigns: false }, dot));
    if (items.length === 0) return this.#all(otherwise, dot);
    for (const [key, value] of items) {
      this.#variables.length = known;
      const [first, second] = variables;
      if (second !== undefined) this.#set(first ?? '', key, assigns);
      if (first !== undefined) this.#set(second ?? first, value, assigns);
      if (this.#all(body, value) === 'break') break;
    }
    this.#variables.length = known;
    return 'next';
  }

  #set(name: string, value: unknown, assigns: boolean): void {
    const existing = assigns ? this.#variables.findLast((variable) => variable.name === name) : undefined;
    if (existing) existing.value = value;
    else this.#variables.push({ name, value });
  }

  #pipe({ commands, variables, assigns }: Pipe, dot: unknown): unknown {
    let value: unknown;
    for (const [i, command] of commands.entries()) value = this.#command(command, dot, i > 0 ? [value] : []);
    for (const name of variables) this.#set(name, value, assigns);
    return value;
  }

  /** `last`: the value of the command before, which comes behind the others. */
  #command([first, ...others]: readonly Operand[], dot: unknown, last: unknown[]): unknown {
    if (first === undefined) return undefined;
    const rest = (): unknown[] => [...others.map((operand) => this.#value(operand, dot)), ...last];
    if (first.kind === 'function') return this.#call(first.name, others, dot, last);
    if (first.kind === 'path' && first.fields.length > 0) return this.#path(first, dot, rest());
    if (others.length > 0 || last.length > 0)
      throw executing(describe(first), `can't give argument to non-function ${describe(first)}`);
    return this.#value(first, dot);
  }

  #call(name: string, others: readonly Operand[], dot: unknown, last: unknown[]): unknown {
    if (name === 'and' || name === 'or') {
      let value: unknown = last[0];
      for (const operand of others) {
        value = this.#value(operand, dot);
        if (isTrue(value) === (name === 'or')) return value;
      }
      return last.length > 0 ? last[0] : value;
    }
    try {
      return this.#functions[name]?.(...others.map((operand) => this.#value(operand, dot)), ...last);
    } catch (error) {
      throw error instanceof TemplateError ? error : executing(name, (error as Error).message);
    }
  }

  #value(operand: Operand, dot: unknown): unknown {
    switch (operand.kind) {
      case 'literal':
        return operand.value;
      case 'dot':
        return dot;
      case 'function':
        return this.#call(operand.name, [], dot, []);
      default:
        return this.#path(operand, dot, []);
    }
  }

  #path({ of, fields, text }: Operand & { kind: 'path' }, dot: unknown, args: unknown[]): unknown {
    let value: unknown;
    if (of === 'dot') value = dot;
    else if ('variable' in of) value = this.#variables.findLast(({ name }) => name === of.variable)?.value;
    else value = this.#pipe(of, dot);
    for (const [i, field] of fields.entries()) value = fieldOf(value, field, text, i === fields.length - 1 ? args : []);
    return value;
  }
}

const executing = (at: string, why: string): TemplateError =>
  new TemplateError(`template: :1: executing "" at <${at}>: ${why}`);

const describe = (operand: Operand): string =>
  operand.kind === 'path' ? operand.text : operand.kind === 'literal' ? JSON.stringify(operand.value) : '.';

/** A method is called with the arguments that stand behind it. An object without a prototype is a row of a table: its fields are all there are. */
function fieldOf(value: unknown, field: string, text: string, args: unknown[]): unknown {
  if (typeof value !== 'object' || value === null) {
    if (value === null || value === undefined) throw executing(text, `nil pointer evaluating interface {}.${field}`);
    throw executing(text, `can't evaluate field ${field} in type ${typeof value}`);
  }
  if (!Object.hasOwn(value, field)) {
    if (Object.getPrototypeOf(value) === null)
      throw executing(text, `can't evaluate field ${field}: there are ${Object.keys(value).join(', ')}`);
    // A map of texts (labels, options) may lack it; whatever else does is asked for by mistake.
    const items = Object.values(value);
    if (items.length > 0 && items.every((item) => typeof item === 'string')) return undefined;
    throw executing(text, `map has no entry for key ${JSON.stringify(field)}`);
  }
  const found = (value as Record<string, unknown>)[field];
  if (typeof found === 'function') return (found as TemplateFunction)(...args);
  if (args.length > 0) throw executing(text, `${field} has arguments but cannot be invoked as function`);
  return found;
}

function entries(value: unknown): [unknown, unknown][] {
  if (Array.isArray(value)) return value.map((item, i) => [i, item]);
  if (typeof value === 'number') return Array.from({ length: value }, (_, i) => [i, i]);
  if (typeof value === 'object' && value !== null)
    return Object.keys(value)
      .sort()
      .map((key) => [key, (value as Record<string, unknown>)[key]]);
  return [];
}
