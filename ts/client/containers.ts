/** Containers of an engine. */
import { CaissonError } from '../errdefs.ts';
import { parseReference, repositoryOf, withDefaultTag } from '../reference.ts';
import { demultiplex, type Frame, jsonLines, raw } from './frames.ts';
import { encodeFilters } from './query.ts';
import { type Output, Session } from './session.ts';
import { type Query, readBody, type Transport, wholeBody } from './transport.ts';
import type {
  CommitOptions,
  ContainerDetails,
  ContainerSummary,
  CreateBody,
  FileChange,
  Filters,
  PathStat,
  StatsReading,
  UpdateBody,
} from './types.ts';

export interface Options {
  signal?: AbortSignal | undefined;
}

export interface ListContainersOptions extends Options {
  /** Stopped ones too. */
  all?: boolean;
  limit?: number;
  size?: boolean;
  filters?: Filters;
}

export interface AttachOptions extends Options {
  stdin?: boolean;
  stdout?: boolean;
  stderr?: boolean;
  /** Output from before, out of the log. */
  logs?: boolean;
  detachKeys?: string;
  /** As the container was made. */
  tty: boolean;
}

export interface LogsOptions extends Options {
  stdout?: boolean;
  stderr?: boolean;
  follow?: boolean;
  timestamps?: boolean;
  details?: boolean;
  since?: string;
  until?: string;
  tail?: string;
  tty: boolean;
}

export interface ExecOptions extends Options {
  command: string[];
  env?: string[];
  workingDir?: string;
  user?: string;
  privileged?: boolean;
  stdin?: boolean;
  tty?: boolean;
  detachKeys?: string;
  /** Rows and columns. */
  size?: [number, number];
}

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

export class Containers {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async create(
    body: CreateBody,
    { name, platform, signal }: Options & { name?: string | undefined; platform?: string | undefined } = {},
  ): Promise<{ Id: string; Warnings: string[] }> {
    const query = { name, platform };
    return this.#transport.json('POST', '/containers/create', { query, body, signal });
  }

  /** Resolves with the id of the image. */
  async commit(
    id: string,
    { name, author, message, changes, pause, signal }: CommitOptions & Options = {},
  ): Promise<string> {
    const reference = name === undefined ? undefined : withDefaultTag(parseReference(name));
    const query = {
      container: id,
      repo: reference && repositoryOf(reference),
      tag: reference?.tag,
      author,
      comment: message,
      changes,
      pause: pause === false ? '0' : '1',
    };
    return (await this.#transport.json<{ Id: string }>('POST', '/commit', { query, signal })).Id;
  }

  /** The root filesystem as a tar archive; leaving the loop ends it. */
  export(id: string, { signal }: Options = {}): AsyncGenerator<Uint8Array> {
    return this.#transport.chunks('GET', `/containers/${encodeURIComponent(id)}/export`, { signal });
  }

  list({ all, limit, size, filters, signal }: ListContainersOptions = {}): Promise<ContainerSummary[]> {
    const query = { all, limit, size, filters: encodeFilters(filters) };
    return this.#transport.json('GET', '/containers/json', { query, signal });
  }

  inspect(id: string, { signal, size }: Options & { size?: boolean } = {}): Promise<ContainerDetails> {
    return this.#transport.json('GET', this.#path(id, 'json'), { query: { size }, signal });
  }

  start(id: string, { signal, detachKeys }: Options & { detachKeys?: string | undefined } = {}): Promise<void> {
    return this.#post(id, 'start', { detachKeys }, signal);
  }

  /** `timeoutS` until it is killed; -1: never. */
  stop(
    id: string,
    options: Options & { timeoutS?: number | undefined; stopSignal?: string | undefined } = {},
  ): Promise<void> {
    return this.#post(id, 'stop', { t: options.timeoutS, signal: options.stopSignal }, options.signal);
  }

  restart(
    id: string,
    options: Options & { timeoutS?: number | undefined; stopSignal?: string | undefined } = {},
  ): Promise<void> {
    return this.#post(id, 'restart', { t: options.timeoutS, signal: options.stopSignal }, options.signal);
  }

  /** `SIGTERM`, `TERM` or `15`. */
  kill(id: string, killSignal = 'KILL', { signal }: Options = {}): Promise<void> {
    return this.#post(id, 'kill', { signal: killSignal }, signal);
  }

  pause(id: string, { signal }: Options = {}): Promise<void> {
    return this.#post(id, 'pause', {}, signal);
  }

  unpause(id: string, { signal }: Options = {}): Promise<void> {
    return this.#post(id, 'unpause', {}, signal);
  }

  rename(id: string, name: string, { signal }: Options = {}): Promise<void> {
    return this.#post(id, 'rename', { name }, signal);
  }

  resize(id: string, rows: number, columns: number, { signal }: Options = {}): Promise<void> {
    return this.#post(id, 'resize', { h: rows, w: columns }, signal);
  }

  /** With `link` the link `container/alias` instead of a container. */
  remove(
    id: string,
    { force, link, volumes, signal }: Options & { force?: boolean; link?: boolean; volumes?: boolean } = {},
  ): Promise<void> {
    const query = { force, link, v: volumes };
    return this.#transport.send('DELETE', this.#path(id), { query, signal });
  }

  /** What it has changed of its image's files. */
  async changes(id: string, { signal }: Options = {}): Promise<FileChange[]> {
    return (await this.#transport.json<FileChange[] | null>('GET', this.#path(id, 'changes'), { signal })) ?? [];
  }

  /** Limits and restart policy; what is absent stays. */
  update(id: string, body: UpdateBody, { signal }: Options = {}): Promise<{ Warnings: string[] | null }> {
    return this.#transport.json('POST', this.#path(id, 'update'), { body, signal });
  }

  /** A reading a second; leaving the loop ends it. With `once` a single one, which took a second to measure. */
  stats(id: string, { once = false, signal }: Options & { once?: boolean } = {}): AsyncGenerator<StatsReading> {
    const query: Query = { stream: once ? 'false' : 'true' };
    return jsonLines(this.#transport.chunks('GET', this.#path(id, 'stats'), { query, signal }));
  }

  /** What a path in the container is; its last component is not followed. */
  async statPath(id: string, path: string, { signal }: Options = {}): Promise<PathStat> {
    const response = await this.#transport.response('HEAD', this.#path(id, 'archive'), { query: { path }, signal });
    return parsePathStat(response.headers['x-docker-container-path-stat']);
  }

  /** What a path in the container is, and a tar archive of it; leaving the loop ends it. */
  async readArchive(
    id: string,
    path: string,
    { signal }: Options = {},
  ): Promise<{ stat: PathStat; archive: AsyncGenerator<Uint8Array> }> {
    const response = await this.#transport.response('GET', this.#path(id, 'archive'), { query: { path }, signal });
    const stat = parsePathStat(response.headers['x-docker-container-path-stat']);
    return { stat, archive: readBody(response, signal) };
  }

  /** Unpacks a tar archive into a directory of the container. */
  writeArchive(
    id: string,
    path: string,
    archive: AsyncIterable<Uint8Array>,
    { keepKinds, ownedByUser, signal }: Options & { keepKinds?: boolean; ownedByUser?: boolean } = {},
  ): Promise<void> {
    const query = { path, noOverwriteDirNonDir: keepKinds, copyUIDGID: ownedByUser };
    const headers = { 'content-type': 'application/x-tar' };
    return this.#transport.send('PUT', this.#path(id, 'archive'), { query, headers, source: archive, signal });
  }

  /** Removes those that do not run. */
  prune({ filters, signal }: Options & { filters?: Filters } = {}): Promise<{
    ContainersDeleted: string[] | null;
    SpaceReclaimed: number;
  }> {
    return this.#transport.json('POST', '/containers/prune', { query: { filters: encodeFilters(filters) }, signal });
  }

  top(id: string, psArgs?: string, { signal }: Options = {}): Promise<{ Titles: string[]; Processes: string[][] }> {
    return this.#transport.json('GET', this.#path(id, 'top'), { query: { ps_args: psArgs }, signal });
  }

  /**
   * Sends the question at once and resolves when the engine listens: `result` then resolves with the exit, even if that
   * comes before the caller asks for it.
   */
  async watch(
    id: string,
    condition: WaitCondition = 'not-running',
    { signal }: Options = {},
  ): Promise<{ result: Promise<{ StatusCode: number; Error?: { Message: string } }> }> {
    const response = await this.#transport.response('POST', this.#path(id, 'wait'), { query: { condition }, signal });
    const result = wholeBody(response).then(
      (body) => JSON.parse(body.toString()) as { StatusCode: number; Error?: { Message: string } },
    );
    result.catch(() => undefined);
    return { result };
  }

  /** The exit code. */
  async wait(id: string, condition?: WaitCondition, options?: Options): Promise<number> {
    const { result } = await this.watch(id, condition, options);
    return (await result).StatusCode;
  }

  async attach(id: string, { tty, signal, ...flags }: AttachOptions): Promise<Session> {
    const query: Query = { stream: true, ...flags };
    const { socket } = await this.#transport.hijack(this.#path(id, 'attach'), { query, signal });
    return new Session(socket, tty, signal);
  }

  /** Leaving the loop ends a followed log. */
  async *logs(id: string, { tty, signal, stdout = true, stderr = true, ...rest }: LogsOptions): AsyncGenerator<Frame> {
    const query: Query = { stdout, stderr, ...rest };
    const chunks = this.#transport.chunks('GET', this.#path(id, 'logs'), { query, signal });
    yield* tty ? raw(chunks) : demultiplex(chunks);
  }

  /** Starts a process in the container. */
  async exec(id: string, options: ExecOptions): Promise<Exec> {
    const execId = await this.createExec(id, options);
    return this.startExec(execId, options);
  }

  async createExec(id: string, options: ExecOptions & { detach?: boolean }): Promise<string> {
    const { command, env, workingDir, user, privileged, stdin = false, tty = false, detachKeys, signal } = options;
    const attached = options.detach !== true;
    const body = {
      Cmd: command,
      ...(env && { Env: env }),
      ...(workingDir && { WorkingDir: workingDir }),
      ...(user && { User: user }),
      ...(privileged && { Privileged: true }),
      ...(detachKeys && { DetachKeys: detachKeys }),
      AttachStdin: attached && stdin,
      AttachStdout: attached,
      AttachStderr: attached,
      Tty: tty,
    };
    const { Id } = await this.#transport.json<{ Id: string }>('POST', this.#path(id, 'exec'), { body, signal });
    return Id;
  }

  async startExec(
    execId: string,
    { tty = false, size, signal }: Pick<ExecOptions, 'tty' | 'size' | 'signal'>,
  ): Promise<Exec> {
    const body = { Detach: false, Tty: tty, ...(size && tty && { ConsoleSize: size }) };
    const { socket } = await this.#transport.hijack(`/exec/${execId}/start`, { body, signal });
    return new Exec(this.#transport, execId, new Session(socket, tty, signal));
  }

  startExecDetached(execId: string, { tty = false, signal }: Pick<ExecOptions, 'tty' | 'signal'> = {}): Promise<void> {
    const body = { Detach: true, Tty: tty };
    return this.#transport.send('POST', `/exec/${execId}/start`, { body, signal });
  }

  #post(id: string, operation: string, query: Query, signal: AbortSignal | undefined): Promise<void> {
    return this.#transport.send('POST', this.#path(id, operation), { query, signal }).catch((error: unknown) => {
      // Started what runs, stopped what stands: the state that was asked for.
      if (!(error instanceof Error && 'kind' in error && error.kind === 'NotModified')) throw error;
    });
  }

  #path(id: string, operation?: string): string {
    return `/containers/${encodeURIComponent(id)}${operation === undefined ? '' : `/${operation}`}`;
  }
}

function parsePathStat(header: string | string[] | undefined): PathStat {
  if (typeof header !== 'string') throw new CaissonError('DataLoss', 'the daemon did not say what the path is');
  return JSON.parse(Buffer.from(header, 'base64').toString()) as PathStat;
}

/** A process that runs in a container. */
export class Exec implements AsyncDisposable {
  readonly id: string;
  readonly session: Session;
  readonly #transport: Transport;

  constructor(transport: Transport, id: string, session: Session) {
    this.#transport = transport;
    this.id = id;
    this.session = session;
  }

  /** null while it runs. */
  async exitCode(options: Options = {}): Promise<number | null> {
    const { ExitCode } = await this.#transport.json<{ ExitCode: number | null }>(
      'GET',
      `/exec/${this.id}/json`,
      options,
    );
    return ExitCode;
  }

  resize(rows: number, columns: number, options: Options = {}): Promise<void> {
    return this.#transport.send('POST', `/exec/${this.id}/resize`, { query: { h: rows, w: columns }, ...options });
  }

  /** All output, and the exit code once it has ended. */
  async text(): Promise<Output & { exitCode: number | null }> {
    this.session.endInput();
    const output = await this.session.text();
    return { ...output, exitCode: await this.exitCode() };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.session[Symbol.asyncDispose]();
  }
}
