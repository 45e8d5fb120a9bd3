/** What a build tells of itself while it goes on. Each protocol has its own words for it. */
import type { Emit } from '../images/progress.ts';
import type { Lookup } from '../images/variables.ts';
import type { Statement } from './dockerfile.ts';
import type { Stage } from './stages.ts';

export interface BuildReport {
  /** Before the first step. `globals`: ARG before the first FROM. `stages`: those up to the target. */
  begin(globals: readonly Statement[], stages: readonly Stage[]): void;
  /** A sentence that belongs to no step. */
  warn(text: string): void;
  /** An instruction's turn has come. `stage`: absent for an ARG before the first FROM. `lookup`: what it sees. */
  step(statement: Statement, stage?: Stage, lookup?: Lookup): StepReport;
  /** A stage is done. */
  image(id: string): void;
}

export interface StepReport {
  /** Of a pull. */
  progress: Emit;
  /** What the command writes. */
  output(isError: boolean, text: string): void;
  /** Told where containers and triggers are told of. */
  note(text: string): void;
  /** The image is one from before. */
  cached(): void;
  /** `id`: of the image so far; '' for none. */
  done(id: string): void;
  failed(error: unknown): void;
}
