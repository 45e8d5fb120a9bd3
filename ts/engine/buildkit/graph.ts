/**
 * A graph of operations on trees of files (BuildKit's LLB), carried out as far as Dockerfiles have words for it: sources are
 * fetched, and what is done to their files becomes a Dockerfile of one stage for each action. Others are refused by name.
 */
import { createHash } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { CaissonError } from '../../errdefs.ts';
import { type BuildInputs, contextName, type Source } from '../builder/builder.ts';
import { type Statement, statementOf } from '../builder/dockerfile.ts';
import { type GitSource, gitSourceOf } from '../builder/git.ts';
import { optionsOf } from './attributes.ts';
import type { ClientFilesParts } from './clientFiles.ts';
import { type Definition, DefinitionSchema } from './proto/control_pb.ts';
import {
  type ChownOpt,
  type FileAction,
  type FileActionCopy,
  type FileActionMkDir,
  type FileActionMkFile,
  type FileOp,
  type Op,
  OpSchema,
  type SourceOp,
  type UserOpt,
} from './proto/ops_pb.ts';
import { VertexReport } from './report.ts';
import type { Sources } from './sources.ts';

const IMAGE = 'caisson-image://';
const REGISTRY_IMAGE = 'docker-image://';
const GIT = 'git://';
const LOCAL = 'local://';

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A graph whose result is an image of this engine. `id`: undefined for no files at all. */
export function definitionOf(id: string | undefined): Definition {
  if (id === undefined) return create(DefinitionSchema, {});
  const source = toBinary(
    OpSchema,
    create(OpSchema, { op: { case: 'source', value: { identifier: `${IMAGE}${id}` } } }),
  );
  // the last one stands for the result
  const result = toBinary(OpSchema, create(OpSchema, { inputs: [{ digest: digestOf(source), index: 0n }] }));
  // a client takes one without metadata for none
  return create(DefinitionSchema, { def: [source, result], metadata: { [digestOf(source)]: {} } });
}

export class Graph {
  readonly #parts: ClientFilesParts;
  readonly #sources: Sources;
  /** By the digest of their operation: several graphs have the same ones. */
  readonly #fetched = new Map<string, Promise<Source>>();

  constructor(parts: ClientFilesParts, sources: Sources) {
    this.#parts = parts;
    this.#sources = sources;
  }

  /** Kind NotImplemented for what cannot be carried out. */
  async evaluate({ def }: Definition): Promise<Source> {
    const ops = new Map(def.map((bytes) => [digestOf(bytes), fromBinary(OpSchema, bytes)]));
    const [result] = [...ops.values()].at(-1)?.inputs ?? [];
    if (result === undefined) return null;
    const op = opOf(ops, result.digest);
    const source = op.op.case === 'source' ? fetchedBy(op.op.value) : undefined;
    if (source !== undefined) return this.#fetch(result.digest, source);
    const stages = new Stages(ops);
    const target = stages.nameOf(result.digest, Number(result.index));
    const named = new Map(
      [...stages.sources].map(([digest, fetch]) => [contextName(sourceName(digest)), () => this.#fetch(digest, fetch)]),
    );
    return this.#build(stages.statements, target, named);
  }

  #fetch(digest: string, fetch: Fetch): Promise<Source> {
    const there = this.#fetched.get(digest) ?? fetch(this.#sources);
    this.#fetched.set(digest, there);
    return there;
  }

  #build(statements: Statement[], target: string, named: NonNullable<BuildInputs['named']>): Promise<Source> {
    const { builds, dir, status, images, signal } = this.#parts;
    const inputs: BuildInputs = {
      dockerfile: { text: '', statements, escapeSign: '\\', warnings: [], emptyContinuations: [] },
      dir,
      downloads: builds.downloads,
      context: () => Promise.resolve(undefined),
      named,
      client: this.#sources.client,
    };
    const options = { ...optionsOf({}, []), target, credentials: this.#sources.credentials };
    return status
      .vertex('[internal] carry out operations')
      .during((vertex) => builds.carryOut(options, inputs, new VertexReport(status, vertex, images), signal));
  }
}

function opOf(ops: ReadonlyMap<string, Op>, digest: string): Op {
  const op = ops.get(digest);
  if (op === undefined) throw new CaissonError('InvalidParameter', `the graph has no operation ${digest}`);
  return op;
}

type Fetch = (sources: Sources) => Promise<Source>;

/** How a source comes here; undefined for one that a Dockerfile fetches. */
function fetchedBy({ identifier, attrs }: SourceOp): Fetch | undefined {
  const after = (scheme: string): string => identifier.slice(scheme.length);
  if (identifier.startsWith(IMAGE)) return (sources) => sources.image('input', after(IMAGE));
  if (identifier.startsWith(REGISTRY_IMAGE)) return (sources) => sources.image('input', after(REGISTRY_IMAGE));
  if (identifier.startsWith(GIT)) {
    const source = repositoryOf(after(GIT), attrs);
    return (sources) => sources.repository(`load git source ${source.remote}`, source);
  }
  if (identifier.startsWith(LOCAL)) {
    const excludes = attrs['local.excludepatterns'];
    if (attrs['local.includepattern'] !== undefined) throw unknown('local sources with patterns of what they include');
    return (sources) => sources.local(after(LOCAL), excludes === undefined ? [] : (JSON.parse(excludes) as string[]));
  }
  if (/^https?:\/\//.test(identifier)) return undefined;
  throw unknown(`the source ${identifier}`);
}

/** `name`: `HOST/PATH#REF:DIR`. */
function repositoryOf(name: string, attrs: SourceOp['attrs']): GitSource {
  const [place = '', fragment = ''] = name.split(/#(.*)/s);
  const [ref = '', subdir = ''] = fragment.split(/:(.*)/s);
  const remote = attrs['git.fullurl'] ?? `https://${place}`;
  const parts = gitSourceOf(`git://host/repository#${ref}`);
  // nothing that git would take for an option or a place on this host
  if (parts === undefined || !/^(https?:\/\/|git:\/\/|ssh:\/\/|\w[\w.-]*@)/.test(remote))
    throw unknown(`the repository ${remote}`);
  return {
    ...parts,
    remote,
    subdir,
    checksum: attrs['git.checksum'] || undefined,
    keepsGitDir: attrs['git.keepgitdir'] === 'true',
    hasSubmodules: attrs['git.skipsubmodules'] !== 'true',
  };
}

const sourceName = (digest: string): string => `source-${digest.slice(-12)}`;

/** The Dockerfile of a graph: a stage for each action, and each URL. */
class Stages {
  readonly statements: Statement[] = [];
  /** Those that come by other ways, by the digest of their operation. */
  readonly sources = new Map<string, Fetch>();
  readonly #ops: ReadonlyMap<string, Op>;
  /** Of each operation's results, by `DIGEST INDEX`. */
  readonly #names = new Map<string, string>();

  constructor(ops: ReadonlyMap<string, Op>) {
    this.#ops = ops;
  }

  /** What the files of an operation's result are called in a Dockerfile. */
  nameOf(digest: string, index: number): string {
    const key = `${digest} ${index}`;
    const there = this.#names.get(key);
    if (there !== undefined) return there;
    const op = opOf(this.#ops, digest);
    const { case: kind, value } = op.op;
    if (kind === 'source') this.#names.set(key, this.#source(digest, value));
    else if (kind === 'file') this.#actions(digest, op, value);
    else throw unknown(`the operation ${kind ?? 'without a kind'}`);
    const name = this.#names.get(key);
    if (name === undefined) throw new CaissonError('InvalidParameter', `operation ${digest} has no result ${index}`);
    return name;
  }

  #source(digest: string, source: SourceOp): string {
    const fetch = fetchedBy(source);
    if (fetch === undefined) return this.#stage('scratch', downloadOf(source, '/'));
    this.sources.set(digest, fetch);
    return sourceName(digest);
  }

  #actions(digest: string, op: Op, { actions }: FileOp): void {
    const results: string[] = [];
    const input = (at: bigint): string => {
      const place = Number(at);
      if (place < 0) return 'scratch';
      const result = results[place - op.inputs.length];
      const edge = op.inputs[place];
      if (edge === undefined && result === undefined)
        throw new CaissonError('InvalidParameter', `operation ${digest} has no input ${place}`);
      return edge === undefined ? (result as string) : this.nameOf(edge.digest, Number(edge.index));
    };
    for (const action of actions) {
      const edge = op.inputs[Number(action.secondaryInput)];
      const from = edge && opOf(this.#ops, edge.digest);
      const url = from?.op.case === 'source' && fetchedBy(from.op.value) === undefined ? from.op.value : undefined;
      const statement = statementFor(action, () => input(action.secondaryInput), url);
      const name = this.#stage(input(action.input), statement);
      results.push(name);
      if (action.output >= 0n) this.#names.set(`${digest} ${action.output}`, name);
    }
  }

  #stage(base: string, statement: Statement): string {
    const name = `op-${this.statements.length / 2}`;
    const from = `${base} AS ${name}`;
    this.statements.push(statementOf({ name: 'FROM', text: from, original: `FROM ${from}` }), statement);
    return name;
  }
}

/** `from`: the stage of the secondary input; `url`: what that is fetched from. */
function statementFor({ action }: FileAction, from: () => string, url: SourceOp | undefined): Statement {
  if (action.case === 'copy') return copyOf(action.value, from, url);
  if (action.case === 'mkfile') return fileOf(action.value);
  if (action.case === 'mkdir') return directoryOf(action.value);
  throw unknown(`the action ${action.case ?? 'without a kind'}`);
}

function copyOf(copy: FileActionCopy, from: () => string, url: SourceOp | undefined): Statement {
  if (copy.timestamp > 0n) throw unknown('copies with times of their own');
  if (copy.includePatterns.length > 0) throw unknown('copies with patterns of what they include');
  if (copy.attemptUnpackDockerCompatibility) {
    if (url === undefined) throw unknown('unpacking what is no download');
    return downloadOf(url, copy.dest, true);
  }
  const mode = copy.modeStr || (copy.mode >= 0 ? copy.mode.toString(8) : '');
  const flags = [`--from=${from()}`, ...copy.excludePatterns.map((one) => `--exclude=${literal(one)}`)];
  if (!copy.allowWildcard && /[*?[]/.test(copy.src)) throw unknown('names with the signs of a pattern');
  return written('COPY', [...flags, ...ownerFlags(copy.owner), ...modeFlags(mode)], [copy.src, copy.dest]);
}

function fileOf({ path, mode, data, owner, timestamp }: FileActionMkFile): Statement {
  if (timestamp > 0n) throw unknown('files with times of their own');
  const content = Buffer.from(data).toString('utf8');
  if (Buffer.compare(Buffer.from(content), data) !== 0) throw unknown('files of bytes that are no text');
  const statement = written('COPY', [...ownerFlags(owner), ...modeFlags(mode.toString(8))], ['<<file', path]);
  return { ...statement, heredocs: [{ name: 'file', content, literal: true }] };
}

function directoryOf({ path, mode, owner, timestamp }: FileActionMkDir): Statement {
  if (timestamp > 0n || owner !== undefined || (mode & 0o7777) !== 0o755)
    throw unknown('directories with a mode, an owner or a time of their own');
  return statementOf({ name: 'WORKDIR', text: literal(path), original: `WORKDIR ${path}` });
}

/** What stands at a URL. */
function downloadOf({ identifier, attrs }: SourceOp, place: string, unpack = false): Statement {
  const { 'http.checksum': checksum, 'http.filename': filename, 'http.perm': mode, ...more } = attrs;
  const [other] = Object.keys(more);
  if (other !== undefined) throw unknown(`${other} of a download`);
  const flags = [...(checksum ? [`--checksum=${checksum}`] : []), ...modeFlags(mode ?? ''), `--unpack=${unpack}`];
  return written('ADD', flags, [identifier, unpack || !filename ? place : `${place}${filename}`]);
}

const modeFlags = (mode: string): string[] => (mode === '' ? [] : [`--chmod=${mode}`]);

function ownerFlags(owner: ChownOpt | undefined): string[] {
  if (owner === undefined) return [];
  const { user, group } = owner;
  const name = ({ user: one }: UserOpt): string => (one.case === 'byName' ? one.value.name : String(one.value ?? 0));
  if (user === undefined) throw unknown('owners that are a group alone');
  if (group === undefined) return [`--chown=${name(user)}${user.user.case === 'byName' ? '' : ':0'}`];
  return [`--chown=${name(user)}:${name(group)}`];
}

function written(name: string, flags: string[], paths: string[]): Statement {
  const text = JSON.stringify(paths.map(literal));
  return statementOf({ name, flags, text, original: [name, ...flags, ...paths].join(' ') });
}

/** Nothing in it is a variable or a quote. */
const literal = (text: string): string => text.replace(/[\\"'$]/g, '\\$&');

const unknown = (what: string): CaissonError =>
  new CaissonError('NotImplemented', `${what}: this graph of operations (LLB) is not supported by caisson`, {
    hint: 'sources and copies of files are; all else by a Dockerfile',
  });
