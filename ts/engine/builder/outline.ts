/** What a target may be given, and which targets there are: `docker build --call outline` and `--call targets`. */
import { posix } from 'node:path';
import type { Platform } from '../../oci.ts';
import { type Lookup, rawWords, resolve } from '../images/variables.ts';
import { BuildArgs, declare, platformArgs, type Scope } from './buildArgs.ts';
import type { Dockerfile, Statement } from './dockerfile.ts';
import { parseMount, resolvedMount } from './mountFlag.ts';
import { flagsOf, needed, type Stage, stagesOf } from './stages.ts';

type Lines = [number, number];

export interface OutlineArg {
  name: string;
  value: string;
  description: string;
  lines: Lines;
}

/** A secret, or an agent of `--ssh`. */
export interface OutlineLoan {
  name: string;
  required: boolean;
  lines: Lines;
}

export interface Outline {
  name: string;
  description: string;
  args: OutlineArg[];
  secrets: OutlineLoan[];
  agents: OutlineLoan[];
}

export interface Target {
  name: string;
  description: string;
  base: string;
  platform: string;
  isDefault: boolean;
  lines: Lines;
}

/** What a comment right above says of a name: `# NAME is …`. */
const saidOf = (name: string, { comment }: Statement): string =>
  comment.find((line) => line.toLowerCase().startsWith(`${name.toLowerCase()} `))?.slice(name.length + 1) ?? '';

const linesOf = ({ line, endLine }: Statement): Lines => [line, endLine];

export function targetsOf(dockerfile: Dockerfile): Target[] {
  const { stages } = stagesOf(dockerfile);
  return stages.map(({ name, base, platform, from }, at) => ({
    name,
    description: saidOf(name, from),
    base,
    platform,
    isDefault: at === stages.length - 1,
    lines: linesOf(from),
  }));
}

interface Request {
  /** '' for the last stage. */
  target: string;
  buildArgs: ReadonlyMap<string, string | null>;
  platform: Platform;
  hostPlatform: Platform;
}

export function outlineOf(dockerfile: Dockerfile, { target, buildArgs, platform, hostPlatform }: Request): Outline {
  const { args: globals, stages } = stagesOf(dockerfile);
  const args = new BuildArgs(buildArgs, platformArgs(platform, hostPlatform, target));
  const known = new Map<string, OutlineArg & { uses: Set<string> }>();
  for (const statement of globals) {
    const lookup: Lookup = (name) => args.global(name);
    for (const one of argsOf(statement, lookup, args.globalScope))
      known.set(one.name, { ...one, uses: new Set([...one.uses, ...(known.get(one.name)?.uses ?? [])]) });
  }
  const used = new Set<string>();
  const use = (name: string): string | undefined => {
    if (!used.has(name)) {
      used.add(name);
      for (const below of known.get(name)?.uses ?? []) use(below);
    }
    return args.global(name);
  };
  const wanted = needed(stages, target, (name) => args.global(name));
  const found: OutlineArg[] = [];
  const outline: Outline = { name: '', description: '', args: found, secrets: [], agents: [] };
  for (const stage of wanted) {
    resolve(stage.base, use);
    resolve(stage.platform, use);
    ofStage(stage, args.stage(), use, outline);
  }
  for (const name of used) {
    const arg = known.get(name);
    if (arg !== undefined && !found.some((one) => one.name === name)) found.push(arg);
  }
  const [last] = wanted;
  const inOrder = (a: { lines: Lines }, b: { lines: Lines }): number => a.lines[0] - b.lines[0];
  for (const list of [found, outline.secrets, outline.agents]) list.sort(inOrder);
  return { ...outline, name: last?.name ?? '', description: last === undefined ? '' : saidOf(last.name, last.from) };
}

function* argsOf(statement: Statement, lookup: Lookup, scope: Scope): Generator<OutlineArg & { uses: Set<string> }> {
  for (const word of rawWords(statement.text)) {
    const uses = new Set<string>();
    const noted: Lookup = (name) => {
      uses.add(name);
      return lookup(name);
    };
    declare({ text: word }, noted, scope);
    const name = word.replace(/=.*$/s, '');
    yield { name, value: lookup(name) ?? '', description: saidOf(name, statement), lines: linesOf(statement), uses };
  }
}

function ofStage(stage: Stage, own: BuildArgs, use: Lookup, { args, secrets, agents }: Outline): void {
  const lookup: Lookup = (name) => own.all().get(name);
  for (const statement of stage.statements) {
    if (statement.name === 'ARG')
      for (const { uses: _, ...arg } of argsOf(statement, lookup, own)) {
        // what is declared again without a default is the one above
        if (!rawWords(statement.text).includes(arg.name) || use(arg.name) === undefined) {
          const before = args.findIndex(({ name }) => name === arg.name);
          if (before >= 0) args.splice(before, 1);
          args.push(arg);
        }
      }
    if (statement.name !== 'RUN') continue;
    for (const flag of flagsOf(statement).get('mount') ?? []) {
      const fields = parseMount(resolvedMount(flag, lookup));
      const type = fields.get('type');
      const required = fields.has('required') && !/^(false|0)$/i.test(fields.get('required') ?? '');
      const lines = linesOf(statement);
      const target = fields.get('target') ?? '';
      if (type === 'secret')
        secrets.push({ name: fields.get('source') || fields.get('id') || posix.basename(target), required, lines });
      if (type === 'ssh') agents.push({ name: fields.get('id') || 'default', required, lines });
    }
  }
}
