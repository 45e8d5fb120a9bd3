/** The frontend `dockerfile.v0`: fetches what a build is made of from the client, and has the builder carry it out. */
import { join, posix } from 'node:path';
import { cleaned, ignoreRules } from '../../dockerignore.ts';
import { CaissonError, isKind } from '../../errdefs.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../../reference.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import { type BuildInputs, contextName, type Source } from '../builder/builder.ts';
import { type Builds, fromArchive, fromUrl, type Sent } from '../builder/builds.ts';
import { BuildContext } from '../builder/context.ts';
import { type Dockerfile, parseDockerfile } from '../builder/dockerfile.ts';
import { gitContext, gitSourceOf } from '../builder/git.ts';
import type { KeptContext } from '../builder/keptContexts.ts';
import { pathsIn } from '../builder/stages.ts';
import type { Engine } from '../engine.ts';
import type { UsableImage } from '../images/names.ts';
import { forwardAgent } from './agent.ts';
import { type Attributes, optionsOf, withPrefix } from './attributes.ts';
import type { ErrorPlace } from './errors.ts';
import { sourceOf } from './inputs.ts';
import type { Definition } from './proto/control_pb.ts';
import { compare, type FilesWanted, receiveFiles, receiveUpload } from './receive.ts';
import { VertexReport } from './report.ts';
import type { Session } from './session.ts';
import type { StatusLog, Vertex } from './status.ts';

export interface FrontendParts {
  engine: Engine;
  builds: Builds;
  /** For what is in the making; the caller's to remove. */
  dir: string;
  /** Rejects when the client has none. */
  session: () => Promise<Session>;
  /** In place of a context of the session: the body of `POST /build`. */
  archive?: AsyncIterable<Buffer>;
  status: StatusLog;
  /** What the client allows its Dockerfile. */
  entitlements: readonly string[];
  signal: AbortSignal;
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
  /** Directories of the client that this build works with. */
  readonly #held: { key: string; kept: KeptContext; isWhole: boolean }[] = [];

  constructor(parts: FrontendParts, { attrs, inputs }: FrontendRequest) {
    this.#parts = parts;
    this.#attrs = attrs;
    this.#inputs = inputs;
  }

  /** Resolves with the image; null when it has no files and no config. */
  async run(): Promise<UsableImage | null> {
    try {
      return await this.#run();
    } finally {
      for (const { key, kept, isWhole } of this.#held) await this.#parts.builds.contexts.release(key, kept, isWhole);
    }
  }

  async #run(): Promise<UsableImage | null> {
    const { builds, dir, status, signal, entitlements } = this.#parts;
    const request = this.#attrs['requestid'] ?? '';
    if (request !== '') throw new CaissonError('NotImplemented', `unsupported frontend request ${request}`);
    const filename = this.#attrs['filename'] || 'Dockerfile';
    const options = { ...optionsOf(this.#attrs, entitlements), credentials: this.#credentials };
    await this.#fetchCaches(options.cacheFrom);
    const vertex = status.vertex(`[internal] load build definition from ${filename}`);
    const { dockerfile, context, ignored } = await vertex.during(() => this.#definition(filename, vertex));
    checkSyntax(dockerfile.text);
    const report = new VertexReport(status, vertex);
    const inputs: BuildInputs = {
      dockerfile,
      dir,
      context: context === undefined ? this.#context(dockerfile, ignored) : () => Promise.resolve(context),
      named: this.#named(),
      client: {
        secret: async (id) => (await this.#parts.session()).secret(id),
        agent: async (id, path) => forwardAgent(await this.#parts.session(), id, path, signal),
      },
    };
    try {
      return await builds.carryOut(options, inputs, report, signal);
    } catch (error) {
      const line =
        report.failedLine ?? Number(/^dockerfile parse error on line (\d+)/.exec((error as Error).message)?.[1]);
      if (!(line > 0)) throw error;
      throw new FrontendError(error, { filename, text: dockerfile.text, line });
    }
  }

  readonly #credentials = async ({ domain }: Reference): Promise<Credentials | undefined> => {
    const host = domain === 'docker.io' ? 'registry-1.docker.io' : domain;
    const session = await this.#parts.session().catch(() => undefined);
    return session?.credentials(host);
  };

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
      const token = gitSourceOf(url) === undefined ? undefined : await this.#gitToken();
      sent = await fromUrl(engine, place, filename, url, signal, { keepsGitDir, token });
    }
    if (sent !== undefined && !ownDockerfile) return sent;
    const names = [filename, `${filename}.dockerignore`];
    if (posix.basename(filename) === 'Dockerfile') names.push(posix.join(posix.dirname(filename), 'dockerfile'));
    const files = await this.#files(
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

  /** The secret by which BuildKit's clients show who they are to a git server. */
  async #gitToken(): Promise<string | undefined> {
    const session = await this.#parts.session().catch(() => undefined);
    const secret = await session?.secret('GIT_AUTH_TOKEN');
    return secret && Buffer.from(secret).toString('utf8').trim();
  }

  /** The client's directory: what the Dockerfile names, or all of it when more is asked for. */
  #context(dockerfile: Dockerfile, ignored: string[] | undefined): BuildInputs['context'] {
    const { status } = this.#parts;
    const name = this.#attrs['contextkey'] ?? 'context';
    const named = pathsIn(dockerfile);
    const fetched = new Map<string, Promise<BuildContext>>();
    let excludes: Promise<string[]> | undefined;
    const fetch = (paths: string[] | undefined): Promise<BuildContext> => {
      const key = paths === undefined ? 'all' : 'named';
      const there = fetched.get(key) ?? fetched.get('all');
      if (there !== undefined) return there;
      excludes ??= ignored === undefined ? this.#ignored(name) : Promise.resolve(ignored);
      const coming = excludes.then((rules) => {
        const vertex = status.vertex('[internal] load build context');
        const wanted = { name, excludes: rules, ...(paths !== undefined && { paths }) };
        return vertex.during(() => this.#directory(wanted, vertex));
      });
      coming.catch(() => undefined);
      fetched.set(key, coming);
      return coming;
    };
    return (paths) =>
      fetch(named !== undefined && paths.every((path) => named.includes(cleaned(path))) ? named : undefined);
  }

  async #ignored(name: string): Promise<string[]> {
    const vertex = this.#parts.status.vertex('[internal] load .dockerignore');
    const files = await vertex.during(() =>
      this.#files(`ignore-${name.replaceAll('/', '_')}`, { name, paths: ['.dockerignore'] }, vertex),
    );
    return ignoreRules(files.text('.dockerignore') ?? '');
  }

  /** Few files, which come anew each time. */
  async #files(place: string, wanted: FilesWanted, vertex: Vertex): Promise<BuildContext> {
    const { engine, dir, signal } = this.#parts;
    const progress = new Transfer(vertex, 'dockerfile');
    const context = await receiveFiles(
      await this.#parts.session(),
      wanted,
      signal,
      (bytes) => progress.reached(bytes),
      (entries, archiveOf) => BuildContext.receive(engine.native, join(dir, place), archiveOf([...entries.keys()])),
    );
    progress.ended();
    return context;
  }

  /** A directory of the client, of which an earlier build may have most. */
  async #directory(wanted: FilesWanted, vertex: Vertex): Promise<BuildContext> {
    const { engine, builds, signal } = this.#parts;
    const session = await this.#parts.session();
    const key = JSON.stringify([session.sharedKey, wanted]);
    const kept = await builds.contexts.take(key);
    const held = { key, kept, isWhole: false };
    this.#held.push(held);
    const progress = new Transfer(vertex, 'context');
    await receiveFiles(
      session,
      wanted,
      signal,
      (bytes) => progress.reached(bytes),
      async (entries, archiveOf) => {
        const { changed, removed, stamps } = compare(kept.stamps, entries);
        for (const path of removed) await kept.context.remove(path);
        await kept.context.add(engine.native, archiveOf(changed));
        kept.stamps = stamps;
      },
    );
    held.isWhole = true;
    progress.ended();
    return kept.context;
  }

  /** `--build-context`. */
  #named(): ReadonlyMap<string, () => Promise<Source>> {
    const named = new Map<string, () => Promise<Source>>();
    for (const [key, value] of Object.entries(withPrefix(this.#attrs, 'context:'))) {
      const name = contextName(key.replace(/::.*$/, ''));
      let loaded: Promise<Source> | undefined;
      named.set(name, () => {
        loaded ??= this.#load(name, value);
        return loaded;
      });
    }
    return named;
  }

  async #load(name: string, value: string): Promise<Source> {
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
      const excludes = await this.#ignored(rest);
      return vertex.during(() => this.#directory({ name: rest, excludes }, vertex));
    }
    const repository = gitSourceOf(value);
    if (repository !== undefined) {
      const { engine, dir, signal, status } = this.#parts;
      const vertex = status.vertex(`[context ${name}] load git source ${value}`);
      const options = { native: engine.native, dir, keepsGitDir: false, token: await this.#gitToken(), signal };
      return vertex.during(() => gitContext(repository, options));
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

const INTERVAL_MS = 100;

/** How much of a transfer has come, told now and then. */
class Transfer {
  readonly #vertex: Vertex;
  readonly #name: string;
  #bytes = 0;
  #toldMs = 0;

  constructor(vertex: Vertex, what: 'dockerfile' | 'context') {
    this.#vertex = vertex;
    this.#name = `transferring ${what}:`;
  }

  reached(bytes: number): void {
    this.#bytes = bytes;
    if (performance.now() - this.#toldMs < INTERVAL_MS) return;
    this.#toldMs = performance.now();
    this.#vertex.part(this.#name, bytes, 0, false);
  }

  ended(): void {
    this.#vertex.part(this.#name, this.#bytes, 0, true);
  }
}

const EMPTY: Dockerfile = { text: '', statements: [], escapeSign: '\\', warnings: [] };

/** `# syntax=`: Docker's own language is built in; another one would have to be run from its image. */
function checkSyntax(text: string): void {
  const [, syntax] =
    /^#\s*syntax\s*=\s*(\S+)/im.exec(
      text
        .split('\n')
        .filter((line) => line.startsWith('#'))
        .join('\n'),
    ) ?? [];
  if (syntax === undefined || isOwnSyntax(syntax)) return;
  throw new CaissonError(
    'NotImplemented',
    `# syntax=${syntax}: only Docker's own Dockerfile syntax is supported by caisson`,
  );
}

/** `docker/dockerfile:1` and the like, from whichever registry. */
export const isOwnSyntax = (image: string): boolean => /(^|\/)docker\/dockerfile(-upstream)?([:@].*)?$/.test(image);
