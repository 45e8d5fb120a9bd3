/** `inspect`: all about each object, as JSON or by a template. */
import { ExitCode, reportFailure } from './failure.ts';
import { type Renderer, template } from './format.ts';

/** What is not found is told at the end, and is the exit code; the rest is shown. */
export async function inspectEach(
  names: readonly string[],
  format: string | undefined,
  inspect: (name: string) => Promise<unknown>,
): Promise<number> {
  const render = format === undefined || format === 'json' ? undefined : parsed(format);
  const results = await Promise.allSettled(names.map(inspect));
  const found = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  let code = 0;
  if (render === undefined) process.stdout.write(`${JSON.stringify(found, null, format === 'json' ? 0 : 4)}\n`);
  else for (const object of found) code = write(render, object) || code;
  for (const result of results) if (result.status === 'rejected') code = reportFailure(result.reason);
  return code;
}

/** A template that is none has an exit code of its own, as docker's. */
function parsed(format: string): Renderer {
  try {
    return template(format);
  } catch (error) {
    throw new ExitCode(64, `caisson: ${(error as Error).message}`);
  }
}

function write(render: Renderer, object: unknown): number {
  try {
    process.stdout.write(`${render(object)}\n`);
    return 0;
  } catch (error) {
    return reportFailure(error);
  }
}
