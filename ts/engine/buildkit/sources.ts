/** What builds are made of beside the Dockerfile and its context, by where it comes from. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { CaissonError, isKind } from '../../errdefs.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../../reference.ts';
import type { Credentials } from '../../registry/client/auth.ts';
import type { BuildClient, Source } from '../builder/builder.ts';
import { BuildContext } from '../builder/context.ts';
import { type GitSource, gitContext, gitSourceOf } from '../builder/git.ts';
import { imageView } from '../builder/view.ts';
import { forwardAgent } from './agent.ts';
import type { ClientFiles, ClientFilesParts } from './clientFiles.ts';
import { Graph } from './graph.ts';
import type { Definition } from './proto/control_pb.ts';
import type { Session } from './session.ts';

export class Sources {
  readonly #parts: ClientFilesParts;
  readonly #files: ClientFiles;
  readonly #inputs: Readonly<Record<string, Definition>>;
  readonly #graph: Graph;

  /** `inputs`: results of other builds, by the names that contexts have for them. */
  constructor(parts: ClientFilesParts, files: ClientFiles, inputs: Readonly<Record<string, Definition>>) {
    this.#parts = parts;
    this.#files = files;
    this.#inputs = inputs;
    this.#graph = new Graph(parts, this);
  }

  readonly client: BuildClient = {
    secret: async (id) => (await this.#sessionIfAny())?.secret(id),
    agent: async (id, path) => {
      const session = await this.#sessionIfAny();
      return session && forwardAgent(session, id, path, this.#parts.signal);
    },
  };

  readonly credentials = async ({ domain }: Reference): Promise<Credentials | undefined> => {
    const host = domain === 'docker.io' ? 'registry-1.docker.io' : domain;
    return (await this.#sessionIfAny())?.credentials(host);
  };

  /** What a context (`--build-context`) is: `docker-image://…`, `input:…`, `local:…` or a repository. `paths`: all that is taken of it. */
  async load(name: string, value: string, paths?: string[]): Promise<Source> {
    const at = value.indexOf(':');
    const kind = value.slice(0, at);
    const rest = value.slice(at + 1);
    if (kind === 'docker-image') return this.image(name, rest.replace(/^\/\//, ''));
    if (kind === 'input') {
      const input = this.#inputs[rest];
      if (input === undefined) throw new CaissonError('InvalidParameter', `invalid input ${rest} for ${name}`);
      return this.evaluate(input);
    }
    if (kind === 'local') {
      const vertex = this.#parts.status.vertex(`[context ${name}] load from client`);
      const excludes = await this.#files.ignored(rest);
      const wanted = { name: rest, excludes, ...(paths !== undefined && paths.length > 0 && { paths }) };
      return vertex.during(() => this.#files.directory(wanted, vertex, name));
    }
    const repository = gitSourceOf(value);
    if (repository !== undefined) return this.repository(`[context ${name}] load git source ${value}`, repository);
    throw new CaissonError(
      'NotImplemented',
      `the context ${name} is ${value}: contexts of kind ${kind} are not supported by caisson`,
    );
  }

  /** An input as a directory; undefined: there is none of the name. */
  async directory(name: string): Promise<BuildContext | undefined> {
    const input = this.#inputs[name];
    if (input === undefined) return undefined;
    if (input.def.length === 0)
      throw new CaissonError('InvalidParameter', 'invalid nil input definition to definition op');
    const source = await this.evaluate(input);
    if (source instanceof BuildContext) return source;
    const { engine, dir } = this.#parts;
    const view = { overlay: await imageView(engine, dir, source?.chainId ?? null) };
    const place = join(dir, `input-${randomBytes(8).toString('hex')}`);
    return BuildContext.below(engine.native, place, view, '');
  }

  evaluate(definition: Definition): Promise<Source> {
    return this.#graph.evaluate(definition);
  }

  /** One of this engine, or pulled. */
  async image(name: string, reference: string): Promise<Source> {
    const { engine, status, signal } = this.#parts;
    if (reference === 'scratch') return null;
    try {
      return engine.images.find(reference);
    } catch (error) {
      if (!isKind(error, 'NotFound')) throw error;
    }
    const parsed = withDefaultTag(parseReference(reference));
    const vertex = status.vertex(`[context ${name}] ${familiarString(parsed)}`);
    const credentials = await this.credentials(parsed);
    await vertex.during(() =>
      engine.images.pull({ reference: parsed, platform: undefined, credentials }, () => undefined, signal),
    );
    return engine.images.find(reference);
  }

  /** `shown`: what the client is told. */
  async repository(shown: string, source: GitSource): Promise<BuildContext> {
    const { engine, dir, signal, status } = this.#parts;
    const options = { native: engine.native, dir, keepsGitDir: false, client: this.client, signal };
    return status.vertex(shown).during(async () => (await gitContext(source, options)).context);
  }

  /** Of the client. */
  async local(name: string, excludes: string[]): Promise<BuildContext> {
    const vertex = this.#parts.status.vertex(`[internal] load ${name} from client`);
    return vertex.during(() => this.#files.directory({ name, excludes }, vertex, name));
  }

  #sessionIfAny(): Promise<Session | undefined> {
    return this.#parts.session().catch(() => undefined);
  }
}
