/** `exec`: create, start, resize, inspect. The shim runs it; the row remembers it. */
import { randomBytes } from 'node:crypto';
import { CaissonError } from '../../errdefs.ts';
import type { ExecRow } from '../../graph/execs.ts';
import type { RuntimeProcess } from '../../oci.ts';
import type { ExecBody } from '../api/schemas/containers.ts';
import { type ClientStream, type ExecOptions, NativeError } from '../native/index.ts';
import { effectiveCapabilities } from '../runtime/capabilities.ts';
import { parseSecurityOptions } from '../runtime/security.ts';
import { buildEnv, capabilitiesOf, capabilitySets, rlimitsOf } from '../runtime/spec.ts';
import type { ContainerContext } from './context.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';
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
function requireRunning({ row }: ContainerRecord): void {
  if (row.status === 'paused') {
    throw new CaissonError('Conflict', `Container ${row.id} is paused, unpause the container before exec`);
  }
  if (!isRunning(row)) {
    throw new CaissonError('Conflict', `container ${row.id} is not running`, { code: 'CONTAINER_NOT_RUNNING' });
  }
}

export class Execs {
  readonly #ctx: ContainerContext;

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
  }

  create(idOrName: string, body: ExecBody): string {
    const { graph, events } = this.#ctx;
    const record = readRecord(graph.containers.resolve(idOrName));
    requireRunning(record);
    const config = readConfig(body);
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
      events.container(record, `exec_create: ${config.args.join(' ')}`, { execID: id });
    });
    return id;
  }

  /** Throws what the client must hear before its connection is taken. */
  check(execId: string): { exec: ExecRow; config: ExecConfig; record: ContainerRecord } {
    const { graph } = this.#ctx;
    const exec = graph.execs.resolve(execId);
    const record = readRecord(graph.containers.resolve(exec.containerId));
    if (exec.status === 'exited') throw new CaissonError('Conflict', `exec command ${execId} has already run`);
    if (exec.status === 'running') throw new CaissonError('Conflict', `exec command ${execId} is already running`);
    requireRunning(record);
    return { exec, config: JSON.parse(exec.config) as ExecConfig, record };
  }

  /** With a client the failure is told on its stream, as its answer has begun; without one it is thrown. */
  async start(execId: string, client: ClientStream | undefined, consoleSize?: number[] | null): Promise<void> {
    const { graph, native, events } = this.#ctx;
    const { exec, config, record } = this.check(execId);
    graph.execs.update(execId, { status: 'running' });
    // the addon consumes the client's fd, also on failure: a second one carries the message then
    const spare = client ? native.dupFd(client.fd) : undefined;
    const consoles = size(consoleSize) ?? config.consoleSize;
    try {
      events.container(record, `exec_start: ${config.args.join(' ')}`, { execID: execId });
      const { pid } = await native.exec(exec.containerId, {
        execId,
        process: this.#process(config, record),
        user: { user: config.user || record.config.User, additionalGroups: record.hostConfig.GroupAdd ?? [] },
        privileged: config.privileged,
        tty: config.tty,
        openStdin: config.stdin,
        ...(consoles ? { consoleSize: consoles } : {}),
        ...(client ? { client } : {}),
      });
      // a short program may have ended before this answer came
      if (graph.execs.get(execId)?.status === 'running') graph.execs.update(execId, { pid });
    } catch (thrown) {
      const { message, exitCode } = describeFailure(thrown);
      if (graph.execs.get(execId)) graph.execs.update(execId, { status: 'exited', exitCode });
      if (spare === undefined) throw new CaissonError('InvalidParameter', message, { cause: thrown });
      this.#tell(spare, config.tty, message);
    } finally {
      if (spare !== undefined) native.closeFd(spare);
    }
  }

  #tell(fd: number, raw: boolean, message: string): void {
    try {
      writeMessage(fd, raw, message);
    } catch (error) {
      this.#ctx.log.debug({ err: error }, 'the client of a failed exec has gone');
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

  #process(config: ExecConfig, { config: containerConfig, hostConfig }: ContainerRecord): RuntimeProcess {
    const { specHost, host } = this.#ctx;
    // never more than the container has (CVE-2025-27612), unless the user says --privileged
    const capabilities = config.privileged
      ? effectiveCapabilities({ add: [], drop: [], privileged: true }, specHost.bounded)
      : capabilitiesOf(hostConfig, specHost.bounded);
    const security = parseSecurityOptions(hostConfig.SecurityOpt, host);
    return {
      terminal: config.tty,
      user: { uid: 0, gid: 0 },
      args: config.args,
      env: buildEnv({
        Env: [...containerConfig.Env, ...config.env],
        Hostname: containerConfig.Hostname,
        Tty: config.tty,
      }),
      cwd: config.workingDir || containerConfig.WorkingDir || '/',
      capabilities: capabilitySets(capabilities),
      ...rlimitsOf(hostConfig),
      noNewPrivileges: config.privileged ? false : security.noNewPrivileges,
      ...(security.apparmor && security.apparmor !== 'unconfined' ? { apparmorProfile: security.apparmor } : {}),
      oomScoreAdj: hostConfig.OomScoreAdj,
    };
  }

  async resize(execId: string, width: number, height: number): Promise<void> {
    const exec = this.#ctx.graph.execs.resolve(execId);
    if (exec.status !== 'running') throw new CaissonError('Conflict', `exec ${execId} is not running`);
    await this.#ctx.native.resize(exec.containerId, { execId, width, height });
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

const ENOENT = 2;

/** Docker's text, and the code that a shell gives: 127 not found, 126 not executable. */
function describeFailure(thrown: unknown): { message: string; exitCode: number } {
  const failure =
    thrown instanceof CaissonError && thrown.cause instanceof NativeError ? thrown.cause.failure : undefined;
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return {
    message: `OCI runtime exec failed: exec failed: unable to start container process: ${reason}`,
    exitCode: failure?.kind === 'exec' ? (failure.errno === ENOENT ? 127 : 126) : 128,
  };
}
