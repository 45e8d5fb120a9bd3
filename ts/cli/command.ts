/** What a command is made of: what the command line may be, and what is done then. */
import { type CommandShape, type Parsed, parseArguments, requireArguments, wrongUsage } from './arguments.ts';
import { FlagError } from './units.ts';

export type { CommandShape, Flag } from './arguments.ts';

export interface Command {
  /** Absent: the command reads its own command line. */
  shape?: CommandShape;
  /** Arguments without the command's name; resolves with the exit code. */
  run(argv: string[]): Promise<number>;
}

export function command<F extends object = object>(
  shape: CommandShape,
  act: (parsed: Parsed<F>) => Promise<number>,
): Command {
  return {
    shape,
    async run(argv) {
      const parsed = parseArguments<F>(shape, argv);
      requireArguments(shape, parsed.args);
      try {
        return await act(parsed);
      } catch (error) {
        throw error instanceof FlagError ? wrongUsage(shape, error.message) : error;
      }
    },
  };
}
