/** Request bodies against typebox schemas; the message names the field by its path. */
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { CaissonError } from '../../errdefs.ts';

export type { Static, TSchema };

export type Check<T extends TSchema> = (value: unknown) => Static<T>;

/** Compiled at its first use: a daemon that starts does not pay for routes that nobody calls. */
export function bodyCheck<T extends TSchema>(schema: T): Check<T> {
  let validator: ReturnType<typeof Compile<T>> | undefined;
  return (value) => {
    validator ??= Compile(schema);
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
