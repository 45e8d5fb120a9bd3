/** What each instruction does: to the config at once, to the files when its turn has come. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { ruleOf } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ImageRunConfig, Platform } from '../../oci.ts';
import type { CreateBody, MountBody } from '../api/schemas/containers.ts';
import { parseSignal } from '../containers/signals.ts';
import { layersOf } from '../containers/spawn.ts';
import type { Engine } from '../engine.ts';
import { applyInstruction, command, jsonList, mergeEnv, pairs, shellOf } from '../images/instructions.ts';
import type { UsableImage } from '../images/names.ts';
import { type Lookup, rawWords, resolve, words } from '../images/variables.ts';
import { type BuildArgs, declare } from './buildArgs.ts';
import type { BuildInputs, BuildOptions } from './builder.ts';
import type { BuildContext } from './context.ts';
import { type CopyItem, hashOfItems, LayerDraft, modeOf, ownerOf } from './copy.ts';
import { copyItems, type SourceOptions } from './copyItems.ts';
import { type Heredoc, parseError, type Statement } from './dockerfile.ts';
import { resolvedMount } from './mountFlag.ts';
import { type StepMounts, stepMounts } from './mounts.ts';
import type { StepReport } from './report.ts';
import type { StepContainers } from './run.ts';
import { flagsOf, pathsOf } from './stages.ts';
import { missingIn, removeStubs } from './stubs.ts';
import { imageView } from './view.ts';

/** The build's state in one stage. */
export interface State {
  image: UsableImage | null;
  config: ImageRunConfig;
  author: string;
  /** CMD stood in this stage: an ENTRYPOINT behind it leaves it. */
  isCommandSet: boolean;
  /** One step was not known from before: nothing behind it is. */
  isAnew: boolean;
  args: BuildArgs;
}

export interface Change {
  /** The command as Docker notes it in the history; the cache goes by it. */
  createdBy: string;
  /** Resolves with the directory of changed files; absent when none change. */
  make?: () => Promise<string>;
}

export interface StepsParts {
  engine: Engine;
  inputs: BuildInputs;
  containers: StepContainers;
  options: BuildOptions;
  /** What `--from` names. */
  sourceFrom: (name: string, report: StepReport) => Promise<UsableImage | BuildContext>;
  signal: AbortSignal;
}

/** What RUN carries out. */
interface Command {
  cmd: string[];
  env: string[];
  /** As its flag says. */
  network: string | undefined;
  /** The here-document that is the program. */
  script: Heredoc | undefined;
}

export class Steps {
  readonly #engine: Engine;
  readonly #inputs: BuildInputs;
  readonly #containers: StepContainers;
  readonly #host: BuildOptions['host'];
  readonly #hostname: string;
  readonly #sourceDate: Date | undefined;
  readonly #cacheNamespace: string;
  readonly #entitlements: BuildOptions['entitlements'];
  readonly #lazy: boolean;
  readonly #sourceFrom: StepsParts['sourceFrom'];
  readonly #signal: AbortSignal;

  constructor({ engine, inputs, containers, options, sourceFrom, signal }: StepsParts) {
    const { host, hostname, cacheNamespace, entitlements, lazy } = options;
    this.#engine = engine;
    this.#inputs = inputs;
    this.#containers = containers;
    this.#host = host;
    this.#hostname = hostname;
    this.#sourceDate = options.sourceDate;
    this.#cacheNamespace = cacheNamespace;
    this.#entitlements = entitlements;
    this.#lazy = lazy;
    this.#sourceFrom = sourceFrom;
    this.#signal = signal;
  }

  /** Reads an instruction into the state; resolves with what it does. */
  async of(state: State, statement: Statement, report: StepReport): Promise<Change> {
    const { name, text, line } = statement;
    const lookup = variablesOf(state);
    switch (name) {
      case 'RUN':
        return this.#run(state, statement, lookup, report);
      case 'COPY':
      case 'ADD':
        return this.#copy(state, statement, lookup, report);
      case 'WORKDIR':
        return this.#workdir(state, resolve(text, lookup));
      case 'ARG':
        declare(statement, lookup, state.args);
        return settled(
          state,
          `ARG ${rawWords(text)
            .map((word) => shownArg(word, lookup, state))
            .join(' ')}`,
        );
      case 'MAINTAINER':
        state.author = text;
        return settled(state, `MAINTAINER ${state.author}`);
      case 'SHELL':
        state.config = { ...state.config, Shell: jsonList(text) ?? [] };
        return settled(state, `SHELL [${state.config.Shell?.join(' ')}]`);
      case 'STOPSIGNAL':
        parseSignal(resolve(text, lookup));
        break;
    }
    const fail = (reason: string): Error => parseError(line, reason);
    const whole = name === 'HEALTHCHECK' ? [...statement.flags, text].join(' ') : text;
    const changed = applyInstruction(state.config, { name, text: whole }, lookup, fail);
    if (changed === undefined) throw parseError(line, `unknown instruction: ${name}`);
    state.config = changed;
    if (name === 'CMD') state.isCommandSet = true;
    if (name === 'ENTRYPOINT' && !state.isCommandSet) state.config = { ...changed, Cmd: null };
    return settled(state, `${name} ${shown(statement, state.config, lookup)}`);
  }

  #workdir(state: State, given: string): Change {
    const path = posix.resolve('/', state.config.WorkingDir || '', given);
    state.config = { ...state.config, WorkingDir: path };
    const make = async (): Promise<string> => {
      const draft = await this.#draft(state);
      await draft.makeDirectory(path, '0:0');
      return draft.upper;
    };
    return { createdBy: nop(state, `WORKDIR ${path}`), make };
  }

  async #copy(state: State, statement: Statement, lookup: Lookup, report: StepReport): Promise<Change> {
    const { name, text } = statement;
    const flags = flagsOf(statement);
    const flag = (key: string): string | undefined => flags.get(key)?.[0] && resolve(flags.get(key)?.[0] ?? '', lookup);
    const isOn = (key: string): boolean | undefined => flags.get(key) && !/^false$/i.test(flags.get(key)?.[0] ?? '');
    const paths = pathsOf(text).map((path) => (jsonList(text) ? path : resolve(path, lookup)));
    const given = paths.pop() ?? '';
    const from = flags.get('from')?.[0];
    const chown = flag('chown');
    const chmod = flag('chmod');
    const parents = isOn('parents') ?? false;
    const exclude = (flags.get('exclude') ?? []).map((pattern) => ruleOf(resolve(pattern, lookup)));
    const how: SourceOptions = {
      from: from === undefined ? undefined : await this.#sourceFrom(from, report),
      lookup,
      selection: { parents, exclude },
      lazy: this.#lazy,
      checksum: flag('checksum'),
      keepsGitDir: isOn('keep-git-dir') ?? false,
      sourceDate: this.#sourceDate,
    };
    const items: CopyItem[] = [];
    const parts = { engine: this.#engine, inputs: this.#inputs, signal: this.#signal };
    for (const path of paths) items.push(...(await copyItems(statement, path, how, parts)));
    if (items.length === 0)
      throw new CaissonError('InvalidParameter', `${name} failed: no source files were specified`);
    const count = this.#lazy ? paths.length : items.length;
    if (count > 1 && !given.endsWith('/'))
      throw new CaissonError(
        'InvalidParameter',
        `When using ${name} with more than one source file, the destination must be a directory and end with a /`,
      );
    const options = [
      ...(parents ? ['--parents'] : []),
      ...(chown ? [`--chown=${chown}`] : []),
      ...(chmod ? [`--chmod=${chmod}`] : []),
      ...(flags.has('unpack') ? [`--unpack=${isOn('unpack')}`] : []),
    ];
    const comment = `${name} ${[...options, hashOfItems(items)].join(' ')} in ${given} `;
    const owner = chown === undefined ? (from === undefined ? '0:0' : undefined) : ownerOf(chown);
    const make = async (): Promise<string> => {
      const draft = await this.#draft(state);
      const slash = /(^|\/)\.?$/.test(given) ? '/' : '';
      const destination = posix.resolve('/', state.config.WorkingDir || '', given);
      await draft.copy(items, destination === '/' ? '/' : `${destination}${slash}`, {
        owner,
        mode: chmod === undefined ? undefined : modeOf(chmod),
        extract: { ofContext: isOn('unpack') ?? name === 'ADD', downloaded: isOn('unpack') ?? false },
      });
      return draft.upper;
    };
    return { createdBy: nop(state, comment), make };
  }

  async #run(state: State, statement: Statement, lookup: Lookup, report: StepReport): Promise<Change> {
    const flags = flagsOf(statement);
    const network = flags.get('network')?.[0];
    // what a Dockerfile may not take for itself
    if (network === 'host' && !this.#entitlements.includes('network.host'))
      throw new CaissonError('Forbidden', 'RUN --network=host: granting entitlement network.host is not allowed', {
        hint: 'build with --network host',
      });
    const cmd = programOf(state, statement);
    const mountFlags = (flags.get('mount') ?? []).map((flag) => resolvedMount(flag, lookup));
    const mounts = await stepMounts(mountFlags, {
      caches: this.#engine.paths.buildCaches,
      namespace: this.#cacheNamespace,
      secrets: this.#engine.paths.buildSecrets,
      context: this.#inputs.context,
      client: this.#inputs.client,
      workingDir: state.config.WorkingDir ?? '',
      source: (name) => this.#sourceFrom(name, report),
      dir: this.#inputs.dir,
      layers: ({ chainId }) => layersOf(this.#engine, chainId),
      native: this.#engine.native,
      view: async (chainId) => ({ overlay: await imageView(this.#engine, this.#inputs.dir, chainId) }),
    });
    const script = statement.heredocs.find(({ name }) => cmd[0] === `/dev/pipes/${name}`);
    const known = new Set((state.config.Env ?? []).map((entry) => entry.slice(0, entry.indexOf('='))));
    const env = [...state.args.all()].filter(([name]) => !known.has(name)).map(([name, value]) => `${name}=${value}`);
    const told = [
      ...env.filter((entry) => state.args.isTold(entry.slice(0, entry.indexOf('=')))).sort(),
      ...mounts.keys,
      ...(script === undefined ? [] : [script.content]),
    ];
    const prefix = told.length > 0 ? [`|${told.length}`, ...told] : [];
    const make = async (): Promise<string> => {
      const { image } = state;
      if (image === null) throw new CaissonError('InvalidParameter', 'a command cannot run in an image without files');
      const held = await this.#engine.runner.lock(mounts.locks, this.#signal);
      try {
        return await this.#execute(image, { cmd, env, network, script }, mounts, report);
      } finally {
        held.release();
      }
    };
    return { createdBy: [...prefix, ...cmd].join(' '), make };
  }

  /** Resolves with the directory of what the command has changed. */
  async #execute(
    image: UsableImage,
    { cmd, env, network, script }: Command,
    mounts: StepMounts,
    report: StepReport,
  ): Promise<string> {
    const opened = await mounts.open();
    try {
      const stubs = await this.#stubs(image, opened.targets);
      const body: CreateBody = {
        Image: image.id,
        ...(this.#hostname !== '' && { Hostname: this.#hostname }),
        // an empty list is the image's own command
        ...(cmd.length > 0 && { Cmd: cmd, Entrypoint: [''] }),
        Env: env,
        Healthcheck: { Test: ['NONE'] },
        AttachStdout: true,
        AttachStderr: true,
        HostConfig: {
          ...this.#host,
          ...(network !== undefined && network !== 'default' && { NetworkMode: network }),
          ...opened.host,
          Mounts: [...(opened.host.Mounts ?? []), ...(script === undefined ? [] : [await this.#script(script)])],
          LogConfig: { Type: 'none' },
        },
      };
      const upper = await this.#containers.run(body, { cmd, secretEnv: opened.env }, report, this.#signal);
      await removeStubs(upper, stubs);
      return upper;
    } finally {
      await opened.release();
    }
  }

  /** A here-document that names its interpreter, as a program. */
  async #script({ name, content }: Heredoc): Promise<MountBody> {
    const path = join(this.#inputs.dir, randomBytes(8).toString('hex'));
    await writeFile(path, content, { mode: 0o755 });
    return { Type: 'bind', Source: path, Target: `/dev/pipes/${name}`, ReadOnly: true };
  }

  /** What the mounts will leave in the container that the image does not have. */
  async #stubs(image: UsableImage, targets: readonly string[]): Promise<string[]> {
    if (targets.length === 0) return [];
    const view = await imageView(this.#engine, this.#inputs.dir, image.chainId);
    return missingIn(this.#engine.native, view, targets);
  }

  #draft(state: State): Promise<LayerDraft> {
    const lower = layersOf(this.#engine, state.image?.chainId ?? null);
    return LayerDraft.begin(this.#engine.native, this.#inputs.dir, lower, this.#sourceDate);
  }
}

/** A default that nobody needs may be as wrong as it likes. */
const shownArg = (word: string, lookup: Lookup, { args }: State): string =>
  args.isGiven(word.replace(/=.*$/s, '')) ? word : resolve(word, lookup);

/** What an instruction sees. */
export function variablesOf({ args, config }: State): Lookup {
  const own = (config.Env ?? []).map((entry): [string, string] => {
    const at = entry.indexOf('=');
    return [entry.slice(0, at), entry.slice(at + 1)];
  });
  const all = new Map([...args.all(), ...own]);
  return (name) => all.get(name);
}

/** A context as the beginning of a stage. */
export async function imageOfFiles(
  engine: Engine,
  dir: string,
  context: BuildContext,
  platform: Platform,
  signal: AbortSignal,
): Promise<UsableImage> {
  const items = (await context.find('.')).map((item) => ({ view: context.view, item }));
  const step = {
    parent: null,
    platform,
    config: {},
    createdBy: `COPY ${hashOfItems(items)} in / `,
    author: '',
    hidden: true,
  };
  const known = engine.images.buildSteps.cached(step);
  if (known !== undefined) return known;
  const draft = await LayerDraft.begin(engine.native, dir, []);
  await draft.copy(items, '/', { owner: undefined, mode: undefined, extract: { ofContext: false, downloaded: false } });
  return engine.images.buildSteps.make(step, draft.upper, signal);
}

/** The command by which Docker notes a step that ran none. */
const nop = ({ config }: State, comment: string): string => [...shellOf(config.Shell), `#(nop) ${comment}`].join(' ');

/** A step that changes the config alone. */
const settled = (state: State, comment: string): Change => ({ createdBy: nop(state, ` ${comment}`) });

/** What RUN executes. */
function programOf({ config }: State, { text, heredocs }: Statement): string[] {
  const [first] = heredocs;
  if (first === undefined) return command(config, text);
  const shell = shellOf(config.Shell);
  const isScript = /^<<-?["']?[^"'\s]+["']?$/.test(text);
  if (!isScript) return [...shell, [text, ...heredocs.map(({ name, content }) => `${content}${name}`)].join('\n')];
  if (first.content.startsWith('#!')) return [`/dev/pipes/${first.name}`];
  return [...shell, first.content];
}

/** An instruction's words in the image's history, as Docker writes them. */
function shown({ name, text }: Statement, config: ImageRunConfig, lookup: Lookup): string {
  const list = (items: readonly string[] | null | undefined): string =>
    `[${(items ?? []).map((item) => JSON.stringify(item)).join(' ')}]`;
  if (name === 'CMD') return list(config.Cmd);
  if (name === 'ENTRYPOINT') return list(config.Entrypoint);
  if (name === 'VOLUME') return `[${(jsonList(text) ?? words(text, lookup)).join(' ')}]`;
  if (name === 'ONBUILD') return text;
  if (name === 'HEALTHCHECK') return JSON.stringify(config.Healthcheck);
  if (name === 'ENV' || name === 'LABEL')
    return mergeEnv(
      [],
      pairs(text, lookup, (reason) => new Error(reason)),
    ).join(' ');
  const plain = words(text, lookup);
  return (name === 'EXPOSE' ? plain.sort() : plain).join(' ');
}
