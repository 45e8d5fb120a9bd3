/** The frontend `dockerfile.v0`: fetches what a build is made of from the client, and has the builder carry it out. */
import { join, posix } from 'node:path';
import { cleaned, ignoreRules } from '../../dockerignore.ts';
import { CaissonError, isKind } from '../../errdefs.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../../reference.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import { BuildArgs, declare, platformArgs, stagePlatform } from '../builder/buildArgs.ts';
import { type BuildClient, type BuildInputs, type BuildOptions, contextName, type Source } from '../builder/builder.ts';
import { fromArchive, fromUrl, type Sent } from '../builder/builds.ts';
import { BuildContext } from '../builder/context.ts';
import { type Dockerfile, directiveOf, parseDockerfile } from '../builder/dockerfile.ts';
import { gitContext, gitSourceOf } from '../builder/git.ts';
import { type LintFacts, lint } from '../builder/lint.ts';
import { type LintOptions, type LintWarning, lintOptionsOf, violation } from '../builder/lintRules.ts';
import { outlineOf, targetsOf } from '../builder/outline.ts';
import { needed, pathsIn, stagesOf } from '../builder/stages.ts';
import type { UsableImage } from '../images/names.ts';
import { forwardAgent } from './agent.ts';
import { type Attributes, optionsOf, platformsOf, withPrefix } from './attributes.ts';
import { type DockerfileText, factsOf, warn } from './checks.ts';
import { ClientFiles, type ClientFilesParts } from './clientFiles.ts';
import type { ErrorPlace } from './errors.ts';
import { sourceOf } from './inputs.ts';
import type { Definition } from './proto/control_pb.ts';
import { receiveUpload } from './receive.ts';
import { VertexReport } from './report.ts';
import type { Session } from './session.ts';
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

/** A failure, and where in the Dockerfile it was. */
export class FrontendError extends Error {
  readonly place: ErrorPlace;

  constructor(cause: unknown, place: ErrorPlace) {
    super((cause as Error).message, { cause });
    this.place = place;
  }
}

export class Frontend {
  readonly #parts: FrontendParts;
  readonly #attrs: Attributes;
  readonly #inputs: FrontendRequest['inputs'];
  readonly #files: ClientFiles;

  constructor(parts: FrontendParts, { attrs, inputs }: FrontendRequest) {
    this.#parts = parts;
    this.#attrs = attrs;
    this.#inputs = inputs;
    this.#files = new ClientFiles(parts, attrs);
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
    const { engine, builds, dir, status, signal, entitlements } = this.#parts;
    const filename = this.#attrs['filename'] || 'Dockerfile';
    const options = { ...optionsOf(this.#attrs, entitlements), credentials: this.#credentials };
    const platforms = platformsOf(this.#attrs);
    if (platforms.length > 1 && this.#parts.isExported)
      throw new CaissonError('NotImplemented', `${platforms.join(',')}: an image has one platform in caisson`, {
        hint: 'build each by itself',
      });
    for (const [name, input] of Object.entries(this.#inputs))
      if (input.def.length === 0 && ['context', 'dockerfile'].includes(name))
        throw new CaissonError('InvalidParameter', 'invalid nil input definition to definition op');
    await this.#fetchCaches(options.cacheFrom);
    const { dockerfile, context, ignored, vertex } = await this.#fetchDefinition(filename);
    const source = { filename, text: dockerfile.text };
    checkSyntax(source);
    const report = new VertexReport(status, vertex);
    const checks = this.#checks(dockerfile);
    const facts = factsOf(engine, options, await this.#ignored(ignored, checks));
    const found = (): LintWarning[] => lint(dockerfile, checks, { ...facts, allStages: false });
    const inputs: BuildInputs = {
      dockerfile,
      dir,
      downloads: builds.downloads,
      context: context === undefined ? this.#context(dockerfile, ignored) : () => Promise.resolve(context),
      named: this.#named(dockerfile, options),
      client: this.#client,
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

  readonly #client: BuildClient = {
    secret: async (id) => (await this.#sessionIfAny())?.secret(id),
    agent: async (id, path) => {
      const session = await this.#sessionIfAny();
      return session && forwardAgent(session, id, path, this.#parts.signal);
    },
  };

  readonly #credentials = async ({ domain }: Reference): Promise<Credentials | undefined> => {
    const host = domain === 'docker.io' ? 'registry-1.docker.io' : domain;
    return (await this.#sessionIfAny())?.credentials(host);
  };

  #sessionIfAny(): Promise<Session | undefined> {
    return this.#parts.session().catch(() => undefined);
  }

  /** The Dockerfile, and the context where that comes with it. */
  async #definition(filename: string, vertex: Vertex): Promise<Sent & { ignored?: string[] }> {
    const { engine, archive, signal, dir } = this.#parts;
    const url = this.#attrs[this.#attrs['contextkey'] ?? 'context'] ?? '';
    const ownDockerfile = 'dockerfilekey' in this.#attrs;
    const place = join(dir, 'context');
    let sent: Sent | undefined;
    if (archive !== undefined) sent = await fromArchive(engine, place, filename, archive);
    else if (url.startsWith('http://buildkit-session/')) {
      const upload = receiveUpload(await this.#parts.session(), url, signal);
      sent = ownDockerfile
        ? { context: await BuildContext.receive(engine.native, place, upload), dockerfile: EMPTY }
        : await fromArchive(engine, place, filename, upload);
    } else if (url !== '') {
      const keepsGitDir = /^(1|true)$/i.test(this.#attrs['build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR'] ?? '');
      sent = await fromUrl(engine, place, filename, url, signal, { keepsGitDir, client: this.#client });
    }
    if (sent !== undefined && !ownDockerfile) return sent;
    const names = [filename, `${filename}.dockerignore`];
    if (posix.basename(filename) === 'Dockerfile') names.push(posix.join(posix.dirname(filename), 'dockerfile'));
    const files = await this.#files.some(
      'dockerfile',
      { name: this.#attrs['dockerfilekey'] ?? 'dockerfile', paths: names },
      vertex,
    );
    const text = files.text(filename) ?? files.text(names[2] ?? filename);
    if (text === undefined)
      throw new CaissonError('NotFound', `failed to read dockerfile: open ${filename}: no such file or directory`);
    const rules = files.text(`${filename}.dockerignore`);
    const ignored = rules === undefined ? undefined : ignoreRules(rules);
    const dockerfile = parseDockerfile(text);
    return { context: sent?.context, dockerfile, ...(ignored !== undefined && { ignored }) };
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
        loaded ??= this.#load(name, value, this.#wantedOf(name, dockerfile, options));
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

  async #load(name: string, value: string, paths?: string[]): Promise<Source> {
    const at = value.indexOf(':');
    const kind = value.slice(0, at);
    const rest = value.slice(at + 1);
    if (kind === 'docker-image') return this.#image(name, rest.replace(/^\/\//, ''));
    if (kind === 'input') {
      const input = this.#inputs[rest];
      const source = input === undefined ? undefined : sourceOf(name, input);
      if (input === undefined) throw new CaissonError('InvalidParameter', `invalid input ${rest} for ${name}`);
      if (source === undefined) return null;
      return source.startsWith('docker-image://') ? this.#load(name, source) : this.#parts.engine.images.find(source);
    }
    if (kind === 'local') {
      const vertex = this.#parts.status.vertex(`[context ${name}] load from client`);
      const excludes = await this.#files.ignored(rest);
      const wanted = { name: rest, excludes, ...(paths !== undefined && paths.length > 0 && { paths }) };
      return vertex.during(() => this.#files.directory(wanted, vertex, name));
    }
    const repository = gitSourceOf(value);
    if (repository !== undefined) {
      const { engine, dir, signal, status } = this.#parts;
      const vertex = status.vertex(`[context ${name}] load git source ${value}`);
      const options = { native: engine.native, dir, keepsGitDir: false, client: this.#client, signal };
      return vertex.during(async () => (await gitContext(repository, options)).context);
    }
    throw new CaissonError(
      'NotImplemented',
      `the context ${name} is ${value}: contexts of kind ${kind} are not supported by caisson`,
    );
  }

  async #image(name: string, reference: string): Promise<Source> {
    const { engine, status, signal } = this.#parts;
    if (reference === 'scratch') return null;
    try {
      return engine.images.find(reference);
    } catch (error) {
      if (!isKind(error, 'NotFound')) throw error;
    }
    const parsed = withDefaultTag(parseReference(reference));
    const vertex = status.vertex(`[context ${name}] ${familiarString(parsed)}`);
    const credentials = await this.#credentials(parsed);
    await vertex.during(() =>
      engine.images.pull({ reference: parsed, platform: undefined, credentials }, () => undefined, signal),
    );
    return engine.images.find(reference);
  }

  /** Images that earlier builds have pushed; one that cannot be had is no reason to fail. */
  async #fetchCaches(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const vertex = this.#parts.status.vertex(`importing cache manifest from ${name}`);
      await vertex.during(() => this.#image(name, name)).catch(() => undefined);
    }
  }
}

const EMPTY: Dockerfile = { text: '', statements: [], escapeSign: '\\', warnings: [], emptyContinuations: [] };

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
