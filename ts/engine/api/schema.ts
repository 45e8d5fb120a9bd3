/** Request bodies against typebox schemas; the message names the field by its path. */
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { CaissonError } from '../../errdefs.ts';

export type { Static, TSchema };

export type Check<T extends TSchema> = (value: unknown) => Static<T>;

/** Compiled at its first use: a daemon that starts does not pay for routes that nobody calls. */
export function bodyCheck<T extends TSchema>(schema: T): Check<T> {
  let validator: ReturnType<typeof Compile<T>> | undefined;
  return (body) => {
    validator ??= Compile(schema);
    const value = withSpelling(schema, body);
    if (validator.Check(value)) return value as Static<T>;
    const first = validator.Errors(value)[0];
    const field = (first?.instancePath ?? '').replace(/^\//, '').replaceAll('/', '.');
    throw new CaissonError(
      'InvalidParameter',
      `invalid request body: ${field === '' ? 'the body' : `field ${field}`} ${first?.message ?? 'is not valid'}`,
      { code: 'INVALID_FIELD' },
    );
  };
}

interface Shape {
  anyOf?: Shape[];
  items?: Shape;
  properties?: Record<string, Shape>;
  patternProperties?: Record<string, Shape>;
}

/**
 * The same body with the schema's spelling of names: Go's decoder takes them in any case, and clients rely on it (docker-py
 * sends `detachKeys`). Names that the schema does not know stay as they are.
 */
export function withSpelling(schema: object, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { anyOf, items, properties, patternProperties } = schema as Shape;
  if (anyOf) return anyOf.reduce<unknown>((spelled, one) => withSpelling(one, spelled), value);
  if (Array.isArray(value)) return items ? value.map((item) => withSpelling(items, item)) : value;
  const [each] = Object.values(patternProperties ?? {});
  if (each) return mapEntries(value, (key, item) => [key, withSpelling(each, item)]);
  if (!properties) return value;
  const names = new Map(Object.keys(properties).map((name) => [name.toLowerCase(), name]));
  return mapEntries(value, (key, item) => {
    const name = Object.hasOwn(properties, key) ? key : (names.get(key.toLowerCase()) ?? key);
    const shape = Object.hasOwn(properties, name) ? properties[name] : undefined;
    return [name, shape ? withSpelling(shape, item) : item];
  });
}

const mapEntries = (value: object, change: (key: string, item: unknown) => [string, unknown]): object =>
  Object.fromEntries(Object.entries(value).map(([key, item]) => change(key, item)));
