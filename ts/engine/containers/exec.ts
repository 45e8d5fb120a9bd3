/**
 * `exec`: create, start, resize, inspect. The shim runs it; the row remembers it.
 *
 * The start is a job that is never undone: its client's connection belongs to the shim from then on, so an exec that runs
 * goes on when the daemon is killed, and whoever finishes the job asks the shim what has become of it.
 */
import { randomBytes } from 'node:crypto';
import { asCaissonError, CaissonError } from '../../errdefs.ts';
import type { ExecRow } from '../../graph/execs.ts';
import type { RuntimeProcess } from '../../oci.ts';
import type { ExecBody } from '../api/schemas/containers.ts';
import { exclusive, type JobKind } from '../jobs/kinds.ts';
import type { ClientStream, ContainerRuntimeState, ExecOptions } from '../native/containers.ts';
import { fixOf, NativeError } from '../native/failure.ts';
import { apparmorProfile, confinement } from '../runtime/apparmor.ts';
import { effectiveCapabilities } from '../runtime/capabilities.ts';
import { parseSecurityOptions } from '../runtime/security.ts';
import { buildEnv, capabilitiesOf, capabilitySets, rlimitsOf } from '../runtime/spec.ts';
import type { ContainerContext } from './context.ts';
import { linkVariables } from './links.ts';
import { type ContainerRecord, isRunning, readRecord, settledRow } from './record.ts';
import { overlayOf, rootHolder } from './spawn.ts';
import { parseDetachKeys, writeMessage } from './streams.ts';
import { checkEnv, checkUser } from './validate.ts';

/** The `config` column of an exec. */
export interface ExecConfig {
  args: string[];
  env: string[];
  user: string;
  workingDir: string;
  privileged: boolean;
  tty: boolean;
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  detachKeys: number[];
  consoleSize?: { width: number; height: number };
}

const size = (pair: number[] | null | undefined): { width: number; height: number } | undefined => {
  const [height = 0, width = 0] = pair ?? [];
  return width > 0 && height > 0 ? { width, height } : undefined;
};

function readConfig(body: ExecBody): ExecConfig {
  const args = typeof body.Cmd === 'string' ? [body.Cmd] : (body.Cmd ?? []);
  if (args.length === 0 || args[0] === '') throw new CaissonError('InvalidParameter', 'No exec command specified');
  if (args.some((argument) => argument.includes('\0'))) {
    throw new CaissonError('InvalidParameter', 'invalid exec command: an argument contains a NUL byte');
  }
  checkEnv(body.Env ?? []);
  checkUser(body.User ?? '');
  if (body.WorkingDir && !body.WorkingDir.startsWith('/')) {
    throw new CaissonError(
      'InvalidParameter',
      `the working directory '${body.WorkingDir}' is invalid, it needs to be an absolute path`,
    );
  }
  const consoleSize = size(body.ConsoleSize);
  return {
    args,
    env: body.Env ?? [],
    user: body.User ?? '',
    workingDir: body.WorkingDir ?? '',
    privileged: body.Privileged ?? false,
    tty: body.Tty ?? false,
    stdin: body.AttachStdin ?? false,
    stdout: body.AttachStdout ?? false,
    stderr: body.AttachStderr ?? false,
    detachKeys: parseDetachKeys(body.DetachKeys ?? ''),
    ...(consoleSize ? { consoleSize } : {}),
  };
}

/** 409 unless it runs; a paused one could only hang. */
function requireRunning({ row }: ContainerRecord, name = row.id): void {
  if (row.status === 'paused') {
    throw new CaissonError('Conflict', `Container ${name} is paused, unpause the container before exec`);
  }
  if (row.status === 'restarting') {
    throw new CaissonError('Conflict', `Container ${name} is restarting, wait until the container is running`);
  }
  if (!isRunning(row)) {
    throw new CaissonError('Conflict', `container ${row.id} is not running`, { code: 'CONTAINER_NOT_RUNNING' });
  }
}

/** As Docker writes it: the program stands alone, so that one without arguments has a space behind it. */
const commandLine = ({ args: [program, ...args] }: ExecConfig): string => `${program} ${args.join(' ')}`;

export interface ExecPlan {
  execId: string;
  containerId: string;
}

interface ExecState {
  /** It could not be executed: the row says so, and the client is told. */
  failure?: CaissonError;
}

/** What a start has that no row can say. */
interface Starting {
  /** Until it is handed over. */
  client?: ClientStream | undefined;
  consoleSize: { width: number; height: number } | undefined;
}

export class Execs {
  readonly kind: JobKind<ExecPlan, ExecState>;
  readonly #ctx: ContainerContext;
  readonly #starting = new Map<string, Starting>();

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
    this.kind = {
      kind: 'exec',
      subject: ({ execId }) => execId,
      claims: ({ execId }) => [exclusive(`exec:${execId}`, alreadyRunning(execId))],
      begin: (plan) => this.#begin(plan),
      commitPoint: 0,
      durable: false,
      steps: [{ name: 'process', medium: 'kernel', do: (plan) => this.#startProcess(plan) }],
    };
  }

  async create(idOrName: string, body: ExecBody): Promise<string> {
    const { graph, events } = this.#ctx;
    const config = readConfig(body);
    const record = readRecord(await settledRow(this.#ctx, idOrName));
    requireRunning(record, idOrName);
    await this.#checkUser(record, config.user);
    const id = randomBytes(32).toString('hex');
    const exec: ExecRow = {
      id,
      containerId: record.row.id,
      config: JSON.stringify(config),
      status: 'created',
      pid: 0,
      exitCode: null,
      createdMs: Date.now(),
    };
    graph.db.transaction(() => {
      graph.execs.insert(exec);
      events.container(record, `exec_create: ${commandLine(config)}`, { execID: id });
    });
    return id;
  }

  /** As dockerd, so that a name that is not there is no exec. Numbers need nobody to know them. */
  async #checkUser(record: ContainerRecord, user: string): Promise<void> {
    if (/^[+-]?\d*(:[+-]?\d*)?$/.test(user)) return;
    const overlay = overlayOf(this.#ctx, record);
    await this.#ctx.native.checkUser({ process: rootHolder(this.#ctx, record), overlay }, user);
  }

  /** Throws what the client must hear before its connection is taken. */
  check(execId: string): { exec: ExecRow; config: ExecConfig; record: ContainerRecord } {
    const found = this.#read(execId);
    const { exec, record } = found;
    if (exec.status === 'exited') throw new CaissonError('Conflict', `exec command ${execId} has already run`);
    if (exec.status === 'running') throw new CaissonError('Conflict', alreadyRunning(execId));
    requireRunning(record);
    return found;
  }

  #read(execId: string): { exec: ExecRow; config: ExecConfig; record: ContainerRecord } {
    const { graph } = this.#ctx;
    const exec = graph.execs.resolve(execId);
    const record = readRecord(graph.containers.resolve(exec.containerId));
    return { exec, config: JSON.parse(exec.config) as ExecConfig, record };
  }

  /** With a client the failure is told on its connection, which is not HTTP's any more; without one it is thrown. */
  async start(execId: string, client: ClientStream | undefined, consoleSize?: number[] | null): Promise<void> {
    const { native, runner, log } = this.#ctx;
    // the addon consumes the client's fd, also on failure: a second one carries the message then
    const spare = client && { ...client, fd: native.dupFd(client.fd) };
    const starting: Starting = { client, consoleSize: size(consoleSize) };
    try {
      const { exec } = this.check(execId);
      this.#starting.set(execId, starting);
      const { failure } = await runner.run(this.kind, { execId, containerId: exec.containerId });
      if (failure === undefined) return;
      if (spare === undefined) throw failure;
      this.#tell(spare, failure);
    } catch (thrown) {
      if (spare === undefined) throw thrown;
      if (starting.client === undefined)
        log.warn({ err: thrown, exec: execId }, 'an exec that runs is not written down');
      else this.#tell(spare, asCaissonError(thrown));
    } finally {
      if (this.#starting.get(execId) === starting) this.#starting.delete(execId);
      if (starting.client !== undefined) native.closeFd(starting.client.fd);
      if (spare !== undefined) native.closeFd(spare.fd);
    }
  }

  #begin({ execId }: ExecPlan): void {
    const { graph, events } = this.#ctx;
    const { config, record } = this.check(execId);
    graph.execs.update(execId, { status: 'running' });
    events.container(record, `exec_start: ${commandLine(config)}`, { execID: execId });
  }

  async #startProcess({ execId, containerId }: ExecPlan): Promise<{ state?: ExecState; rows: () => void }> {
    const { graph, native } = this.#ctx;
    const starting = this.#starting.get(execId);
    if (starting === undefined) return { rows: await this.#pickUp(execId, containerId) };
    const { config, record } = this.#read(execId);
    const { client } = starting;
    const consoleSize = starting.consoleSize ?? config.consoleSize;
    delete starting.client;
    try {
      const { pid } = await native.exec(containerId, {
        execId,
        process: this.#process(config, record),
        user: { user: config.user || record.config.User, additionalGroups: record.hostConfig.GroupAdd ?? [] },
        privileged: config.privileged,
        tty: config.tty,
        openStdin: config.stdin,
        ...(consoleSize ? { consoleSize } : {}),
        ...(client ? { client } : {}),
      });
      return { rows: () => this.#running(execId, pid) };
    } catch (thrown) {
      const { error, exitCode } = asExecError(thrown);
      const rows = (): void => {
        if (graph.execs.get(execId)) graph.execs.update(execId, { status: 'exited', exitCode });
      };
      return { state: { failure: error }, rows };
    }
  }

  /** A short program may have ended, and its container with it, before the answer came that it runs. */
  #running(execId: string, pid: number): void {
    const { graph } = this.#ctx;
    if (graph.execs.get(execId)) graph.execs.update(execId, { pid });
  }

  /** A start whose client has gone with an earlier daemon: it came to be, or it can be asked for again. */
  async #pickUp(execId: string, containerId: string): Promise<() => void> {
    const { graph, native, paths } = this.#ctx;
    const row = graph.containers.get(containerId);
    if (!row || !isRunning(row)) return () => undefined;
    const { execs } = await native.adoptShim({ id: containerId, stateDir: paths.stateDir(containerId) });
    if (execs.some((one) => one.execId === execId)) return () => this.settle(containerId, execs);
    return () => {
      if (graph.execs.get(execId)?.status === 'running') graph.execs.update(execId, { status: 'created' });
    };
  }

  /** Brings the rows of a container that runs to what its shim says of the execs. */
  settle(containerId: string, told: ContainerRuntimeState['execs']): void {
    const { graph } = this.#ctx;
    for (const { execId, pid, running, exitCode } of told) {
      if (graph.execs.get(execId)?.status !== 'running') this.#ctx.native.acknowledgeExec(containerId, execId);
      else if (running) graph.execs.update(execId, { pid });
      else this.ended(containerId, execId, exitCode ?? LOST);
    }
    const unknown = graph.execs
      .of(containerId)
      .filter(({ id, status }) => status === 'running' && !told.some(({ execId }) => execId === id));
    if (unknown.length === 0) return;
    const starting = new Set(graph.jobs.claims().map(({ resource }) => resource));
    for (const { id } of unknown) if (!starting.has(`exec:${id}`)) this.ended(containerId, id, LOST);
  }

  /** Written once; then the shim may forget it, and ends the streams of its clients. */
  ended(containerId: string, execId: string, exitCode: number): void {
    const { graph, events, native } = this.#ctx;
    const exec = graph.execs.get(execId);
    const row = graph.containers.get(containerId);
    if (exec && row && exec.status !== 'exited') {
      graph.db.transaction(() => {
        graph.execs.update(execId, { status: 'exited', exitCode });
        events.container(readRecord(row), 'exec_die', { execID: execId, exitCode: String(exitCode) });
      });
    }
    native.acknowledgeExec(containerId, execId);
  }

  /** On the stream, as Docker does: its client shows no other answer to an upgrade. */
  #tell(client: ClientStream, { message }: CaissonError): void {
    try {
      writeMessage(client, message);
    } catch (gone) {
      this.#ctx.log.debug({ err: gone }, 'the client of a failed exec has gone');
    }
  }

  /** Options of a health check's process: the container's own user and environment, output to a pipe. */
  probe(record: ContainerRecord, execId: string, args: string[], fd: number): ExecOptions {
    const config = readConfig({ Cmd: args });
    return {
      execId,
      process: this.#process(config, record),
      user: { user: record.config.User, additionalGroups: record.hostConfig.GroupAdd ?? [] },
      privileged: false,
      tty: false,
      openStdin: false,
      client: {
        fd,
        head: '',
        early: new Uint8Array(),
        stdin: false,
        stdout: true,
        stderr: true,
        raw: true,
        detachKeys: [],
      },
    };
  }

  #process(config: ExecConfig, record: ContainerRecord): RuntimeProcess {
    const { config: containerConfig, hostConfig } = record;
    const { specHost, host, config: daemon } = this.#ctx;
    // never more than the container has (CVE-2025-27612), unless the user says --privileged
    const capabilities = config.privileged
      ? effectiveCapabilities({ add: [], drop: [], privileged: true }, specHost.bounded)
      : capabilitiesOf(hostConfig, specHost.bounded);
    const security = parseSecurityOptions(hostConfig.SecurityOpt, host, daemon);
    return {
      terminal: config.tty,
      user: { uid: 0, gid: 0 },
      args: config.args,
      env: buildEnv({
        Env: [...linkVariables(this.#ctx, record, 'left out'), ...containerConfig.Env, ...config.env],
        Hostname: containerConfig.Hostname,
        Tty: config.tty,
      }),
      cwd: config.workingDir || containerConfig.WorkingDir || '/',
      capabilities: capabilitySets(capabilities),
      ...rlimitsOf(hostConfig),
      noNewPrivileges: config.privileged ? false : security.noNewPrivileges,
      // a privileged exec too is under its container's profile
      ...confinement(apparmorProfile(security, hostConfig, host)),
      oomScoreAdj: hostConfig.OomScoreAdj,
    };
  }

  async resize(execId: string, width: number, height: number): Promise<void> {
    const { exec, record } = this.#read(execId);
    requireRunning(record);
    if (exec.status === 'exited') throw new CaissonError('NotFound', `exec ${execId} has ended`);
    if (exec.status !== 'running') throw new CaissonError('Conflict', `exec ${execId} is not running`);
    const { tty } = JSON.parse(exec.config) as ExecConfig;
    if (tty) await this.#ctx.native.resize(exec.containerId, { execId, width, height });
  }

  inspect(execId: string): object {
    const { graph } = this.#ctx;
    const exec = graph.execs.resolve(execId);
    const config = JSON.parse(exec.config) as ExecConfig;
    const [entrypoint = '', ...args] = config.args;
    const { row } = readRecord(graph.containers.resolve(exec.containerId));
    return {
      ID: exec.id,
      Running: exec.status === 'running',
      ExitCode: exec.exitCode,
      ProcessConfig: {
        tty: config.tty,
        entrypoint,
        arguments: args,
        privileged: config.privileged,
        ...(config.user ? { user: config.user } : {}),
      },
      OpenStdin: config.stdin,
      OpenStderr: config.stderr,
      OpenStdout: config.stdout,
      CanRemove: false,
      ContainerID: row.id,
      DetachKeys: '',
      Pid: exec.pid,
    };
  }
}

const alreadyRunning = (execId: string): string => `exec command ${execId} is already running`;

/** As a shell tells of a process that a SIGKILL ended: the exec ended, and nobody kept how. */
const LOST = 137;
const ENOENT = 2;

/** Docker's text, and the code that a shell gives: 127 not found (or its directory is not), 126 not executable. */
function asExecError(thrown: unknown): { error: CaissonError; exitCode: number } {
  const error = asCaissonError(thrown);
  const failure = error.cause instanceof NativeError ? error.cause.failure : undefined;
  const { kind, op, errno } = failure ?? {};
  if (op === 'user') return { error, exitCode: 126 };
  if (kind !== 'exec' && op !== 'chdir') return { error, exitCode: 128 };
  const message = `OCI runtime exec failed: exec failed: unable to start container process: ${error.message}`;
  return {
    error: new CaissonError('InvalidParameter', message, { ...(failure && fixOf(failure)), cause: error.cause }),
    exitCode: op === 'chdir' || errno === ENOENT ? 127 : 126,
  };
}
