/** How a failure is shown: what, why, how to mend it; and the exit code that Docker gives it. */
import { CaissonError } from '../errdefs.ts';

/** An exit code that the caller has nothing to add to. */
export class ExitCode extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message = '') {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Writes the message to stderr; returns the exit code. */
export function reportFailure(error: unknown, code = 1): number {
  if (error instanceof ExitCode) {
    if (error.message !== '') process.stderr.write(`${error.message}\n`);
    return error.exitCode;
  }
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`caisson: ${message}\n`);
  if (error instanceof CaissonError && error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`);
  return code;
}
