/** What each instruction does: to the config at once, to the files when its turn has come. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { ImageRunConfig, Platform } from '../../oci.ts';
import type { CreateBody, MountBody } from '../api/schemas/containers.ts';
import { parseSignal } from '../containers/signals.ts';
import { layersOf } from '../containers/spawn.ts';
import type { Engine } from '../engine.ts';
import { applyInstruction, command, jsonList, mergeEnv, pairs, shellOf } from '../images/instructions.ts';
import type { UsableImage } from '../images/names.ts';
import { type Lookup, resolve, words } from '../images/variables.ts';
import { type BuildArgs, declare } from './buildArgs.ts';
import type { BuildInputs } from './builder.ts';
import { BuildContext } from './context.ts';
import { type CopyItem, hashOfItems, type InlineItem, LayerDraft, modeOf, ownerOf } from './copy.ts';
import { type Heredoc, parseError, type Statement } from './dockerfile.ts';
import { download } from './download.ts';
import { gitContext, gitSourceOf } from './git.ts';
import { type StepMounts, stepMounts } from './mounts.ts';
import type { StepReport } from './report.ts';
import type { StepContainers } from './run.ts';
import { ImageSource } from './source.ts';
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
  /** Resources and network of the commands' containers. */
  host: NonNullable<CreateBody['HostConfig']>;
  entitlements: readonly string[];
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
  readonly #host: StepsParts['host'];
  readonly #entitlements: StepsParts['entitlements'];
  readonly #sourceFrom: StepsParts['sourceFrom'];
  readonly #signal: AbortSignal;

  constructor({ engine, inputs, containers, host, entitlements, sourceFrom, signal }: StepsParts) {
    this.#engine = engine;
    this.#inputs = inputs;
    this.#containers = containers;
    this.#host = host;
    this.#entitlements = entitlements;
    this.#sourceFrom = sourceFrom;
    this.#signal = signal;
  }

  /** Reads an instruction into the state; resolves with what it does. */
  async of(state: State, statement: Statement, report: StepReport): Promise<Change> {
    const { name, text, line } = statement;
    const variables = new Map([
      ...state.args.all(),
      ...(state.config.Env ?? []).map((entry): [string, string] => [
        entry.slice(0, entry.indexOf('=')),
        entry.slice(entry.indexOf('=') + 1),
      ]),
    ]);
    const lookup: Lookup = (key) => variables.get(key);
    switch (name) {
      case 'RUN':
        return this.#run(state, statement, lookup, report);
      case 'COPY':
      case 'ADD':
        return this.#copy(state, statement, lookup, report);
      case 'WORKDIR':
        return this.#workdir(state, resolve(text, lookup));
      case 'ARG':
        declare(statement, lookup, (key, value) => state.args.declare(key, value));
        return settled(state, `ARG ${words(text, lookup).join(' ')}`);
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
    const paths = pathsOf(text).map((path) => (jsonList(text) ? path : resolve(path, lookup)));
    const given = paths.pop() ?? '';
    const from = flag('from');
    const chown = flag('chown');
    const chmod = flag('chmod');
    const source = from === undefined ? undefined : await this.#sourceFrom(from, report);
    const items: CopyItem[] = [];
    for (const path of paths) items.push(...(await this.#items(statement, path, source, lookup, flag('checksum'))));
    if (items.length === 0)
      throw new CaissonError('InvalidParameter', `${name} failed: no source files were specified`);
    if (items.length > 1 && !given.endsWith('/'))
      throw new CaissonError(
        'InvalidParameter',
        `When using ${name} with more than one source file, the destination must be a directory and end with a /`,
      );
    const options = [...(chown ? [`--chown=${chown}`] : []), ...(chmod ? [`--chmod=${chmod}`] : [])];
    const comment = `${name} ${[...options, hashOfItems(items)].join(' ')} in ${given} `;
    const owner = chown === undefined ? (from === undefined ? '0:0' : undefined) : ownerOf(chown);
    const make = async (): Promise<string> => {
      const draft = await this.#draft(state);
      const slash = /(^|\/)\.?$/.test(given) ? '/' : '';
      const destination = posix.resolve('/', state.config.WorkingDir || '', given);
      await draft.copy(items, destination === '/' ? '/' : `${destination}${slash}`, {
        owner,
        mode: chmod === undefined ? undefined : modeOf(chmod),
        extract: name === 'ADD',
      });
      return draft.upper;
    };
    return { createdBy: nop(state, comment), make };
  }

  async #items(
    { name, line, heredocs }: Statement,
    path: string,
    from: UsableImage | BuildContext | undefined,
    lookup: Lookup,
    checksum: string | undefined,
  ): Promise<CopyItem[]> {
    const heredoc = path.startsWith('<<')
      ? heredocs.find((one) => path.replace(/^<<-?/, '').replace(/["']/g, '') === one.name)
      : undefined;
    if (heredoc !== undefined) return [{ inline: inlineOf(heredoc, lookup) }];
    const repository = name === 'ADD' && from === undefined ? gitSourceOf(path) : undefined;
    if (repository !== undefined) {
      const { dir } = this.#inputs;
      const options = { native: this.#engine.native, dir, keepsGitDir: false, signal: this.#signal };
      const files = await gitContext(repository, options);
      return (await files.find('.')).map((item) => ({ view: files.view, item }));
    }
    if (/^https?:\/\//.test(path)) {
      if (name === 'COPY') throw parseError(line, "source can't be a URL for COPY");
      return [{ inline: await download(path, checksum, this.#signal) }];
    }
    if (checksum !== undefined) throw parseError(line, 'checksum requires an HTTP(S) source');
    try {
      const context = from ?? (await this.#inputs.context([path]));
      if (context !== undefined && !(context instanceof BuildContext)) {
        const view = { overlay: await imageView(this.#engine, this.#inputs.dir, context.chainId) };
        const source = new ImageSource(this.#engine.native, view, context.chainId ?? '');
        return (await source.find(path)).map((item) => ({ view, item }));
      }
      if (context === undefined) throw new CaissonError('InvalidParameter', 'missing build context');
      return (await context.find(path)).map((item) => ({
        view: context.view,
        item,
        localPath: context.pathOf(item.path),
      }));
    } catch (error) {
      if (!isKind(error, 'NotFound') && !isKind(error, 'InvalidParameter')) throw error;
      throw new CaissonError('InvalidParameter', `${name} failed: ${error.message}`, { cause: error });
    }
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
    const mountFlags = (flags.get('mount') ?? []).map((flag) => resolve(flag, lookup));
    const mounts = await stepMounts(mountFlags, {
      caches: this.#engine.paths.buildCaches,
      secrets: this.#engine.paths.buildSecrets,
      context: this.#inputs.context,
      client: this.#inputs.client,
      workingDir: state.config.WorkingDir ?? '',
      source: (name) => this.#sourceFrom(name, report),
      dir: this.#inputs.dir,
      layers: ({ chainId }) => layersOf(this.#engine, chainId),
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
        // an empty list is the image's own command
        ...(cmd.length > 0 && { Cmd: cmd, Entrypoint: [''] }),
        Env: [...env, ...opened.env],
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
      const upper = await this.#containers.run(body, cmd, report, this.#signal);
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
    return LayerDraft.begin(
      this.#engine.native,
      this.#inputs.dir,
      layersOf(this.#engine, state.image?.chainId ?? null),
    );
  }
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
  await draft.copy(items, '/', { owner: undefined, mode: undefined, extract: false });
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

function inlineOf({ name, content, literal }: Heredoc, lookup: Lookup): InlineItem {
  const text = literal
    ? content
    : content.replace(/\\\$|\$(\w+|\{[^}]*\})/g, (all) => (all === '\\$' ? '$' : resolve(all, lookup)));
  return { name, content: Buffer.from(text), mode: 0o644, mtimeMs: Date.now() };
}
