/** `--format`: JSON, or one of Go's templates. */
import { CaissonError } from '../client/index.ts';
import { Evaluation, NAMES } from './template/evaluate.ts';
import type { TemplateFunction } from './template/functions.ts';
import { parse, TemplateError } from './template/parse.ts';

export type Renderer = (value: unknown, functions?: Readonly<Record<string, TemplateFunction>>) => string;

/** Renders one object; `json` is the whole as a line of JSON. */
export function template(format: string): Renderer {
  if (format === 'json') return (value) => JSON.stringify(value);
  const nodes = told(() => parse(format.replaceAll('\\t', '\t').replaceAll('\\n', '\n'), NAMES));
  return (value, functions) => told(() => new Evaluation(value, functions).run(nodes));
}

/** A mistake in a template as an error of ours. */
function told<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    throw new CaissonError('InvalidParameter', `template parsing error: ${error.message}`, {
      hint: 'see all fields with --format json',
    });
  }
}
