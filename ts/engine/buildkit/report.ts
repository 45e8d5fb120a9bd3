/** A build's steps as vertices, by the names that BuildKit gives them. */

import { parseReference } from '../../reference.ts';
import type { Statement } from '../builder/dockerfile.ts';
import type { BuildReport, StepReport } from '../builder/report.ts';
import { findStage, type Stage } from '../builder/stages.ts';
import type { ProgressLine } from '../images/progress.ts';
import { type Lookup, shownWith } from '../images/variables.ts';
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
  readonly #images: Map<string, string>;
  readonly #names = new Map<Statement, (text: string) => string>();
  /** Where the first step that failed is. */
  failedLines: [number, number] | undefined;

  /** `images`: filled with what stages begin with, ids by whole names. */
  constructor(log: StatusLog, source: Vertex, images: Map<string, string>) {
    this.#log = log;
    this.#source = source;
    this.#images = images;
  }

  begin(_globals: readonly Statement[], stages: readonly Stage[]): void {
    for (const [at, stage] of stages.entries()) {
      // what begins with another stage or with nothing has no first step of its own
      const isImage = stage.base !== 'scratch' && findStage(stages.slice(0, at), stage.base) < 0;
      const own = isImage ? [stage.from, ...stage.statements] : stage.statements;
      const told = own.filter(({ name }) => TOLD.includes(name));
      const prefix = stages.length === 1 ? '' : `${stage.name || `stage-${at}`} `;
      for (const [place, statement] of told.entries())
        this.#names.set(statement, (text) => `[${prefix}${place + 1}/${told.length}] ${text}`);
    }
  }

  warn(text: string): void {
    this.#source.warn(text.replace(/^\[warning\]:? */i, ''));
  }

  step(statement: Statement, _stage?: Stage, lookup: Lookup = () => undefined): StepReport {
    const nameOf = this.#names.get(statement);
    const failed = (): void => {
      if (statement.line > 0) this.failedLines ??= [statement.line, statement.endLine];
    };
    if (nameOf === undefined) return { ...SILENT, failed };
    const shown = shownOf(statement, lookup);
    const vertex = this.#log.vertex(nameOf(shown));
    return {
      progress: (line) => pulled(vertex, line),
      output: (isError, text) => vertex.output(isError, text),
      note: () => undefined,
      cached: () => vertex.cached(),
      done: (id) => {
        if (statement.name === 'FROM' && id !== '') this.#images.set(shown.replace(/^FROM /, ''), id);
        vertex.end();
      },
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

/** With its variables, but for secrets; the image that a stage begins with by its whole name. */
function shownOf({ name, keyword, original, text, flags }: Statement, lookup: Lookup): string {
  if (name === 'FROM') return `FROM ${wholeName(shownWith(text.split(/\s/)[0] ?? '', lookup))}`;
  const secrets = flags.flatMap((flag) => /^--mount=(?=.*type=secret).*?\benv=(\w+)/.exec(flag)?.[1] ?? []);
  const seen: Lookup = (key) => (secrets.includes(key) ? '****' : lookup(key));
  return `${name}${shownWith(original.slice(keyword.length), seen)}`;
}

function wholeName(text: string): string {
  try {
    const { domain, path, tag = 'latest', digest } = parseReference(text);
    return `${domain}/${path}${digest === undefined ? `:${tag}` : `@${digest}`}`;
  } catch {
    return text;
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
