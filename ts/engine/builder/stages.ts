/** A Dockerfile as stages, every instruction checked before the first one is carried out. */
import { cleaned } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import { jsonList } from '../images/instructions.ts';
import { type Lookup, rawWords, resolve } from '../images/variables.ts';
import { type Dockerfile, parseError, type Statement, statementOf } from './dockerfile.ts';
import { suggestion } from './suggestion.ts';

export interface Stage {
  from: Statement;
  /** As written, with its variables. */
  base: string;
  /** In small letters; '' for none. */
  name: string;
  platform: string;
  statements: Statement[];
}

export interface Plan {
  /** ARG before the first FROM. */
  args: Statement[];
  stages: Stage[];
}

type FlagKind = 'text' | 'list' | 'bool';

const WRITTEN_AS: Record<string, FlagKind> = { chown: 'text', chmod: 'text', link: 'bool', exclude: 'list' };
const FLAGS: Record<string, Record<string, FlagKind>> = {
  FROM: { platform: 'text' },
  ADD: { ...WRITTEN_AS, checksum: 'text', 'keep-git-dir': 'bool', unpack: 'bool' },
  COPY: { ...WRITTEN_AS, from: 'text', parents: 'bool' },
  RUN: { mount: 'list', network: 'text', security: 'text' },
  HEALTHCHECK: {
    interval: 'text',
    timeout: 'text',
    'start-period': 'text',
    'start-interval': 'text',
    retries: 'text',
  },
};

const PLAIN = 'ARG CMD ENTRYPOINT ENV EXPOSE LABEL MAINTAINER ONBUILD SHELL STOPSIGNAL USER VOLUME WORKDIR'.split(' ');
const EXACTLY_ONE = ['MAINTAINER', 'STOPSIGNAL', 'USER', 'WORKDIR'];
const AT_LEAST_ONE = ['ADD', 'ARG', 'COPY', 'ENV', 'EXPOSE', 'HEALTHCHECK', 'LABEL', 'ONBUILD', 'VOLUME'];
const STAGE_NAME = /^[a-z][a-z0-9-_.]*$/;

/** The values of `--name=value`; a list for those that may come more than once. */
export function flagsOf({ name, flags, line }: Statement): Map<string, string[]> {
  const values = new Map<string, string[]>();
  for (const flag of flags) {
    const at = flag.indexOf('=');
    const [shown, value] = at < 0 ? [flag, undefined] : [flag.slice(0, at), flag.slice(at + 1)];
    const key = shown.slice(2);
    const kind = FLAGS[name]?.[key];
    if (kind === undefined)
      throw parseError(line, `unknown flag: ${shown}${meant(key, Object.keys(FLAGS[name] ?? {}))}`);
    if (values.has(key) && kind !== 'list') throw parseError(line, `duplicate flag specified: ${shown}`);
    if (value === '' ? kind === 'bool' : value === undefined && kind !== 'bool')
      throw parseError(line, `missing a value on flag: ${shown}`);
    if (kind === 'bool' && !/^(true|false)?$/i.test(value ?? ''))
      throw parseError(line, `expecting boolean value for flag ${shown}, not: ${value}`);
    values.set(key, [...(values.get(key) ?? []), value ?? 'true']);
  }
  return values;
}

export function stagesOf({ statements }: Dockerfile): Plan {
  const plan: Plan = { args: [], stages: [] };
  for (const statement of statements) {
    check(statement);
    const stage = plan.stages.at(-1);
    if (statement.name === 'FROM') {
      plan.stages.push(begin(statement));
    } else if (stage !== undefined) stage.statements.push(statement);
    else if (statement.name === 'ARG') plan.args.push(statement);
    else throw parseError(statement.line, 'no build stage in current context');
  }
  if (plan.stages.length === 0) throw new CaissonError('InvalidParameter', 'dockerfile contains no stages to build');
  return plan;
}

/** What an image asks of those that are built from it. */
export function trigger(text: string): Statement {
  const [, name = '', rest = ''] = /^\s*(\S+)\s*([\s\S]*)$/.exec(text) ?? [];
  const flags = [...(/^(?:--\S+\s+)+/.exec(rest)?.[0] ?? '').matchAll(/--\S+/g)].map(([flag]) => flag);
  const plain = rest.replace(/^(?:--\S+\s+)+/, '');
  const parts = { name: name.toUpperCase(), flags, text: plain.trim(), original: text };
  const statement = statementOf({ line: 1, endLine: 1, ...parts });
  check(statement);
  return statement;
}

/** A close name, in the case of what was written. */
export function meant(written: string, among: readonly string[]): string {
  const close = suggestion(
    written.toLowerCase(),
    among.map((name) => name.toLowerCase()),
  );
  if (close === undefined) return '';
  return ` (did you mean ${written === written.toUpperCase() ? close.toUpperCase() : close}?)`;
}

/** Throws what can be known to be wrong without carrying it out. */
function check(statement: Statement): void {
  const { name, keyword, line, text } = statement;
  if (!(name in FLAGS) && !PLAIN.includes(name))
    throw parseError(line, `unknown instruction: ${keyword}${meant(keyword, [...Object.keys(FLAGS), ...PLAIN])}`);
  const flags = flagsOf(statement);
  if (AT_LEAST_ONE.includes(name) && text === '') throw parseError(line, `${name} requires at least one argument`);
  // one with spaces in it is one all the same, where it is quoted or a path
  if (EXACTLY_ONE.includes(name) && text === '') throw parseError(line, `${name} requires exactly one argument`);
  if (['STOPSIGNAL', 'USER'].includes(name) && /\s/.test(text.replace(/"[^"]*"|'[^']*'|\$\{[^}]*\}/g, '')))
    throw parseError(line, `${name} requires exactly one argument`);
  if ((name === 'ADD' || name === 'COPY') && pathsOf(text).length < 2)
    throw parseError(
      line,
      `${name} requires at least two arguments, but only one was provided. Destination could not be determined`,
    );
  if (name === 'RUN' && text === '') throw parseError(line, 'RUN requires at least one argument');
  if (name === 'SHELL' && (jsonList(text) ?? []).length === 0)
    throw parseError(
      line,
      text.startsWith('[') ? 'SHELL requires at least one argument' : 'SHELL requires the arguments to be in JSON form',
    );
  if (name === 'VOLUME' && (jsonList(text) ?? [text]).some((path) => path.trim() === ''))
    throw parseError(line, 'VOLUME specified can not be an empty string');
  if (name === 'ARG' && /(^|\s)=/.test(text)) throw parseError(line, 'ARG names can not be blank');
  if (name === 'ENV' || name === 'LABEL') checkPairs(name, text, line);
  if (name === 'ONBUILD') checkTrigger(text, line);
  const network = flags.get('network')?.[0];
  if (network !== undefined && !['default', 'none', 'host'].includes(network))
    throw parseError(line, `invalid network mode ${JSON.stringify(network)}`);
  const security = flags.get('security')?.[0];
  if (security !== undefined && security !== 'sandbox')
    throw parseError(line, `RUN --security=${security} is not supported: every step runs confined`);
}

function checkPairs(name: string, text: string, line: number): void {
  const [first = '', ...others] = rawWords(text);
  if (!first.includes('=')) {
    if (others.length === 0) throw parseError(line, `${name} must have two arguments`);
    return;
  }
  for (const word of [first, ...others]) {
    if (!word.includes('='))
      throw parseError(line, `Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`);
    if (word.startsWith('=')) throw parseError(line, `${name} names can not be blank`);
  }
}

function checkTrigger(text: string, line: number): void {
  const name = (text.split(/\s/)[0] ?? '').toUpperCase();
  if (name === 'ONBUILD') throw parseError(line, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (name === 'MAINTAINER' || name === 'FROM') throw parseError(line, `${name} isn't allowed as an ONBUILD trigger`);
}

function begin(from: Statement): Stage {
  const words = from.text.split(/\s+/);
  const [base = '', as = '', given = ''] = words;
  const isNamed = words.length === 3 && as.toLowerCase() === 'as';
  if (!isNamed && (words.length !== 1 || base === ''))
    throw parseError(from.line, 'FROM requires either one or three arguments');
  const name = given.toLowerCase();
  if (isNamed && !STAGE_NAME.test(name))
    throw parseError(
      from.line,
      `invalid name for build stage: ${JSON.stringify(given)}, name can't start with a number or contain symbols`,
    );
  return { from, base, name, platform: flagsOf(from).get('platform')?.[0] ?? '', statements: [] };
}

/** Sources and destination of ADD and COPY: a JSON list, or words. */
export function pathsOf(text: string): string[] {
  return jsonList(text) ?? rawWords(text);
}

/** Of two stages of one name, the second. */
export const namedTwice = (stages: readonly Stage[]): Stage | undefined =>
  stages.find(({ name }, at) => name !== '' && stages.findIndex((one) => one.name === name) < at);

/** The place of a stage in the list, by its name (of two, the later one) or number; -1 when there is none. */
export function findStage(stages: readonly Stage[], target: string): number {
  const byName = stages.findLastIndex(({ name }) => name !== '' && name === target.toLowerCase());
  if (byName >= 0) return byName;
  return /^\d+$/.test(target) && Number(target) < stages.length ? Number(target) : -1;
}

/** Those that the target is made of, itself among them; '' for the last one. */
export function needed(stages: readonly Stage[], target: string, lookup: Lookup): Stage[] {
  const found = new Set<Stage>();
  const visit = (at: number): void => {
    const stage = stages[at];
    if (stage === undefined || found.has(stage)) return;
    found.add(stage);
    for (const name of [resolve(stage.base, lookup), ...namesIn(stage.statements)])
      visit(findStage(stages.slice(0, at), name));
  };
  visit(target === '' ? stages.length - 1 : findStage(stages, target));
  return [...found];
}

/** The names of what instructions take from others, as far as they can be read off. */
export const namesIn = (statements: readonly Statement[]): string[] =>
  statements
    .flatMap(({ flags }) => flags)
    .flatMap((flag) => /^--(?:from|mount=(?:.*,)?from)=([^,]+)/.exec(flag)?.[1] ?? []);

/** What is taken out of the context, or of the one that `isFrom` names, as far as it can be read off; undefined: perhaps anything. */
export function pathsIn(
  statements: readonly Statement[],
  isFrom: (name: string | undefined) => boolean = (name) => name === undefined,
): string[] | undefined {
  const paths = new Set<string>();
  for (const { name, flags, text } of statements) {
    if (name === 'FROM' && isFrom(text.split(/\s/)[0] ?? '')) paths.add('');
    const from = flags.flatMap((flag) => /^--from=(.*)/.exec(flag)?.[1] ?? [])[0];
    if ((name === 'COPY' || name === 'ADD') && isFrom(from))
      for (const path of pathsOf(text).slice(0, -1)) if (!/^(<<|https?:\/\/)/.test(path)) paths.add(path);
    if (name !== 'RUN') continue;
    for (const flag of flags)
      if (/^--mount=(?!.*type=(?!bind))/.test(flag) && isFrom(/[=,]from=([^,]+)/.exec(flag)?.[1]))
        paths.add(/[=,](?:source|src)=([^,]+)/.exec(flag)?.[1] ?? '.');
  }
  const all = [...paths].map(cleaned);
  return all.some((path) => path === '' || /[$\\]/.test(path)) ? undefined : all;
}

/** `--label`, as instructions at the end. */
export function labelsOf(labels: Record<string, string>): Statement[] {
  return Object.entries(labels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => {
      const quoted = (part: string): string => `'${part.replace(/'/g, `'"'"'`)}'`;
      const text = `${quoted(key)}=${quoted(value)}`;
      return statementOf({ name: 'LABEL', text, original: `LABEL ${key}=${value}` });
    });
}
