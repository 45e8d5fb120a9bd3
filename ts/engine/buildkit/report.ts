/** A build's steps as vertices, by the names that BuildKit gives them. */
import type { Statement } from '../builder/dockerfile.ts';
import type { BuildReport, StepReport } from '../builder/report.ts';
import type { Stage } from '../builder/stages.ts';
import type { ProgressLine } from '../images/progress.ts';
import { reasonOf } from './errors.ts';
import type { StatusLog, Vertex } from './status.ts';

/** Those that make a layer. The others are done at once and not told of. */
const TOLD = ['FROM', 'RUN', 'COPY', 'ADD', 'WORKDIR'];

const SILENT: StepReport = {
  progress: () => undefined,
  output: () => undefined,
  note: () => undefined,
  cached: () => undefined,
  done: () => undefined,
  failed: () => undefined,
};

export class VertexReport implements BuildReport {
  readonly #log: StatusLog;
  /** Of the Dockerfile, whose warnings are shown with it. */
  readonly #source: Vertex;
  readonly #names = new Map<Statement, string>();
  /** Where the first step that failed is. */
  failedLine: number | undefined;

  constructor(log: StatusLog, source: Vertex) {
    this.#log = log;
    this.#source = source;
  }

  begin(_globals: readonly Statement[], stages: readonly Stage[]): void {
    for (const [at, stage] of stages.entries()) {
      const told = [stage.from, ...stage.statements].filter(({ name }) => TOLD.includes(name));
      const prefix = stages.length === 1 ? '' : `${stage.name || `stage-${at}`} `;
      for (const [place, statement] of told.entries())
        this.#names.set(statement, `[${prefix}${place + 1}/${told.length}] ${statement.original}`);
    }
  }

  warn(text: string): void {
    this.#source.warn(text.replace(/^\[warning\]:? */i, ''));
  }

  step(statement: Statement): StepReport {
    const name = this.#names.get(statement);
    const failed = (): void => {
      if (statement.line > 0) this.failedLine ??= statement.line;
    };
    if (name === undefined) return { ...SILENT, failed };
    const vertex = this.#log.vertex(name);
    return {
      progress: (line) => pulled(vertex, line),
      output: (isError, text) => vertex.output(isError, text),
      note: () => undefined,
      cached: () => vertex.cached(),
      done: () => vertex.end(),
      failed: (error) => {
        failed();
        vertex.end(reasonOf(error));
      },
    };
  }

  image(): void {
    // told when it is exported
  }
}

/** A line of a pull: a layer on its way. */
function pulled(vertex: Vertex, { id, status, progressDetail }: ProgressLine): void {
  if (id === undefined || status === undefined || !/^[0-9a-f]{12}$/.test(id)) return;
  const { current = 0, total = 0 } = progressDetail ?? {};
  vertex.part(
    `${status === 'Extracting' ? 'extracting' : 'sha256:'}${id}`,
    current,
    total,
    /complete|exists/.test(status),
  );
}
