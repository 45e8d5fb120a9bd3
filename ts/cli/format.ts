/** `--format`: JSON, and the part of Go's templates that people use. */
import { CaissonError } from '../client/index.ts';

const invalid = (why: string): CaissonError =>
  new CaissonError('InvalidParameter', `template parsing error: ${why}`, {
    hint: 'fields ({{.Name}}, {{.State.Status}}), json, upper, lower, len, join, index and println are supported; or use --format json',
  });

type Renderer = (value: unknown) => string;

/** Renders one object; `json` is the whole as a line of JSON. */
export function template(format: string): Renderer {
  if (format === 'json') return (value) => JSON.stringify(value);
  const parts: Renderer[] = [];
  let at = 0;
  const text = format.replaceAll('\\t', '\t').replaceAll('\\n', '\n');
  for (const match of text.matchAll(/\{\{(.*?)\}\}/gs)) {
    const literal = text.slice(at, match.index);
    const action = compile((match[1] ?? '').replace(/^- | -$/g, '').trim());
    parts.push(() => literal, action);
    at = match.index + match[0].length;
  }
  const rest = text.slice(at);
  if (rest.includes('{{')) throw invalid('unclosed action');
  return (value) => parts.map((part) => part(value)).join('') + rest;
}

function compile(action: string): Renderer {
  const words = [...action.matchAll(/"((?:[^"\\]|\\.)*)"|`([^`]*)`|([^\s"`]+)/g)];
  const [first, ...others] = words.map(([whole, quoted, raw]) => operand(whole, quoted ?? raw));
  const name = words[0]?.[3] ?? '';
  if (first === undefined) throw invalid('empty action');
  if (name.startsWith('.') || !/^[a-z]/.test(name)) {
    if (others.length > 0) throw invalid(`unsupported action {{${action}}}`);
    return (value) => show(first(value));
  }
  const run = FUNCTIONS[name];
  if (run === undefined) throw invalid(`function "${name}" not defined`);
  return (value) => run(...others.map((other) => other(value)));
}

const show = (value: unknown): string => {
  if (value === undefined || value === null) return '<no value>';
  if (Array.isArray(value)) return `[${value.map(show).join(' ')}]`;
  if (typeof value === 'object')
    return `map[${Object.entries(value)
      .map(([key, one]) => `${key}:${show(one)}`)
      .join(' ')}]`;
  return String(value);
};

const FUNCTIONS: Record<string, (...values: unknown[]) => string> = {
  json: (value) => JSON.stringify(value ?? null),
  upper: (value) => show(value).toUpperCase(),
  lower: (value) => show(value).toLowerCase(),
  len: (value) =>
    String(typeof value === 'string' || Array.isArray(value) ? value.length : Object.keys(value ?? {}).length),
  join: (value, separator) => (Array.isArray(value) ? value.map(show).join(String(separator ?? '')) : show(value)),
  println: (...values) => `${values.map(show).join(' ')}\n`,
  index: (value, ...keys) => show(keys.reduce((inner, key) => fieldOf(inner, String(key)), value)),
};

/** `.A.B`, `.`, a number or a text. */
function operand(word: string, text: string | undefined): (value: unknown) => unknown {
  if (text !== undefined) return () => text;
  if (/^-?\d+$/.test(word)) return () => Number(word);
  if (!word.startsWith('.')) return () => word;
  if (!/^(?:\.|(?:\.\w+)+)$/.test(word)) throw invalid(`unsupported field ${word}`);
  const path = word.split('.').filter((part) => part !== '');
  return (value) => path.reduce(fieldOf, value);
}

function fieldOf(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
}
