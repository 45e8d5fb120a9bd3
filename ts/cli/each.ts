/** Commands that do the same to several objects: all are tried, each failure is told, any failure is the exit code. */
import { reportFailure } from './failure.ts';
import { FlagError } from './units.ts';

export async function each(
  names: readonly string[],
  act: (name: string) => Promise<string | undefined>,
): Promise<number> {
  let code = 0;
  const results = await Promise.allSettled(names.map(act));
  for (const result of results)
    if (result.status === 'rejected' && result.reason instanceof FlagError) throw result.reason;
    else if (result.status === 'rejected') code = reportFailure(result.reason);
    else if (result.value !== undefined) process.stdout.write(`${result.value}\n`);
  return code;
}
