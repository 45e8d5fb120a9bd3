/**
 * A Dockerfile carried out, instruction by instruction, each of which makes an image on the one before.
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
import { type Lookup, resolve } from '../images/variables.ts';
import { BuildArgs, declare, platformArgs, stagePlatform } from './buildArgs.ts';
import { BuildContext } from './context.ts';
import { type Dockerfile, parseError, type Statement } from './dockerfile.ts';
import type { Downloads } from './download.ts';
import type { BuildReport, StepReport } from './report.ts';
import { StepContainers } from './run.ts';
import { findStage, labelsOf, meant, namedTwice, namesIn, type Stage, stagesOf, trigger } from './stages.ts';
import { imageOfFiles, type State, Steps, variablesOf } from './steps.ts';

/** Where a stage begins, or what is copied from: null is `scratch`. */
export type Source = UsableImage | BuildContext | null;

/** What a build gets from whoever asked for it, beside its request. */
export interface BuildInputs {
  dockerfile: Dockerfile;
  /** For what is in the making; the caller's to remove. */
  dir: string;
  downloads: Downloads;
  /** Asked for when something is copied out of it: these paths or patterns. Undefined: there is none. */
  context: (paths: readonly string[]) => Promise<BuildContext | undefined>;
  /** What stands in for a stage or an image of the name (`--build-context`), by `contextName`. */
  named?: ReadonlyMap<string, () => Promise<Source>>;
  /** The client at the other end, for `RUN --mount=type=secret|ssh`. */
  client?: BuildClient;
}

export interface BuildClient {
  /** Undefined when the client has none of this name. */
  secret(id: string): Promise<Uint8Array | undefined>;
  /** Connections to the socket at `path`, which it makes, reach the client's agent until the result is called. Undefined when there is none. */
  agent(id: string, path: string): Promise<(() => void) | undefined>;
}

/** As the request has it. */
export interface BuildOptions {
  /** '' for the last stage. */
  target: string;
  /** '' for the host's. */
  platform: string;
  labels: Record<string, string>;
  buildArgs: Map<string, string | null>;
  cacheFrom: string[];
  /** Of all stages, or of those named. */
  noCache: boolean | string[];
  pull: boolean;
  /** As BuildKit: stages that the target does not need are left out, and those that do not need each other go at once. */
  lazy: boolean;
  /** Intermediate containers go when their step has succeeded. */
  remove: boolean;
  /** And when it has failed. */
  forceRemove: boolean;
  /** What a Dockerfile may take for itself: `network.host`. */
  entitlements: string[];
  /** Resources and network of the commands' containers. */
  host: NonNullable<CreateBody['HostConfig']>;
  /** Nothing of the image is said to be newer. */
  sourceDate: Date | undefined;
  /** Of these; '' for one that is made up. */
  hostname: string;
  /** '' for that of everybody: `RUN --mount=type=cache` of another one are other caches. */
  cacheNamespace: string;
  credentials: (reference: Reference) => Promise<Credentials | undefined>;
}

/** Names that mean the same image are the same. */
export function contextName(name: string): string {
  try {
    return familiarString(parseReference(name)).replace(/:latest$/, '');
  } catch {
    return name.toLowerCase();
  }
}

export class Build {
  readonly #engine: Engine;
  readonly #options: BuildOptions;
  readonly #inputs: BuildInputs;
  readonly #report: BuildReport;
  readonly #failed = new AbortController();
  /** What failed first: the rest failed for it. */
  #failure: { error: unknown } | undefined;
  readonly #signal: AbortSignal;
  /** Each stage that has begun. */
  readonly #begun = new Map<number, Promise<UsableImage | null>>();
  #args = new BuildArgs(new Map(), {});
  #stages: Stage[] = [];
  #sources: UsableImage[] = [];

  constructor(engine: Engine, options: BuildOptions, inputs: BuildInputs, report: BuildReport, signal: AbortSignal) {
    this.#engine = engine;
    this.#options = options;
    this.#inputs = inputs;
    this.#report = report;
    this.#signal = AbortSignal.any([signal, this.#failed.signal]);
  }

  /** Resolves with the image; null when the last stage has made none. */
  async run(): Promise<UsableImage | null> {
    const { args: globals, stages } = stagesOf(this.#inputs.dockerfile);
    const { target, labels, lazy } = this.#options;
    const twice = lazy ? undefined : namedTwice(stages);
    if (twice !== undefined) throw new CaissonError('InvalidParameter', `${twice.name} stage name already used`);
    const last = target === '' ? stages.length - 1 : findStage(stages, target);
    if (last < 0)
      throw new CaissonError(
        'InvalidParameter',
        `target stage ${JSON.stringify(target)} could not be found${meant(
          target,
          stages.map(({ name }) => name),
        )}`,
      );
    this.#stages = stages.slice(0, last + 1);
    const platforms = platformArgs(this.#platform, this.#engine.images.hostPlatform, stages[last]?.name ?? '');
    this.#args = new BuildArgs(this.#options.buildArgs, platforms);
    this.#stages.at(-1)?.statements.push(...labelsOf(labels));
    this.#report.begin(globals, this.#stages);
    if (!lazy) for (const warning of this.#inputs.dockerfile.warnings) this.#report.warn(warning);
    this.#sources = this.#options.cacheFrom.flatMap((name) => this.#local(name) ?? []);
    for (const statement of globals) {
      this.#report.step(statement).done('');
      declare(statement, (name) => this.#args.global(name), this.#args.globalScope);
    }
    for (let at = lazy ? last : 0; at < last; at++) await this.#stage(at);
    try {
      const image = await this.#stage(last);
      const { sourceDate } = this.#options;
      if (image === null || sourceDate === undefined) return image;
      return await this.#engine.images.buildSteps.dated(image, sourceDate, this.#signal);
    } catch (error) {
      throw this.#failure === undefined ? error : this.#failure.error;
    } finally {
      await Promise.allSettled(this.#begun.values());
      const unused = this.#args.unused();
      if (unused.length > 0 && !lazy && !this.#signal.aborted)
        this.#report.warn(`[Warning] One or more build-args [${unused.join(' ')}] were not consumed`);
    }
  }

  get #platform(): Platform {
    const { hostPlatform } = this.#engine.images;
    return parsePlatform(this.#options.platform, hostPlatform) ?? hostPlatform;
  }

  /** The stage's image, made at the first time of asking. */
  #stage(at: number): Promise<UsableImage | null> {
    const begun = this.#begun.get(at);
    if (begun !== undefined) return begun;
    const made = this.#make(at).catch((error: unknown) => {
      this.#failure ??= { error };
      // what goes on beside it is in vain
      this.#failed.abort(new CaissonError('Cancelled', 'context canceled'));
      throw error;
    });
    made.catch(() => undefined);
    this.#begun.set(at, made);
    return made;
  }

  async #make(at: number): Promise<UsableImage | null> {
    const stage = this.#stages[at] as Stage;
    const { lazy, forceRemove } = this.#options;
    if (lazy)
      // who takes from it will be told
      for (const name of [stage.base, ...namesIn(stage.statements)]) this.#expect(at, name).catch(() => undefined);
    const containers = new StepContainers(this.#engine.containers, this.#engine.native);
    const steps = new Steps({
      engine: this.#engine,
      inputs: this.#inputs,
      containers,
      options: this.#options,
      sourceFrom: (name, report) => this.#sourceFrom(at, name, report),
      signal: this.#signal,
    });
    try {
      const state = await this.#begin(at, steps, containers);
      for (const statement of stage.statements) {
        if (this.#signal.aborted && !lazy) this.#report.warn('Build cancelled');
        this.#signal.throwIfAborted();
        // its turn comes when what it takes from is there
        if (lazy) await Promise.all(namesIn([statement]).map((name) => this.#expect(at, name)));
        await this.#told(this.#report.step(statement, stage, variablesOf(state)), async (report) => {
          await this.#step(state, statement, { steps, containers, report });
          return state.image;
        });
      }
      if (state.image !== null) this.#report.image(state.image.id);
      return state.image;
    } catch (error) {
      if (forceRemove || this.#signal.aborted) await containers.remove();
      else await containers.keep();
      throw error;
    }
  }

  async #told(report: StepReport, step: (report: StepReport) => Promise<UsableImage | null>): Promise<void> {
    try {
      report.done((await step(report))?.id ?? '');
    } catch (error) {
      report.failed(error);
      throw error;
    }
  }

  async #begin(at: number, steps: Steps, containers: StepContainers): Promise<State> {
    const stage = this.#stages[at] as Stage;
    const { from, base } = stage;
    const lookup: Lookup = (name) => this.#args.global(name);
    const { noCache } = this.#options;
    const state: State = {
      image: null,
      config: {},
      author: '',
      isCommandSet: false,
      isAnew: typeof noCache === 'boolean' ? noCache : noCache.some((name) => findStage(this.#stages, name) === at),
      args: this.#args.stage(),
    };
    if (this.#options.lazy) await this.#expect(at, base);
    await this.#told(this.#report.step(from, stage, lookup), async (report) => {
      const name = resolve(base, lookup);
      if (name === '') throw parseError(from.line, `base name (${base}) should not be blank`);
      const wanted = stagePlatform(stage, this.#args, this.#engine.images.hostPlatform);
      const source = await this.#source(at, name, report, wanted);
      state.image =
        source instanceof BuildContext
          ? await imageOfFiles(this.#engine, this.#inputs.dir, source, this.#platform, this.#signal)
          : source;
      const { OnBuild: triggers, ...own } = { ...state.image?.config.config };
      const env = own.Env ?? [];
      if (!env.some((entry) => entry.startsWith('PATH=')))
        own.Env = [...env, 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];
      state.config = own;
      const count = triggers?.length ?? 0;
      if (count > 0) report.note(`# Executing ${count} build trigger${count > 1 ? 's' : ''}`);
      for (const text of triggers ?? []) await this.#step(state, trigger(text), { steps, containers, report });
      return state.image;
    });
    return state;
  }

  /** A stage before this one, if it has this name, is needed: it begins, if it has not. */
  async #expect(at: number, name: string): Promise<void> {
    if (this.#inputs.named?.has(contextName(name))) return;
    const place = findStage(this.#stages.slice(0, at), name);
    if (place >= 0) await this.#stage(place);
  }

  /** What a name of a base or a source stands for: what the client says, a stage before this one, or an image, which may have to be pulled. */
  async #source(at: number, name: string, report: StepReport, platform?: Platform): Promise<Source> {
    const named = this.#inputs.named?.get(contextName(name));
    if (named !== undefined) return named();
    if (name === 'scratch') return null;
    const stage = this.#stages.findLastIndex((one, place) => place < at && one.name === name.toLowerCase());
    if (stage >= 0) return this.#stage(stage);
    const wanted = platform ?? (this.#options.platform === '' ? undefined : this.#platform);
    const found = this.#options.pull ? undefined : this.#local(name);
    if (found !== undefined && (wanted === undefined || runsOn(found.config, wanted))) return found;
    if (/^(sha256:)?[0-9a-f]{64}$/.test(name)) return this.#engine.images.find(name);
    const reference = withDefaultTag(parseReference(name));
    const credentials = await this.#options.credentials(reference);
    await this.#engine.images.pull({ reference, platform: wanted, credentials }, report.progress, this.#signal);
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

  /** What `--from` names: a stage by name or number, or whatever else has files. */
  async #sourceFrom(at: number, name: string, report: StepReport): Promise<UsableImage | BuildContext> {
    const fail = (reason: string, cause?: unknown): never => {
      throw new CaissonError('InvalidParameter', `invalid from flag value ${name}: ${reason}`, { cause });
    };
    if (name.includes('$'))
      fail(
        'variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround',
      );
    const isNumber = /^\d+$/.test(name);
    if (isNumber && Number(name) >= at)
      fail(Number(name) === at ? 'refers to current build stage' : 'index out of bounds');
    const later = isNumber ? -1 : findStage(this.#stages, name);
    if (later >= at && !this.#inputs.named?.has(contextName(name)))
      throw new CaissonError(
        'InvalidParameter',
        `cannot copy from stage ${JSON.stringify(name)}, it needs to be defined before current stage ${JSON.stringify(this.#stages[at]?.name || String(at))}`,
      );
    const source = isNumber
      ? await this.#stage(Number(name))
      : await this.#source(at, name, report).catch((error: unknown) => {
          // a stage that has failed speaks for itself
          if (this.#signal.aborted) throw error;
          return fail((error as Error).message, error);
        });
    return source ?? fail('it has no files');
  }

  /** The image of an instruction: one from before, or a new one. */
  async #step(
    state: State,
    statement: Statement,
    { steps, containers, report }: { steps: Steps; containers: StepContainers; report: StepReport },
  ): Promise<void> {
    const { buildSteps } = this.#engine.images;
    const { createdBy, make } = await steps.of(state, statement, report);
    const step = {
      parent: state.image,
      platform: this.#platform,
      config: state.config,
      createdBy,
      author: state.author,
      hidden: this.#options.lazy,
    };
    const known = state.isAnew ? undefined : await this.#known(step);
    if (known !== undefined) {
      report.cached();
      state.image = known;
      return;
    }
    state.isAnew = true;
    state.image = await buildSteps.make(step, await make?.(), this.#signal);
    if (this.#options.remove || this.#options.forceRemove) await containers.remove(report);
    else await containers.keep();
  }

  async #known(step: BuildStep): Promise<UsableImage | undefined> {
    const { buildSteps } = this.#engine.images;
    const cached = this.#options.lazy || this.#options.cacheFrom.length === 0 ? buildSteps.cached(step) : undefined;
    if (cached !== undefined) return cached;
    for (const source of this.#sources) {
      const restored = await buildSteps.restored(step, source, this.#signal);
      if (restored !== undefined) return restored;
    }
    return undefined;
  }
}
