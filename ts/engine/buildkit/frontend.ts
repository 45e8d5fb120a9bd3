/** The frontend `dockerfile.v0`: fetches what a build is made of from the client, and has the builder carry it out. */
import { join, posix } from 'node:path';
import { cleaned, ignoreRules } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import { BuildArgs, declare, platformArgs, stagePlatform } from '../builder/buildArgs.ts';
import { type BuildInputs, type BuildOptions, contextName, type Source } from '../builder/builder.ts';
import { contextAt, fromContext, type Sent } from '../builder/builds.ts';
import { BuildContext } from '../builder/context.ts';
import { type Dockerfile, directiveOf, parseDockerfile } from '../builder/dockerfile.ts';
import { type LintFacts, lint } from '../builder/lint.ts';
import { type LintOptions, type LintWarning, lintOptionsOf, violation } from '../builder/lintRules.ts';
import { outlineOf, targetsOf } from '../builder/outline.ts';
import { needed, pathsIn, stagesOf } from '../builder/stages.ts';
import type { UsableImage } from '../images/names.ts';
import { type Attributes, optionsOf, platformsOf, withPrefix } from './attributes.ts';
import { type DockerfileText, factsOf, warn } from './checks.ts';
import { ClientFiles, type ClientFilesParts } from './clientFiles.ts';
import { FrontendError } from './errors.ts';
import type { Definition } from './proto/control_pb.ts';
import { receiveUpload } from './receive.ts';
import { VertexReport } from './report.ts';
import { Sources } from './sources.ts';
import type { Vertex } from './status.ts';
import { checkRequest, describe, lintResult, type Metadata, outlineResult, targetsResult } from './subrequests.ts';

export interface FrontendParts extends ClientFilesParts {
  /** Somebody takes the image. */
  isExported: boolean;
  /** In place of a context of the session: the body of `POST /build`. */
  archive?: AsyncIterable<Buffer>;
  /** What the client allows its Dockerfile. */
  entitlements: readonly string[];
}

export interface FrontendRequest {
  attrs: Attributes;
  inputs: Readonly<Record<string, Definition>>;
}

/** What the client calls the directory of the Dockerfile, and a result of another build in place of it. */
const DOCKERFILE = 'dockerfile';

export class Frontend {
  readonly #parts: FrontendParts;
  readonly #attrs: Attributes;
  readonly #inputs: FrontendRequest['inputs'];
  readonly #files: ClientFiles;
  readonly #sources: Sources;

  constructor(parts: FrontendParts, { attrs, inputs }: FrontendRequest) {
    this.#parts = parts;
    this.#attrs = attrs;
    this.#inputs = inputs;
    this.#files = new ClientFiles(parts, attrs);
    this.#sources = new Sources(parts, this.#files, inputs);
  }

  /** Resolves with the image; null when it has no files and no config. */
  async run(): Promise<UsableImage | null> {
    try {
      return await this.#run();
    } finally {
      await this.#files.release();
    }
  }

  /** What a client asks beside building (`requestid`). */
  async answer(request: string): Promise<Metadata> {
    checkRequest(request);
    if (request === 'frontend.subrequests.describe') return describe();
    const filename = this.#attrs['filename'] || 'Dockerfile';
    const { dockerfile, ignored } = await this.#fetchDefinition(filename);
    if (request === 'frontend.targets') return targetsResult(dockerfile, targetsOf(dockerfile));
    const options = optionsOf(this.#attrs, []);
    const facts = factsOf(this.#parts.engine, options, ignored ?? []);
    if (request === 'frontend.outline') return outlineResult(dockerfile, outlineOf(dockerfile, facts));
    const checks = this.#checks(dockerfile);
    const rules = await this.#ignored(ignored, checks);
    const warnings = lint(dockerfile, checks, { ...facts, ignored: rules, allStages: facts.target === '' });
    const isRefused = violation(warnings, checks);
    const mistake = isRefused && { message: isRefused.message, lines: warnings[0]?.lines ?? [1, 1] };
    return lintResult({ text: dockerfile.text, filename }, warnings, mistakeIn(dockerfile, facts) ?? mistake);
  }

  async #fetchDefinition(filename: string): Promise<Sent & { ignored?: string[]; vertex: Vertex }> {
    const vertex = this.#parts.status.vertex(`[internal] load build definition from ${filename}`);
    return { ...(await vertex.during(() => this.#definition(filename, vertex))), vertex };
  }

  async #run(): Promise<UsableImage | null> {
    const { engine, builds, dir, status, images, signal, entitlements } = this.#parts;
    const filename = this.#attrs['filename'] || 'Dockerfile';
    const options = { ...optionsOf(this.#attrs, entitlements), credentials: this.#sources.credentials };
    const platforms = platformsOf(this.#attrs);
    if (platforms.length > 1 && this.#parts.isExported)
      throw new CaissonError('NotImplemented', `${platforms.join(',')}: an image has one platform in caisson`, {
        hint: 'build each by itself',
      });
    await this.#fetchCaches(options.cacheFrom);
    const { dockerfile, context, ignored, vertex } = await this.#fetchDefinition(filename);
    const source = { filename, text: dockerfile.text };
    checkSyntax(source);
    const report = new VertexReport(status, vertex, images);
    const checks = this.#checks(dockerfile);
    const facts = factsOf(engine, options, await this.#ignored(ignored, checks));
    const found = (): LintWarning[] => lint(dockerfile, checks, { ...facts, allStages: false });
    const inputs: BuildInputs = {
      dockerfile,
      dir,
      downloads: builds.downloads,
      context: context === undefined ? this.#context(dockerfile, ignored) : () => Promise.resolve(context),
      named: this.#named(dockerfile, options),
      client: this.#sources.client,
    };
    const isRefused = violation(found(), checks);
    try {
      if (isRefused !== undefined) throw isRefused;
      let image: UsableImage | null = null;
      for (const platform of platforms.length > 0 ? platforms : [''])
        image = await builds.carryOut({ ...options, platform }, inputs, report, signal);
      return image;
    } catch (error) {
      const lines = report.failedLines ?? (error === isRefused ? found()[0]?.lines : linesIn(error, dockerfile));
      throw lines === undefined ? error : new FrontendError(error, { ...source, lines });
    } finally {
      // by now the images that stages begin with are there
      warn(vertex, source, found());
    }
  }

  #checks(dockerfile: Dockerfile): LintOptions {
    return lintOptionsOf(dockerfile, this.#attrs['build-arg:BUILDKIT_DOCKERFILE_CHECK']);
  }

  /** `.dockerignore`, for the check that asks for it. `own`: the Dockerfile's own. */
  async #ignored(own: string[] | undefined, { experimental }: LintOptions): Promise<string[]> {
    if (own !== undefined || experimental.length === 0 || this.#parts.archive !== undefined) return own ?? [];
    return this.#files.ignored(this.#attrs['contextkey'] ?? 'context');
  }

  /** A context that is no directory of the client, or the text of a Dockerfile in place of one. */
  async #contextElsewhere(): Promise<BuildContext | string | undefined> {
    const { engine, archive, signal, dir } = this.#parts;
    const url = this.#attrs[this.#attrs['contextkey'] ?? 'context'] ?? '';
    const place = join(dir, 'context');
    if (archive !== undefined) return BuildContext.receive(engine.native, place, archive);
    if (url.startsWith('http://buildkit-session/'))
      return BuildContext.receive(engine.native, place, receiveUpload(await this.#parts.session(), url, signal));
    const keepsGitDir = /^(1|true)$/i.test(this.#attrs['build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR'] ?? '');
    if (url !== '') return contextAt(engine, place, url, signal, { keepsGitDir, client: this.#sources.client });
    return this.#sources.directory('context');
  }

  async #scoped(context: BuildContext | undefined): Promise<BuildContext | undefined> {
    const part = this.#attrs['contextsubdir'];
    if (context === undefined || !part) return context;
    const { engine, dir } = this.#parts;
    return BuildContext.below(engine.native, join(dir, 'subdir'), context.view, part);
  }

  /** The Dockerfile, and the context where that comes with it. */
  async #definition(filename: string, vertex: Vertex): Promise<Sent & { ignored?: string[] }> {
    const found = await this.#contextElsewhere();
    const context = typeof found === 'string' ? undefined : await this.#scoped(found);
    const ownDockerfile = 'dockerfilekey' in this.#attrs;
    const dockerfileIn = DOCKERFILE in this.#inputs ? await this.#sources.directory(DOCKERFILE) : found;
    if (dockerfileIn !== undefined && !ownDockerfile)
      return { ...(await fromContext(dockerfileIn, filename)), context };
    const names = [filename, `${filename}.dockerignore`];
    if (posix.basename(filename) === 'Dockerfile') names.push(posix.join(posix.dirname(filename), 'dockerfile'));
    const files = await this.#files.some(
      'dockerfile',
      { name: this.#attrs['dockerfilekey'] ?? DOCKERFILE, paths: names },
      vertex,
    );
    const text = files.text(filename) ?? files.text(names[2] ?? filename);
    if (text === undefined)
      throw new CaissonError('NotFound', `failed to read dockerfile: open ${filename}: no such file or directory`);
    const rules = files.text(`${filename}.dockerignore`);
    const ignored = rules === undefined ? undefined : ignoreRules(rules);
    const dockerfile = parseDockerfile(text);
    return { context, dockerfile, ...(ignored !== undefined && { ignored }) };
  }

  /** The client's directory: what the Dockerfile names, or all of it when more is asked for. */
  #context(dockerfile: Dockerfile, ignored: string[] | undefined): BuildInputs['context'] {
    const { status } = this.#parts;
    const name = this.#attrs['contextkey'] ?? 'context';
    const named = pathsIn(dockerfile.statements);
    const fetched = new Map<string, Promise<BuildContext>>();
    let excludes: Promise<string[]> | undefined;
    const fetch = (paths: string[] | undefined): Promise<BuildContext> => {
      const key = paths === undefined ? 'all' : 'named';
      const there = fetched.get(key) ?? fetched.get('all');
      if (there !== undefined) return there;
      excludes ??= ignored === undefined ? this.#files.ignored(name) : Promise.resolve(ignored);
      const coming = excludes.then((rules) => {
        const vertex = status.vertex('[internal] load build context');
        const wanted = { name, excludes: rules, ...(paths !== undefined && { paths }) };
        return vertex.during(() => this.#files.directory(wanted, vertex));
      });
      coming.catch(() => undefined);
      fetched.set(key, coming);
      return coming;
    };
    return (paths) =>
      fetch(named !== undefined && paths.every((path) => named.includes(cleaned(path))) ? named : undefined);
  }

  /** `--build-context`. */
  #named(
    dockerfile: Dockerfile,
    options: Omit<BuildOptions, 'credentials'>,
  ): ReadonlyMap<string, () => Promise<Source>> {
    const named = new Map<string, () => Promise<Source>>();
    for (const [key, value] of Object.entries(withPrefix(this.#attrs, 'context:'))) {
      const name = contextName(key.replace(/::.*$/, ''));
      let loaded: Promise<Source> | undefined;
      named.set(name, () => {
        loaded ??= this.#sources.load(name, value, this.#wantedOf(name, dockerfile, options));
        return loaded;
      });
    }
    return named;
  }

  /** What the target takes of a context; undefined: perhaps anything. */
  #wantedOf(context: string, dockerfile: Dockerfile, options: Omit<BuildOptions, 'credentials'>): string[] | undefined {
    const { stages } = stagesOf(dockerfile);
    const wanted = needed(stages, options.target, (name) => options.buildArgs.get(name) ?? undefined);
    const statements = wanted.flatMap((stage) => [stage.from, ...stage.statements]);
    return pathsIn(statements, (name) => name !== undefined && contextName(name) === context);
  }

  /** Images that earlier builds have pushed; one that cannot be had is no reason to fail. */
  async #fetchCaches(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const vertex = this.#parts.status.vertex(`importing cache manifest from ${name}`);
      await vertex.during(() => this.#sources.image(name, name)).catch(() => undefined);
    }
  }
}

/** Of the instruction that a sentence is about. */
function linesIn(error: unknown, { statements }: Dockerfile): [number, number] | undefined {
  const line = Number(/^dockerfile parse error on line (\d+)/.exec((error as Error).message)?.[1]);
  const statement = statements.findLast((one) => one.line <= line);
  return Number.isNaN(line) ? undefined : [line, statement?.endLine ?? line];
}

/** Why a Dockerfile cannot be built, whatever it is built with. */
function mistakeIn(
  dockerfile: Dockerfile,
  { buildArgs, platform, hostPlatform, target }: Omit<LintFacts, 'allStages'>,
): { message: string; lines: [number, number] } | undefined {
  let lines: [number, number] | undefined;
  try {
    const { args: globals, stages } = stagesOf(dockerfile);
    const args = new BuildArgs(buildArgs, platformArgs(platform, hostPlatform, target));
    for (const statement of globals) {
      lines = [statement.line, statement.endLine];
      declare(statement, (name) => args.global(name), args.globalScope);
    }
    for (const stage of stages) {
      lines = [stage.from.line, stage.from.endLine];
      stagePlatform(stage, args, hostPlatform);
    }
    return undefined;
  } catch (error) {
    return { message: (error as Error).message, lines: lines ?? linesIn(error, dockerfile) ?? [1, 1] };
  }
}

/** `# syntax=`: Docker's own language is built in; another one would have to be run from its image. */
function checkSyntax({ filename, text }: DockerfileText): void {
  const [syntax] = directiveOf(text, 'syntax')?.split(/\s/) ?? [];
  if (syntax === undefined || isOwnSyntax(syntax)) return;
  const refusal = new CaissonError(
    'NotImplemented',
    `# syntax=${syntax}: only Docker's own Dockerfile syntax is supported by caisson`,
  );
  const line = text.split('\n').findIndex((one) => /^#\s*syntax/i.test(one)) + 1;
  throw new FrontendError(refusal, { filename, text, lines: [line, line] });
}

/** `docker/dockerfile:1` and the like, from whichever registry. */
export const isOwnSyntax = (image: string): boolean => /(^|\/)docker\/dockerfile(-upstream)?([:@].*)?$/.test(image);
