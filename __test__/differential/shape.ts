/** What differs between two answers: the status, and which fields of which types a JSON body has. */
import type { Answered } from './ask.ts';
import { FIELDS } from './justified.ts';

/** Undefined: they are of one kind. */
export function difference(theirs: Answered, ours: Answered): string | undefined {
  if (theirs.status !== ours.status)
    return `status ${theirs.status}, ours ${ours.status}: ${short(theirs)} | ${short(ours)}`;
  const [a, b] = [json(theirs), json(ours)];
  if ((a === undefined) !== (b === undefined)) return `type ${theirs.type}, ours ${ours.type}`;
  if (theirs.status >= 400) {
    const says = (body: unknown): string => typeof (body as { message?: unknown } | undefined)?.message;
    return says(a) === says(b) ? undefined : `message is ${says(a)}, ours ${says(b)}`;
  }
  const [left, right] = [shape(a), shape(b)];
  const missing = [...left].filter((line) => !right.has(line)).map((line) => `-${line}`);
  const added = [...right].filter((line) => !left.has(line)).map((line) => `+${line}`);
  const lines = [...missing, ...added].filter((line) => !FIELDS.some((known) => known.line.test(line)));
  return lines.length === 0 ? undefined : lines.join(' ');
}

const short = ({ text }: Answered): string => text.trim().slice(0, 160);

function json({ type, text }: Answered): unknown {
  if (!type.startsWith('application/json')) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text === '' ? undefined : 'lines';
  }
}

/** One line a field: its path and its type. Ids as keys are all one, and so are null and what is empty. */
function shape(value: unknown, path = '', found = new Set<string>()): Set<string> {
  if (value === null || (typeof value === 'object' && Object.keys(value).length === 0)) {
    found.add(`${path} empty`);
  } else if (Array.isArray(value)) {
    found.add(`${path}[]`);
    for (const one of value) shape(one, `${path}[]`, found);
  } else if (typeof value === 'object' && value !== null) {
    found.add(`${path}{}`);
    for (const [key, one] of Object.entries(value))
      shape(one, `${path}.${/^[0-9a-f]{64}$/.test(key) ? 'ID' : key}`, found);
  } else found.add(`${path}:${typeof value}`);
  return found;
}
