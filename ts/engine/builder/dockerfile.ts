/**
 * The text of a Dockerfile as instructions: directives, comments, continued lines, flags and here-documents. What an
 * instruction means is in steps.ts.
 */
import { CaissonError } from '../../errdefs.ts';

/** Of BuildKit, whose Dockerfiles and protocol are spoken here, as far as builder/ and buildkit/ say. */
export const BUILDKIT_VERSION = 'v0.25.1';

export interface Heredoc {
  /** The word that began it, without quotes. */
  name: string;
  content: string;
  /** Quoted: variables in it stay as they are. */
  literal: boolean;
}

/** One instruction as it is written. */
export interface Statement {
  /** Where it begins, from 1; 0 for one that the request added. */
  line: number;
  endLine: number;
  /** In capitals. */
  name: string;
  /** The name as it is written. */
  keyword: string;
  /** The lines of a comment right above. */
  comment: string[];
  /** `--chown=1:1` */
  flags: string[];
  /** All behind the flags. */
  text: string;
  /** For people: the whole of it on one line, as in the Dockerfile. */
  original: string;
  heredocs: Heredoc[];
}

export interface Dockerfile {
  text: string;
  statements: Statement[];
  /** The character that continues a line and quotes another one. */
  escapeSign: '\\' | '`';
  warnings: string[];
  /** Instructions that go on over an empty line. */
  emptyContinuations: Pick<Statement, 'line' | 'endLine'>[];
}

/** An instruction that stands in no file. */
export const statementOf = (one: Pick<Statement, 'name' | 'text' | 'original'> & Partial<Statement>): Statement => ({
  line: 0,
  endLine: 0,
  keyword: one.name,
  comment: [],
  flags: [],
  heredocs: [],
  ...one,
});

export function parseError(line: number, reason: string): CaissonError {
  return new CaissonError('InvalidParameter', `dockerfile parse error on line ${line}: ${reason}`, {
    code: 'DOCKERFILE_INVALID',
  });
}

const DIRECTIVE = /^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$/;
const HEREDOC = /(?<=^|\s)(\d*)<<(-?)(?:(["'])([^"'<\s]+)\3|([^"'<\s]+))/g;
const HAVE_HEREDOCS = ['ADD', 'COPY', 'RUN'];

/** Throws with the line and the reason. */
export function parseDockerfile(bytes: string): Dockerfile {
  const lines = bytes.replace(/^\uFEFF/, '').split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  const escapeSign = escapeOf(lines);
  const continued = escapeSign === '`' ? /`[ \t]*$/ : /\\[ \t]*$/;
  const statements: Statement[] = [];
  const warnings: string[] = [];
  const emptyContinuations: Dockerfile['emptyContinuations'] = [];
  let comment: string[] = [];
  for (let at = 0; at < lines.length; ) {
    const line = at + 1;
    let text = (lines[at++] ?? '').trimStart();
    if (text === '' || text.startsWith('#')) {
      const said = text.replace(/^#/, '').trim();
      comment = said === '' ? [] : [...comment, said];
      continue;
    }
    let isEmptySeen = false;
    while (continued.test(text)) {
      text = text.replace(continued, '');
      let next = lines[at++];
      while (next !== undefined && (next.trim() === '' || next.trimStart().startsWith('#'))) {
        isEmptySeen ||= next.trim() === '';
        next = lines[at++];
      }
      if (next === undefined) break;
      text += next;
    }
    const endLine = Math.min(at, lines.length);
    if (isEmptySeen) {
      warnings.push(`[WARNING]: Empty continuation line found in:\n    ${text}`);
      emptyContinuations.push({ line: endLine, endLine });
    }
    const statement = { ...split(text.trimEnd()), line, endLine, comment };
    comment = [];
    if (HAVE_HEREDOCS.includes(statement.name)) at = takeHeredocs(statement, lines, at);
    statement.endLine = Math.max(endLine, at);
    statements.push(statement);
  }
  if (isNone(statements)) throw new CaissonError('InvalidParameter', 'file with no instructions');
  if (warnings.length > 0) warnings.push('[WARNING]: Empty continuation lines will become errors in a future release.');
  return { text: bytes, statements, escapeSign, warnings, emptyContinuations };
}

const isNone = (list: readonly unknown[]): boolean => list.length === 0;

const DIRECTIVES = ['escape', 'syntax', 'check'];

/** They stand before everything else. */
function directives(lines: readonly string[]): { line: number; name: string; value: string }[] {
  const found = [];
  for (const [at, line] of lines.entries()) {
    const [, key = '', value = ''] = DIRECTIVE.exec(line) ?? [];
    const name = key.toLowerCase();
    if (!DIRECTIVES.includes(name)) break;
    found.push({ line: at + 1, name, value });
  }
  return found;
}

/** `# syntax=…` and the like. */
export const directiveOf = (text: string, name: string): string | undefined =>
  directives(text.replace(/^\uFEFF/, '').split(/\r?\n/)).find((one) => one.name === name)?.value;

function escapeOf(lines: readonly string[]): '\\' | '`' {
  const found = directives(lines);
  const twice = found.find(({ name }, at) => found.findIndex((one) => one.name === name) < at);
  if (twice !== undefined) throw parseError(twice.line, `only one ${twice.name} parser directive can be used`);
  const given = found.find(({ name }) => name === 'escape');
  if (given !== undefined && given.value !== '\\' && given.value !== '`')
    throw parseError(given.line, `invalid escape token '${given.value}' does not match \` or \\`);
  return given?.value === '`' ? '`' : '\\';
}

function split(original: string): Statement {
  const [, name = '', rest = ''] = /^(\S+)\s*([\s\S]*)$/.exec(original) ?? [];
  const flags: string[] = [];
  let text = rest;
  for (;;) {
    const word = /^--\S*/.exec(text)?.[0];
    if (word === undefined) break;
    text = text.slice(word.length).trimStart();
    if (word === '--') break;
    flags.push(word);
  }
  return statementOf({ name: name.toUpperCase(), keyword: name, flags, text: text.trim(), original });
}

/** Returns the line behind them. */
function takeHeredocs(statement: Statement, lines: readonly string[], from: number): number {
  let at = from;
  for (const match of statement.text.matchAll(HEREDOC)) {
    if (isQuoted(statement.text.slice(0, match.index))) continue;
    const [, , dash, quote, quoted, plain] = match;
    const name = quoted ?? plain ?? '';
    const content: string[] = [];
    for (;;) {
      const next = lines[at++];
      if (next === undefined) throw parseError(statement.line, 'unterminated heredoc');
      const own = dash === '-' ? next.replace(/^\t+/, '') : next;
      if (own === name) break;
      content.push(`${own}\n`);
    }
    statement.heredocs.push({ name, content: content.join(''), literal: quote !== undefined });
  }
  return at;
}

const isQuoted = (before: string): boolean =>
  (before.match(/"/g)?.length ?? 0) % 2 === 1 || (before.match(/'/g)?.length ?? 0) % 2 === 1;
