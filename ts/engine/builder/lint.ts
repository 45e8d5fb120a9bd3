/** What a Dockerfile should not have: the checks of BuildKit, by its names (`docker build --check`, and a warning at each build). */
import { ignoring } from '../../dockerignore.ts';
import type { Platform } from '../../oci.ts';
import { parseReference } from '../../reference.ts';
import { jsonList } from '../images/instructions.ts';
import { parsePlatform, runsOn } from '../images/platform.ts';
import { type Lookup, rawWords, resolve } from '../images/variables.ts';
import { BuildArgs, declare, platformArgs } from './buildArgs.ts';
import { contextName } from './builder.ts';
import type { Dockerfile, Statement } from './dockerfile.ts';
import { isChecked, type LintOptions, type LintWarning, pageOf, RULES, type Rule } from './lintRules.ts';
import { flagsOf, needed, pathsOf, type Stage, stagesOf } from './stages.ts';
import { suggestion } from './suggestion.ts';

/** What is known beyond the Dockerfile. */
export interface LintFacts {
  /** '' for the last stage. */
  target: string;
  /** Stages that the target does not need are looked at too. */
  allStages: boolean;
  buildArgs: ReadonlyMap<string, string | null>;
  platform: Platform;
  hostPlatform: Platform;
  /** Of an image that is a base; undefined when it is not known here. */
  baseOf: (name: string) => { env: readonly string[]; shell: boolean; platform: Platform } | undefined;
  /** Of `.dockerignore`. */
  ignored: readonly string[];
}

export function lint(dockerfile: Dockerfile, options: LintOptions, facts: LintFacts): LintWarning[] {
  const linter = new Linter(facts);
  linter.run(dockerfile);
  return linter.found.filter(({ rule }) => isChecked(rule, options));
}

const SECRET = /(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)/i;
const NO_SECRET = /(?:_|^)public(?:_|$)/i;
const EXPANDED = ['ADD', 'ARG', 'COPY', 'ENV', 'EXPOSE', 'LABEL', 'STOPSIGNAL', 'USER', 'VOLUME', 'WORKDIR'];
const ONCE = ['CMD', 'ENTRYPOINT', 'HEALTHCHECK'];

/** What is known of a stage behind its last instruction. */
interface StageState {
  /** Undefined: of its base nothing is known. */
  variables: Map<string, string> | undefined;
  declared: Set<string>;
  hasShell: boolean;
  hasWorkdir: boolean;
}

class Linter {
  readonly found: LintWarning[] = [];
  readonly #facts: LintFacts;
  readonly #states = new Map<Stage, StageState>();

  constructor(facts: LintFacts) {
    this.#facts = facts;
  }

  run(dockerfile: Dockerfile): void {
    for (const lines of dockerfile.emptyContinuations)
      this.#warn('NoEmptyContinuation', lines, 'Empty continuation line');
    let plan: ReturnType<typeof stagesOf>;
    try {
      plan = stagesOf(dockerfile);
    } catch (error) {
      // what stands before the error has its warnings all the same
      const line = Number(/ on line (\d+)/.exec((error as Error).message)?.[1]);
      for (const statement of dockerfile.statements) if (statement.line < line) this.#written(statement);
      return;
    }
    for (const statement of dockerfile.statements) this.#written(statement);
    this.#casing(dockerfile.statements);
    this.#names(plan.stages);
    const { buildArgs, platform, hostPlatform, target } = this.#facts;
    const platforms = platformArgs(platform, hostPlatform, target);
    const args = new BuildArgs(buildArgs, platforms);
    const byDefault = new BuildArgs(new Map(), platforms);
    for (const statement of plan.args)
      for (const one of [args, byDefault])
        attempt(() => declare(statement, (name) => one.global(name), one.globalScope));
    const lookup: Lookup = (name) => args.global(name);
    const reached = (): Stage[] => needed(plan.stages, this.#facts.target, lookup);
    const wanted = this.#facts.allStages ? plan.stages : (attempt(reached) ?? []);
    for (const stage of plan.stages) this.#from(stage, args, byDefault);
    for (const stage of plan.stages) if (wanted.includes(stage)) this.#stage(stage, plan.stages, args);
  }

  #warn(rule: Rule, at: Pick<Statement, 'line' | 'endLine'>, detail: string): void {
    this.found.push({ rule, description: RULES[rule], url: pageOf(rule), detail, lines: [at.line, at.endLine] });
  }

  /** What can be seen of an instruction by itself. */
  #written(statement: Statement): void {
    const { name, keyword, text, comment } = statement;
    if (name === 'MAINTAINER')
      this.#warn('MaintainerDeprecated', statement, 'Maintainer instruction is deprecated in favor of using label');
    const words = text.split(/\s+/);
    if (name === 'FROM' && words.length === 3) {
      const [, as = '', stage = ''] = words;
      if (stage !== stage.toLowerCase())
        this.#warn('StageNameCasing', statement, `Stage name '${stage}' should be lowercase`);
      const isLower = keyword === keyword.toLowerCase();
      const isMixed = !isLower && keyword !== keyword.toUpperCase();
      if (!isMixed && as !== (isLower ? as.toLowerCase() : as.toUpperCase()))
        this.#warn('FromAsCasing', statement, `'${as}' and '${keyword}' keywords' casing do not match`);
      this.#description(statement, 'FROM', [stage.toLowerCase()], comment);
    }
    if (name === 'ARG')
      this.#description(
        statement,
        'ARG',
        rawWords(text).map((word) => word.replace(/=.*$/s, '')),
        comment,
      );
  }

  #description(statement: Statement, name: string, keys: readonly string[], comment: readonly string[]): void {
    const last = comment.at(-1);
    if (last === undefined || keys.includes(last.split(' ')[0] ?? '')) return;
    const example = keys.length > 1 ? '<arg_key>' : keys[0];
    this.#warn(
      'InvalidDefinitionDescription',
      statement,
      `Comment for ${name} should follow the format: \`# ${example} <description>\``,
    );
  }

  #casing(statements: readonly Statement[]): void {
    const inStages = statements.slice(statements.findIndex(({ name }) => name === 'FROM'));
    const isLower = ({ keyword }: Statement): boolean => keyword === keyword.toLowerCase();
    const isUpper = ({ keyword }: Statement): boolean => keyword === keyword.toUpperCase();
    const wantsLower = inStages.filter(isLower).length > inStages.filter(isUpper).length;
    for (const statement of inStages.filter(wantsLower ? (one) => !isLower(one) : (one) => !isUpper(one)))
      this.#warn(
        'ConsistentInstructionCasing',
        statement,
        `Command '${statement.keyword}' should match the case of the command majority (${wantsLower ? 'lowercase' : 'uppercase'})`,
      );
  }

  #names(stages: readonly Stage[]): void {
    const seen = new Set<string>();
    for (const { name, from } of stages) {
      if (name === 'scratch' || name === 'context')
        this.#warn(
          'ReservedStageName',
          from,
          `Stage name should not use the same name as reserved stage ${JSON.stringify(name)}`,
        );
      if (name !== '' && seen.has(name))
        this.#warn(
          'DuplicateStageName',
          from,
          `Duplicate stage name ${JSON.stringify(name)}, stage names should be unique`,
        );
      seen.add(name);
    }
  }

  #from({ from, base, platform, name }: Stage, args: BuildArgs, byDefault: BuildArgs): void {
    const missing = new Set<string>();
    const used = new Set<string>();
    const lookup: Lookup = (key) => {
      used.add(key);
      const value = args.global(key);
      if (value === undefined && !args.isGlobal(key)) missing.add(key);
      return value;
    };
    attempt(() => resolve(base, lookup));
    used.clear();
    attempt(() => resolve(platform, lookup));
    for (const key of missing)
      this.#warn('UndefinedArgInFrom', from, `FROM argument '${key}' is not declared${hint(key, args.globals(), '')}`);
    if (/^\$(TARGETPLATFORM|\{TARGETPLATFORM\})$/.test(platform))
      this.#warn(
        'RedundantTargetPlatform',
        from,
        `Setting platform to predefined ${platform} in FROM is redundant as this is the default behavior`,
      );
    const constant =
      used.size > 0 || platform === '' ? undefined : attempt(() => parsePlatform(platform, this.#facts.hostPlatform));
    if (constant && !name.includes(constant.os) && !name.includes(constant.architecture))
      this.#warn(
        'FromPlatformFlagConstDisallowed',
        from,
        `FROM --platform flag should not use constant value ${JSON.stringify(platform)}`,
      );
    const isName = attempt(() => parseReference(resolve(base, (key) => byDefault.global(key)))) !== undefined;
    if (!isName)
      this.#warn(
        'InvalidDefaultArgInFrom',
        from,
        `Default value for ARG ${base} results in empty or invalid base image name`,
      );
  }

  #stage(stage: Stage, stages: readonly Stage[], args: BuildArgs): StageState {
    const done = this.#states.get(stage);
    if (done !== undefined) return done;
    const state = this.#begin(stage, stages, args);
    this.#states.set(stage, state);
    const own = args.stage();
    const last = new Map<string, Statement>();
    for (const statement of stage.statements) {
      if (statement.line === 0) continue;
      this.#expanded(statement, state);
      this.#instruction(statement, state);
      if (statement.name === 'ARG') {
        attempt(() => declare(statement, (key) => state.variables?.get(key), own));
        for (const word of rawWords(statement.text)) state.declared.add(word.replace(/=.*$/s, ''));
        for (const [key, value] of own.all()) if (!state.variables?.has(key)) state.variables?.set(key, value);
      }
      if (!ONCE.includes(statement.name)) continue;
      const before = last.get(statement.name);
      if (before !== undefined)
        this.#warn(
          'MultipleInstructionsDisallowed',
          before,
          `Multiple ${statement.keyword} instructions should not be used in the same stage because only the last one will be used`,
        );
      last.set(statement.name, statement);
    }
    return state;
  }

  #begin(stage: Stage, stages: readonly Stage[], args: BuildArgs): StageState {
    const name = attempt(() => resolve(stage.base, (key) => args.global(key))) ?? '';
    const above = stages.findLast((one, place) => place < stages.indexOf(stage) && one.name === name.toLowerCase());
    if (above !== undefined && name !== '') {
      const { variables, declared, hasShell, hasWorkdir } = this.#stage(above, stages, args);
      return { variables: variables && new Map(variables), declared: new Set(declared), hasShell, hasWorkdir };
    }
    const nothing = { env: [], shell: false, platform: this.#facts.platform };
    const base = name === 'scratch' ? nothing : this.#facts.baseOf(contextName(name));
    const asked = attempt(() =>
      parsePlatform(
        resolve(stage.platform, (key) => args.global(key)),
        this.#facts.hostPlatform,
      ),
    );
    const wanted = asked ?? this.#facts.platform;
    if (base !== undefined && !runsOn(base.platform, wanted))
      this.#warn(
        'InvalidBaseImagePlatform',
        stage.from,
        `Base image ${name} was pulled with platform ${shown(base.platform)}, expected ${shown(wanted)} for current build`,
      );
    const entries = base?.env.map((entry): [string, string] => {
      const [, key = '', value = ''] = /^([^=]*)=?(.*)$/s.exec(entry) ?? [];
      return [key, value];
    });
    const variables = entries && new Map([['PATH', '/usr/bin'], ...entries]);
    return { variables, declared: new Set(), hasShell: base?.shell ?? false, hasWorkdir: false };
  }

  /** Variables that are not there. */
  #expanded(statement: Statement, { variables, declared }: StageState): void {
    if (!EXPANDED.includes(statement.name) || variables === undefined) return;
    const missing = new Set<string>();
    const lookup: Lookup = (key) => {
      if (!variables.has(key) && !declared.has(key)) missing.add(key);
      return variables.get(key);
    };
    const flags = statement.flags.map((flag) => flag.replace(/^--[^=]*=?/, ''));
    for (const text of [statement.text, ...flags]) attempt(() => resolve(text, lookup));
    for (const key of missing)
      this.#warn(
        'UndefinedVar',
        statement,
        `Usage of undefined variable '$${key}'${hint(key, [...variables.keys()], '$')}`,
      );
  }

  #instruction(statement: Statement, state: StageState): void {
    const { name, keyword, text } = statement;
    switch (name) {
      case 'ENV':
      case 'LABEL': {
        const words = rawWords(text);
        const isLegacy = words[0]?.includes('=') !== true;
        if (isLegacy)
          this.#warn(
            'LegacyKeyValueFormat',
            statement,
            `"${keyword} key=value" should be used instead of legacy "${keyword} key value" format`,
          );
        if (name === 'LABEL') return;
        const keys = isLegacy ? words.slice(0, 1) : words.map((word) => word.replace(/=.*$/s, ''));
        for (const key of keys) state.variables?.set(key, text);
        this.#secrets('ENV', keys, statement);
        return;
      }
      case 'ARG':
        this.#secrets(
          'ARG',
          rawWords(text).map((word) => word.replace(/=.*$/s, '')),
          statement,
        );
        return;
      case 'SHELL':
        state.hasShell = true;
        return;
      case 'WORKDIR':
        if (!state.hasWorkdir && !text.startsWith('/') && !text.startsWith('$'))
          this.#warn(
            'WorkdirRelativePath',
            statement,
            `Relative workdir ${JSON.stringify(text)} can have unexpected results if the base image changes`,
          );
        state.hasWorkdir = true;
        return;
      case 'CMD':
      case 'ENTRYPOINT':
        if (jsonList(text) === undefined && !state.hasShell)
          this.#warn(
            'JSONArgsRecommended',
            statement,
            `JSON arguments recommended for ${keyword} to prevent unintended behavior related to OS signals`,
          );
        return;
      case 'EXPOSE':
        this.#ports(statement);
        return;
      case 'ADD':
      case 'COPY':
        this.#ignoredFiles(statement);
    }
  }

  #secrets(name: string, keys: readonly string[], statement: Statement): void {
    for (const key of keys)
      if (SECRET.test(key) && !NO_SECRET.test(key))
        this.#warn(
          'SecretsUsedInArgOrEnv',
          statement,
          `Do not use ARG or ENV instructions for sensitive data (${name} ${JSON.stringify(key)})`,
        );
  }

  #ports(statement: Statement): void {
    for (const port of rawWords(statement.text)) {
      const [, protocol = ''] = /\/([^/]*)$/.exec(port) ?? [];
      if (protocol !== protocol.toLowerCase())
        this.#warn(
          'ExposeProtoCasing',
          statement,
          `Defined protocol '${port}' in EXPOSE instruction should be lowercase`,
        );
      if (/:/.test(port.replace(/\$\{[^}]*\}/g, '')))
        this.#warn(
          'ExposeInvalidFormat',
          statement,
          `EXPOSE instruction should not define an IP address or host-port mapping, found '${port}'`,
        );
    }
  }

  #ignoredFiles(statement: Statement): void {
    if (flagsOf(statement).has('from')) return;
    const isIgnored = ignoring(this.#facts.ignored);
    for (const path of pathsOf(statement.text).slice(0, -1))
      if (!/^(<<|https?:\/\/)/.test(path) && isIgnored(path))
        this.#warn(
          'CopyIgnoredFile',
          statement,
          `Attempting to ${statement.name === 'ADD' ? 'Add' : 'Copy'} file ${JSON.stringify(path)} that is excluded by .dockerignore`,
        );
  }
}

const shown = ({ os, architecture }: Platform): string => JSON.stringify(`${os}/${architecture}`);

function hint(name: string, among: readonly string[], sign: string): string {
  const close = suggestion(name, among);
  return close === undefined ? '' : ` (did you mean ${sign}${close}?)`;
}

/** Undefined when it is wrong in itself, of which the build will tell. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
