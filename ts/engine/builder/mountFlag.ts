/** The text of `RUN --mount`: which keys each type knows. */
import { CaissonError } from '../../errdefs.ts';
import { type Lookup, resolve } from '../images/variables.ts';
import { meant } from './stages.ts';

const KNOWN: Record<string, string[]> = {
  bind: ['source', 'target', 'from', 'rw'],
  cache: ['id', 'source', 'target', 'sharing', 'ro', 'mode', 'uid', 'gid'],
  tmpfs: ['target', 'size'],
  secret: ['id', 'source', 'target', 'required', 'mode', 'uid', 'gid', 'env'],
  ssh: ['id', 'target', 'required', 'mode', 'uid', 'gid'],
};
const NEEDS_TARGET = ['bind', 'cache', 'tmpfs'];
const NAMES: Record<string, string> = {
  src: 'source',
  dst: 'target',
  destination: 'target',
  readonly: 'ro',
  readwrite: 'rw',
};

/** Of one mount, by its full name; `flag` is how it was written. */
export type Fields = ReadonlyMap<string, string>;

export const invalid = (flag: string, reason: string): CaissonError =>
  new CaissonError('InvalidParameter', `invalid --mount=${flag}: ${reason}`);

/** Named alone it is on; absent it is not. */
export function isOn(flag: string, fields: Fields, name: string): boolean {
  const value = fields.get(name);
  if (value === undefined || /^(false|0)$/i.test(value)) return false;
  if (!/^(true|1)?$/i.test(value)) throw invalid(flag, `invalid value for ${name}: ${value}`);
  return true;
}

/** With its variables resolved. */
export function resolvedMount(flag: string, lookup: Lookup): string {
  if (/(?:^|,)from=[^,]*\$/.test(flag))
    throw invalid(flag, "'from' doesn't support variable expansion, define alias stage instead");
  return resolve(flag, lookup);
}

/** Its type is always there. */
export function parseMount(flag: string): Fields {
  const fields = new Map<string, string>([['type', 'bind']]);
  for (const field of flag.split(',')) {
    const [key = '', ...value] = field.split('=');
    const name = key.toLowerCase();
    fields.set(NAMES[name] ?? name, value.join('='));
  }
  const type = fields.get('type') ?? '';
  const known = KNOWN[type];
  if (known === undefined)
    throw invalid(flag, `unsupported mount type ${JSON.stringify(type)}${meant(type, Object.keys(KNOWN))}`);
  // both say that it is as it would be
  if (type === 'bind') fields.delete('ro');
  if (type === 'cache') fields.delete('rw');
  for (const name of fields.keys())
    if (name !== 'type' && !known.includes(name))
      throw invalid(flag, `unexpected key '${name}' for mount type '${type}'${meant(name, ['type', ...known])}`);
  if (NEEDS_TARGET.includes(type) && (fields.get('target') ?? '') === '') throw invalid(flag, 'a target is missing');
  return fields;
}

export function numberOf(flag: string, fields: Fields, name: string, radix: number, byDefault: number): number {
  const text = fields.get(name);
  const value = text === undefined ? byDefault : Number.parseInt(text, radix);
  if (Number.isNaN(value)) throw invalid(flag, `invalid value ${text} for ${name}`);
  return value;
}
