/**
 * `POST /build`: a Dockerfile carried out, instruction by instruction, each of which makes an image on the one before.
 *
 *   context ─► Dockerfile ─► stages ─► for each instruction: known from before? ─ no ─► changed (config, copy, command) ─► image
 *
 * An earlier build's image serves again when its parent, its config and the command (with the hash of what was copied) are
 * the same. Intermediate images stay for that; a daemon that dies leaves those that were complete, and no container.
 */
import { CaissonError, isKind } from '../../errdefs.ts';
import type { Platform } from '../../oci.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../../reference.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import type { CreateBody } from '../api/schemas/containers.ts';
import type { Engine } from '../engine.ts';
import type { BuildStep } from '../images/buildSteps.ts';
import type { UsableImage } from '../images/names.ts';
import { parsePlatform, runsOn } from '../images/platform.ts';
import { type Emit, shortId } from '../images/progress.ts';
import { type Lookup, resolve } from '../images/variables.ts';
import { BuildArgs, declare, platformArgs } from './buildArgs.ts';
import type { BuildContext } from './context.ts';
import { type Dockerfile, parseError, type Statement } from './dockerfile.ts';
import { StepContainers } from './run.ts';
import { findStage, labelsOf, type Stage, stagesOf, trigger } from './stages.ts';
import { type State, Steps } from './steps.ts';

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

export class Build {
  readonly #engine: Engine;
  readonly #options: BuildOptions;
  readonly #dockerfile: Dockerfile;
  readonly #emit: Emit;
  readonly #signal: AbortSignal;
  readonly #containers: StepContainers;
  readonly #steps: Steps;
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
    this.#dockerfile = dockerfile;
    this.#emit = emit;
    this.#signal = signal;
    this.#containers = new StepContainers(engine.containers, engine.native, emit);
    this.#steps = new Steps({
      engine,
      context,
      dir,
      containers: this.#containers,
      host: options.host,
      imageFrom: (name) => this.#imageFrom(name),
      signal,
    });
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

  /** The image of an instruction: one from before, or a new one. */
  async #step(state: State, statement: Statement): Promise<void> {
    const { buildSteps } = this.#engine.images;
    const { createdBy, make } = await this.#steps.of(state, statement);
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
    state.image = await buildSteps.make(step, await make?.(), this.#signal);
    if (this.#options.remove || this.#options.forceRemove) await this.#containers.remove();
    else await this.#containers.keep();
  }

  async #known(step: BuildStep): Promise<UsableImage | undefined> {
    const { buildSteps } = this.#engine.images;
    if (this.#options.cacheFrom.length === 0) return buildSteps.cached(step);
    for (const source of this.#sources) {
      const restored = await buildSteps.restored(step, source, this.#signal);
      if (restored !== undefined) return restored;
    }
    return undefined;
  }
}
