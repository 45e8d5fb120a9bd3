/**
 * `POST /build`: a Dockerfile carried out, instruction by instruction, each of which makes an image on the one before.
 *
 *   context ─► Dockerfile ─► stages ─► for each instruction: known from before? ─ no ─► changed (config, copy, command) ─► image
 *
 * An earlier build's image serves again when its parent, its config and the command (with the hash of what was copied) are
 * the same. Intermediate images stay for that; a daemon that dies leaves those that were complete, and no container.
 */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { ImageRunConfig, Platform } from '../../oci.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../../reference.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import type { CreateBody } from '../api/schemas/containers.ts';
import { parseSignal } from '../containers/signals.ts';
import type { Engine } from '../engine.ts';
import { applyInstruction, command, jsonList, mergeEnv, pairs, shellOf } from '../images/instructions.ts';
import type { UsableImage } from '../images/names.ts';
import { parsePlatform, runsOn } from '../images/platform.ts';
import { type Emit, shortId } from '../images/progress.ts';
import { type Lookup, rawWords, resolve, words } from '../images/variables.ts';
import { BuildArgs } from './buildArgs.ts';
import type { BuildContext } from './context.ts';
import { type CopyItem, hashOfItems, LayerDraft, modeOf, ownerOf } from './copy.ts';
import { type Dockerfile, type Heredoc, parseError, type Statement } from './dockerfile.ts';
import { download } from './download.ts';
import { stepMounts } from './mounts.ts';
import { StepContainers } from './run.ts';
import { ImageSource } from './source.ts';
import { findStage, flagsOf, pathsOf, type Stage, stagesOf, trigger } from './stages.ts';

/** As the request has it. */
export interface BuildOptions {
  tags: Reference[];
  /** '' for the last stage. */
  target: string;
  /** '' for the host's. */
  platform: string;
  labels: Record<string, string>;
  buildArgs: Map<string, string | null>;
  cacheFrom: string[];
  noCache: boolean;
  pull: boolean;
  /** Intermediate containers go when their step has succeeded. */
  remove: boolean;
  /** And when it has failed. */
  forceRemove: boolean;
  /** Resources and network of the commands' containers. */
  host: NonNullable<CreateBody['HostConfig']>;
  credentials: (reference: Reference) => Credentials | undefined;
}

/** The build's state in one stage. */
interface State {
  image: UsableImage | null;
  config: ImageRunConfig;
  author: string;
  /** CMD stood in this stage: an ENTRYPOINT behind it leaves it. */
  isCommandSet: boolean;
  args: BuildArgs;
}

export class Build {
  readonly #engine: Engine;
  readonly #options: BuildOptions;
  readonly #context: BuildContext | undefined;
  readonly #dockerfile: Dockerfile;
  /** For what is in the making; the caller's to remove. */
  readonly #dir: string;
  readonly #emit: Emit;
  readonly #signal: AbortSignal;
  readonly #containers: StepContainers;
  /** The image of each stage that is done. */
  readonly #done: (UsableImage | null)[] = [];
  #stages: Stage[] = [];
  #sources: UsableImage[] = [];
  /** One step was not known from before: nothing behind it is. */
  #isAnew = false;

  constructor(
    engine: Engine,
    options: BuildOptions,
    { context, dockerfile, dir }: { context: BuildContext | undefined; dockerfile: Dockerfile; dir: string },
    emit: Emit,
    signal: AbortSignal,
  ) {
    this.#engine = engine;
    this.#options = options;
    this.#context = context;
    this.#dockerfile = dockerfile;
    this.#dir = dir;
    this.#emit = emit;
    this.#signal = signal;
    this.#containers = new StepContainers(engine.containers, engine.native, emit);
  }

  /** Resolves with the image's id. */
  async run(): Promise<string> {
    const { args: globals, stages } = stagesOf(this.#dockerfile);
    const { target, labels, buildArgs, tags, forceRemove } = this.#options;
    const last = target === '' ? stages.length - 1 : findStage(stages, target);
    if (last < 0)
      throw new CaissonError('InvalidParameter', `target stage ${JSON.stringify(target)} could not be found`);
    this.#stages = stages.slice(0, last + 1);
    this.#stages.at(-1)?.statements.push(...labelsOf(labels));
    for (const warning of this.#dockerfile.warnings) this.#say(`${warning}\n`);
    this.#sources = this.#options.cacheFrom.flatMap((name) => this.#local(name) ?? []);
    const args = new BuildArgs(buildArgs, platformArgs(this.#platform, this.#engine.images.hostPlatform));
    const total = globals.length + this.#stages.reduce((sum, { statements }) => sum + 1 + statements.length, 0);
    let step = 0;
    const announce = ({ original }: Statement): void => this.#say(`Step ${++step}/${total} : ${original}\n`);
    for (const statement of globals) {
      announce(statement);
      declare(
        statement,
        (name) => args.global(name),
        (name, value) => args.declareGlobal(name, value),
      );
    }
    try {
      for (const stage of this.#stages) this.#done.push(await this.#stage(stage, args.stage(), announce));
    } catch (error) {
      if (forceRemove || this.#signal.aborted) await this.#containers.remove();
      else await this.#containers.keep();
      throw error;
    }
    const unused = args.unused();
    if (unused.length > 0) this.#say(`[Warning] One or more build-args [${unused.join(' ')}] were not consumed\n`);
    const id = this.#done.at(-1)?.id;
    if (id === undefined)
      throw new CaissonError('InvalidParameter', 'No image was generated. Is your Dockerfile empty?');
    this.#say(`Successfully built ${shortId(id)}\n`);
    for (const tag of tags) {
      const { domain, path, tag: name = '' } = withDefaultTag(tag);
      await this.#engine.images.tag(id, `${domain}/${path}`, name);
      this.#say(`Successfully tagged ${familiarString(withDefaultTag(tag))}\n`);
    }
    return id;
  }

  get #platform(): Platform {
    const { hostPlatform } = this.#engine.images;
    return parsePlatform(this.#options.platform, hostPlatform) ?? hostPlatform;
  }

  #say(stream: string): void {
    this.#emit({ stream });
  }

  async #stage(stage: Stage, args: BuildArgs, announce: (statement: Statement) => void): Promise<UsableImage | null> {
    this.#isAnew = this.#options.noCache;
    announce(stage.from);
    const state = await this.#begin(stage, args);
    this.#say(` ---> ${shortId(state.image?.id ?? '')}\n`);
    for (const statement of stage.statements) {
      if (this.#signal.aborted) this.#say('Build cancelled\n');
      this.#signal.throwIfAborted();
      announce(statement);
      await this.#step(state, statement);
      this.#say(` ---> ${shortId(state.image?.id ?? '')}\n`);
    }
    if (state.image !== null) this.#emit({ aux: { ID: state.image.id } });
    return state.image;
  }

  async #begin({ from, base, platform }: Stage, args: BuildArgs): Promise<State> {
    const lookup: Lookup = (name) => args.global(name);
    const name = resolve(base, lookup);
    if (name === '') throw parseError(from.line, `base name (${base}) should not be blank`);
    const wanted = parsePlatform(resolve(platform, lookup), this.#engine.images.hostPlatform);
    const image = name === 'scratch' ? null : await this.#image(name, wanted);
    const config = { ...image?.config.config };
    const { OnBuild: triggers, ...own } = config;
    const env = own.Env ?? [];
    if (!env.some((entry) => entry.startsWith('PATH=')))
      own.Env = [...env, 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];
    const state: State = { image, config: own, author: '', isCommandSet: false, args };
    const count = triggers?.length ?? 0;
    if (count > 0) this.#say(`# Executing ${count} build trigger${count > 1 ? 's' : ''}\n`);
    for (const text of triggers ?? []) await this.#step(state, trigger(text));
    return state;
  }

  /** A stage that is done, an image that is here, or one that is pulled. */
  async #image(name: string, platform?: Platform): Promise<UsableImage | null> {
    const stage = this.#stages.slice(0, this.#done.length).findIndex((one) => one.name === name.toLowerCase());
    if (stage >= 0) return this.#done[stage] ?? null;
    const wanted = platform ?? (this.#options.platform === '' ? undefined : this.#platform);
    const found = this.#options.pull ? undefined : this.#local(name);
    if (found !== undefined && (wanted === undefined || runsOn(found.config, wanted))) return found;
    if (/^(sha256:)?[0-9a-f]{64}$/.test(name)) return this.#engine.images.find(name);
    const reference = withDefaultTag(parseReference(name));
    const credentials = this.#options.credentials(reference);
    await this.#engine.images.pull({ reference, platform: wanted, credentials }, this.#emit, this.#signal);
    return this.#engine.images.find(name);
  }

  #local(name: string): UsableImage | undefined {
    try {
      return this.#engine.images.find(name);
    } catch (error) {
      if (isKind(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  /** The image that `--from` names: a stage by name or number, or any image. */
  async #imageFrom(name: string): Promise<UsableImage> {
    if (/^\d+$/.test(name) && Number(name) >= this.#done.length)
      throw new CaissonError(
        'InvalidParameter',
        `invalid from flag value ${name}: ${Number(name) === this.#done.length ? 'refers to current build stage' : 'index out of bounds'}`,
      );
    const wrong = (error: unknown): never => {
      throw new CaissonError('InvalidParameter', `invalid from flag value ${name}: ${(error as Error).message}`, {
        cause: error,
      });
    };
    const image = /^\d+$/.test(name) ? (this.#done[Number(name)] ?? null) : await this.#image(name).catch(wrong);
    if (image === null) throw new CaissonError('InvalidParameter', `invalid from flag value ${name}: it has no files`);
    return image;
  }

  async #step(state: State, statement: Statement): Promise<void> {
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
        return this.#run(state, statement, lookup);
      case 'COPY':
      case 'ADD':
        return this.#copy(state, statement, lookup);
      case 'WORKDIR':
        return this.#workdir(state, resolve(text, lookup));
      case 'ARG':
        declare(statement, lookup, (key, value) => state.args.declare(key, value));
        return this.#settle(state, `ARG ${words(text, lookup).join(' ')}`);
      case 'MAINTAINER':
        state.author = text;
        return this.#settle(state, `MAINTAINER ${state.author}`);
      case 'SHELL':
        state.config = { ...state.config, Shell: jsonList(text) ?? [] };
        return this.#settle(state, `SHELL [${state.config.Shell?.join(' ')}]`);
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
    return this.#settle(state, `${name} ${shown(statement, state.config, lookup)}`);
  }

  /** The image of a step that changes the config alone. */
  async #settle(state: State, comment: string): Promise<void> {
    await this.#make(state, nop(state, ` ${comment}`), async () => undefined);
  }

  async #workdir(state: State, given: string): Promise<void> {
    const path = posix.resolve('/', state.config.WorkingDir || '', given);
    state.config = { ...state.config, WorkingDir: path };
    await this.#make(state, nop(state, `WORKDIR ${path}`), async () => {
      const draft = await this.#draft(state);
      await draft.makeDirectory(path, '0:0');
      return draft.upper;
    });
  }

  async #copy(state: State, statement: Statement, lookup: Lookup): Promise<void> {
    const { name, text } = statement;
    const flags = flagsOf(statement);
    const flag = (key: string): string | undefined => flags.get(key)?.[0] && resolve(flags.get(key)?.[0] ?? '', lookup);
    const paths = pathsOf(text).map((path) => (jsonList(text) ? path : resolve(path, lookup)));
    const given = paths.pop() ?? '';
    const from = flag('from');
    const chown = flag('chown');
    const chmod = flag('chmod');
    const image = from === undefined ? undefined : await this.#imageFrom(from);
    const items: CopyItem[] = [];
    for (const path of paths) items.push(...(await this.#items(statement, path, image, lookup, flag('checksum'))));
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
    await this.#make(state, nop(state, comment), async () => {
      const draft = await this.#draft(state);
      const slash = /(^|\/)\.?$/.test(given) ? '/' : '';
      const destination = posix.resolve('/', state.config.WorkingDir || '', given);
      await draft.copy(items, destination === '/' ? '/' : `${destination}${slash}`, {
        owner,
        mode: chmod === undefined ? undefined : modeOf(chmod),
        extract: name === 'ADD',
      });
      return draft.upper;
    });
  }

  async #items(
    { name, line, heredocs }: Statement,
    path: string,
    image: UsableImage | undefined,
    lookup: Lookup,
    checksum: string | undefined,
  ): Promise<CopyItem[]> {
    const heredoc = path.startsWith('<<')
      ? heredocs.find((one) => path.replace(/^<<-?/, '').replace(/["']/g, '') === one.name)
      : undefined;
    if (heredoc !== undefined) return [{ inline: inlineOf(heredoc, lookup) }];
    if (/^https?:\/\//.test(path)) {
      if (name === 'COPY') throw parseError(line, "source can't be a URL for COPY");
      return [{ inline: await download(path, checksum, this.#signal) }];
    }
    if (name === 'ADD' && /^(git@|git:\/\/|ssh:\/\/)/.test(path))
      throw new CaissonError('NotImplemented', `ADD ${path}: git repositories are not supported`);
    if (checksum !== undefined) throw parseError(line, 'checksum requires an HTTP(S) source');
    try {
      if (image !== undefined) {
        const view = { overlay: await this.#layers(image) };
        const source = new ImageSource(this.#engine.native, view, image.chainId ?? '');
        return (await source.find(path)).map((item) => ({ view, item }));
      }
      const context = this.#context;
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

  async #run(state: State, statement: Statement, lookup: Lookup): Promise<void> {
    const flags = flagsOf(statement);
    const network = flags.get('network')?.[0];
    // what a Dockerfile may not take for itself
    if (network === 'host' && this.#options.host.NetworkMode !== 'host')
      throw new CaissonError('Forbidden', 'RUN --network=host: granting entitlement network.host is not allowed', {
        hint: 'build with --network host',
      });
    const { caches, host, key, cmd } = await this.#command(state, statement);
    const mountFlags = (flags.get('mount') ?? []).map((flag) => resolve(flag, lookup));
    const mounts = await stepMounts(mountFlags, {
      caches,
      context: this.#context,
      workingDir: state.config.WorkingDir ?? '',
      image: (name) => this.#imageFrom(name),
    });
    const known = new Set((state.config.Env ?? []).map((entry) => entry.slice(0, entry.indexOf('='))));
    const env = [...state.args.all()].filter(([name]) => !known.has(name)).map(([name, value]) => `${name}=${value}`);
    const told = [
      ...env.filter((entry) => state.args.isTold(entry.slice(0, entry.indexOf('=')))).sort(),
      ...mounts.keys,
    ];
    const prefix = told.length > 0 ? [`|${told.length}`, ...told] : [];
    await this.#make(state, [...prefix, ...key].join(' '), async () => {
      if (state.image === null)
        throw new CaissonError('InvalidParameter', 'a command cannot run in an image without files');
      const body: CreateBody = {
        Image: state.image.id,
        // an empty list is the image's own command
        ...(cmd.length > 0 && { Cmd: cmd, Entrypoint: [''] }),
        Env: env,
        Healthcheck: { Test: ['NONE'] },
        AttachStdout: true,
        AttachStderr: true,
        HostConfig: {
          ...this.#options.host,
          ...(network !== undefined && network !== 'default' && { NetworkMode: network }),
          ...mounts.host,
          ...host,
          LogConfig: { Type: 'none' },
        },
      };
      return this.#containers.run(body, cmd, this.#signal);
    });
  }

  /** What RUN executes; a here-document that begins with an interpreter is a file of its own. */
  async #command(
    state: State,
    { text, heredocs, line }: Statement,
  ): Promise<{ caches: string; host: object; key: string[]; cmd: string[] }> {
    const caches = this.#engine.paths.buildCaches;
    const shell = shellOf(state.config.Shell);
    const [first] = heredocs;
    if (first === undefined) {
      const cmd = command(state.config, text);
      return { caches, host: {}, key: cmd, cmd };
    }
    if (!/^<<-?["']?[^"'\s]+["']?$/.test(text)) {
      const script = [text, ...heredocs.map(({ name, content }) => `${content}${name}`)].join('\n');
      const cmd = [...shell, script];
      return { caches, host: {}, key: cmd, cmd };
    }
    if (first.content.startsWith('#!'))
      throw parseError(line, 'a here-document of RUN that names an interpreter is not supported: name it before <<');
    const cmd = [...shell, first.content];
    return { caches, host: {}, key: cmd, cmd };
  }

  /** The step's image: one from before, or what `change` makes; that resolves with the directory of changed files. */
  async #make(state: State, createdBy: string, change: () => Promise<string | undefined>): Promise<void> {
    const { buildSteps } = this.#engine.images;
    const step = {
      parent: state.image,
      platform: this.#platform,
      config: state.config,
      createdBy,
      author: state.author,
    };
    const known = this.#isAnew ? undefined : await this.#known(step);
    if (known !== undefined) {
      this.#say(' ---> Using cache\n');
      state.image = known;
      return;
    }
    this.#isAnew = true;
    const upper = await change();
    state.image = await buildSteps.make(step, upper, this.#signal);
    if (this.#options.remove || this.#options.forceRemove) await this.#containers.remove();
    else await this.#containers.keep();
  }

  async #known(step: Parameters<Engine['images']['buildSteps']['cached']>[0]): Promise<UsableImage | undefined> {
    const { buildSteps } = this.#engine.images;
    const own = buildSteps.cached(step);
    if (this.#options.cacheFrom.length === 0) return own;
    for (const source of this.#sources) {
      const restored = await buildSteps.restored(step, source, this.#signal);
      if (restored !== undefined) return restored;
    }
    return undefined;
  }

  #draft(state: State): Promise<LayerDraft> {
    return LayerDraft.begin(this.#engine.native, this.#dir, this.#lower(state.image));
  }

  /** An overlay for reading alone. */
  async #layers(image: UsableImage): Promise<{ lower: string[]; upper: string; work: string; volatile: boolean }> {
    const own = join(this.#dir, randomBytes(8).toString('hex'));
    await mkdir(join(own, 'upper'), { recursive: true });
    return { lower: this.#lower(image), upper: join(own, 'upper'), work: join(own, 'work'), volatile: true };
  }

  #lower(image: UsableImage | null): string[] {
    const { graph, paths } = this.#engine;
    if (image?.chainId == null) return [];
    return graph.layers.chain(image.chainId).map(({ cacheId }) => join(paths.overlay, cacheId, 'diff'));
  }
}

/** The command by which Docker notes a step that ran none. */
const nop = ({ config }: State, comment: string): string => [...shellOf(config.Shell), `#(nop) ${comment}`].join(' ');

/** `ARG a=1 b`: each with its default, in which the ones before are seen. */
function declare({ text }: Statement, lookup: Lookup, set: (name: string, value: string | null) => void): void {
  for (const word of rawWords(text)) {
    const at = word.indexOf('=');
    if (at < 0) set(resolve(word, lookup), null);
    else set(word.slice(0, at), resolve(word.slice(at + 1), lookup));
  }
}

/** `--label`, as instructions at the end. */
function labelsOf(labels: Record<string, string>): Statement[] {
  return Object.entries(labels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => {
      const quoted = (part: string): string => `'${part.replace(/'/g, `'"'"'`)}'`;
      const text = `${quoted(key)}=${quoted(value)}`;
      return { line: 0, name: 'LABEL', flags: [], text, original: `LABEL ${key}=${value}`, heredocs: [] };
    });
}

function platformArgs(target: Platform, build: Platform): Record<string, string> {
  const of = (prefix: string, { os, architecture, variant = '' }: Platform): Record<string, string> => ({
    [`${prefix}PLATFORM`]: [os, architecture, ...(variant === '' ? [] : [variant])].join('/'),
    [`${prefix}OS`]: os,
    [`${prefix}ARCH`]: architecture,
    [`${prefix}VARIANT`]: variant,
  });
  return { ...of('TARGET', target), ...of('BUILD', build) };
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

function inlineOf(
  { name, content, literal }: Heredoc,
  lookup: Lookup,
): { name: string; content: Buffer; mode: number; mtimeMs: number } {
  const text = literal
    ? content
    : content.replace(/\\\$|\$(\w+|\{[^}]*\})/g, (all) => (all === '\\$' ? '$' : resolve(all, lookup)));
  return { name, content: Buffer.from(text), mode: 0o644, mtimeMs: Date.now() };
}
