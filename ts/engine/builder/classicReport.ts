/** A build in the words of Docker's classic builder. */
import { type Emit, shortId } from '../images/progress.ts';
import type { Statement } from './dockerfile.ts';
import type { BuildReport, StepReport } from './report.ts';
import type { Stage } from './stages.ts';

export class ClassicReport implements BuildReport {
  readonly #emit: Emit;
  #total = 0;
  #step = 0;

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  begin(globals: readonly Statement[], stages: readonly Stage[]): void {
    this.#total = globals.length + stages.reduce((sum, { statements }) => sum + 1 + statements.length, 0);
  }

  warn(text: string): void {
    this.#emit({ stream: `${text}\n` });
  }

  step({ original }: Statement, stage?: Stage): StepReport {
    const say = (stream: string): void => this.#emit({ stream });
    say(`Step ${++this.#step}/${this.#total} : ${original}\n`);
    return {
      progress: this.#emit,
      // what went to stderr is red for whoever reads it
      output: (isError, text) => say(isError ? `\u001b[91m${text}\u001b[0m` : text),
      note: (text) => say(`${text}\n`),
      cached: () => say(' ---> Using cache\n'),
      done: (id) => {
        if (stage !== undefined) say(` ---> ${shortId(id)}\n`);
      },
      failed: () => undefined,
    };
  }

  image(id: string): void {
    this.#emit({ aux: { ID: id } });
  }
}
