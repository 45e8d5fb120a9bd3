/**
 * Health checks of running containers. A probe is a process that the shim runs like an exec, without a row of its own: a
 * hundred containers may be asked every second. The container's row keeps the state whenever its status changes, so that
 * it survives the daemon; the log of the last probes between two changes is this process's own. For the same reason a
 * probe's `exec_*` events are only written while somebody follows events.
 *
 * Timers are node's, which count monotonic time: a jump of the clock makes nobody unhealthy.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import type { ContainerRow } from '../../graph/containers.ts';
import type { ContainerContext } from './context.ts';
import type { Execs } from './exec.ts';
import { type HealthPlan, healthPlan } from './healthcheck.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';
import { nowRfc3339, toMs } from './time.ts';

export type HealthStatus = 'starting' | 'healthy' | 'unhealthy';

/** `State.Health`, and the `health` column. */
export interface HealthState {
  Status: HealthStatus;
  FailingStreak: number;
  Log: ProbeResult[];
}

interface ProbeResult {
  Start: string;
  End: string;
  /** 0 healthy; -1 when the probe could not be run or took too long. */
  ExitCode: number;
  Output: string;
}

/** A container that is watched. */
interface Watch {
  plan: HealthPlan;
  startedMs: number;
  timer: NodeJS.Timeout | undefined;
  stopped: boolean;
  /** Probes whose start an event has told. */
  told: Set<string>;
}

const LOG_LENGTH = 5;
const MAX_OUTPUT_BYTES = 4096;
const SIGKILL = 9;
/** What a probe's own children still say after its end is waited for no longer than this. */
const LAST_WORDS_MS = 100;

export class HealthMonitor {
  readonly #ctx: ContainerContext;
  readonly #execs: Execs;
  readonly #watched = new Map<string, Watch>();
  readonly #probes = new Map<string, (exitCode: number) => void>();
  /** Probes since the start of this daemon. */
  readonly checks = { count: 0, failed: 0 };

  constructor(ctx: ContainerContext, execs: Execs) {
    this.#ctx = ctx;
    this.#execs = execs;
  }

  /** A container has been started. */
  started(id: string): void {
    const record = this.#running(id);
    if (record) this.#watch(record, 0, () => this.#write(id, { Status: 'starting', FailingStreak: 0, Log: [] }));
  }

  /** A container that ran already when this daemon came. */
  resumed(id: string): void {
    const record = this.#running(id);
    if (!record) return;
    this.#watch(record, Math.max(0, Date.now() - toMs(record.row.startedAt)), () => {
      const unknown: HealthState = { Status: 'starting', FailingStreak: 0, Log: [] };
      this.#ctx.live.of(id).health = storedHealth(record.row) ?? unknown;
    });
  }

  /** As Docker: whoever is not asked any more counts as unhealthy, also one that ended while no daemon was there. */
  ended(id: string): void {
    const watch = this.#watched.get(id);
    if (watch) {
      watch.stopped = true;
      clearTimeout(watch.timer);
      this.#watched.delete(id);
    }
    const row = this.#ctx.graph.containers.get(id);
    const health = this.#ctx.live.of(id).health ?? (row && storedHealth(row));
    if (row && health) this.#write(id, { ...health, Status: 'unhealthy' });
  }

  /** True when the process that ended was a probe. */
  probeEnded(id: string, execId: string, exitCode: number): boolean {
    const record = this.#watched.get(id)?.told.delete(execId) ? this.#running(id) : undefined;
    if (record) this.#ctx.events.container(record, 'exec_die', { execID: execId, exitCode: String(exitCode) });
    const settle = this.#probes.get(execId);
    settle?.(exitCode);
    return settle !== undefined;
  }

  #running(id: string): ContainerRecord | undefined {
    const row = this.#ctx.graph.containers.get(id);
    return row && isRunning(row) ? readRecord(row) : undefined;
  }

  /** `setState` comes before the first probe is scheduled, whose time depends on the state. */
  #watch({ row, config }: ContainerRecord, ranMs: number, setState: () => void): void {
    const plan = healthPlan(config.Healthcheck, config.Shell);
    if (!plan || this.#watched.has(row.id)) return;
    setState();
    const watch: Watch = {
      plan,
      startedMs: performance.now() - ranMs,
      timer: undefined,
      stopped: false,
      told: new Set(),
    };
    this.#watched.set(row.id, watch);
    this.#schedule(row.id, watch);
  }

  #schedule(id: string, watch: Watch): void {
    const { plan, startedMs } = watch;
    const starting = this.#ctx.live.of(id).health?.Status === 'starting';
    const inStartPeriod = performance.now() - startedMs < plan.startPeriodMs;
    const delayMs = starting && inStartPeriod ? plan.startIntervalMs : plan.intervalMs;
    watch.timer = setTimeout(() => void this.#check(id, watch), delayMs);
    watch.timer.unref();
  }

  async #check(id: string, watch: Watch): Promise<void> {
    try {
      const record = this.#running(id);
      if (!record) return;
      // a frozen container cannot answer, which says nothing about its health
      if (record.row.status === 'running') {
        const elapsedMs = performance.now() - watch.startedMs;
        const result = await this.#probe(record, watch);
        if (watch.stopped) return;
        this.checks.count++;
        if (result.ExitCode !== 0) this.checks.failed++;
        this.#judge(id, watch, result, elapsedMs);
      }
    } catch (error) {
      this.#ctx.log.error({ err: error, container: id }, 'the result of a health check was not recorded');
    } finally {
      if (!watch.stopped) this.#schedule(id, watch);
    }
  }

  /** A failure in the start period of a container that never was healthy does not count. */
  #judge(id: string, { plan }: Watch, result: ProbeResult, elapsedMs: number): void {
    const { live } = this.#ctx;
    const before = live.of(id).health ?? { Status: 'starting', FailingStreak: 0, Log: [] };
    const state: HealthState = { ...before, Log: [...before.Log, result].slice(-LOG_LENGTH) };
    if (result.ExitCode === 0) {
      state.Status = 'healthy';
      state.FailingStreak = 0;
    } else if (before.Status !== 'starting' || elapsedMs >= plan.startPeriodMs) {
      state.FailingStreak++;
      if (state.FailingStreak >= plan.retries) state.Status = 'unhealthy';
    }
    if (state.Status === before.Status) live.of(id).health = state;
    else this.#write(id, state, true);
  }

  #write(id: string, state: HealthState, tell = false): void {
    const { graph, events, live } = this.#ctx;
    live.of(id).health = state;
    graph.db.transaction(() => {
      const row = graph.containers.updateState(id, { health: JSON.stringify(state) });
      if (tell) events.container(readRecord(row), `health_status: ${state.Status}`);
    });
  }

  #tellStart(record: ContainerRecord, execId: string, { plan, told }: Watch): void {
    const { graph, events } = this.#ctx;
    if (graph.events.followers === 0) return;
    told.add(execId);
    const command = plan.args.join(' ');
    graph.db.transaction(() => {
      for (const action of ['exec_create', 'exec_start'])
        events.container(record, `${action}: ${command}`, { execID: execId });
    });
  }

  async #probe(record: ContainerRecord, watch: Watch): Promise<ProbeResult> {
    const { native } = this.#ctx;
    const { plan } = watch;
    const execId = randomBytes(32).toString('hex');
    const start = nowRfc3339();
    const [readFd, writeFd] = native.pipe();
    const output = new ProbeOutput(readFd);
    const ended = new Promise<number>((resolve) => this.#probes.set(execId, resolve));
    const result = (exitCode: number, text: string): ProbeResult => ({
      Start: start,
      End: nowRfc3339(),
      ExitCode: exitCode,
      Output: text,
    });
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(late.resolve, plan.timeoutMs, undefined);
    try {
      this.#tellStart(record, execId, watch);
      const { pid } = await native.exec(record.row.id, this.#execs.probe(record, execId, plan.args, writeFd));
      const startTime = startTimeOf(pid);
      const exitCode = await Promise.race([ended, late.promise]);
      if (exitCode === undefined) {
        if (startTime !== undefined)
          await native.signalProcess({ pid, startTime, signal: SIGKILL }).catch(() => undefined);
        const text = `Health check exceeded timeout (${seconds(plan.timeoutMs)})`;
        const said = output.text();
        return result(-1, said ? `${text}: ${said}` : text);
      }
      await output.ended(LAST_WORDS_MS);
      return result(exitCode, output.text());
    } catch (error) {
      watch.told.delete(execId);
      return result(-1, error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(timer);
      this.#probes.delete(execId);
      output.close();
    }
  }
}

const storedHealth = ({ health }: Pick<ContainerRow, 'health'>): HealthState | undefined =>
  health === null ? undefined : (JSON.parse(health) as HealthState);

/** Go's way to write a duration, for the usual ones. */
const seconds = (ms: number): string => (ms >= 1000 ? `${ms / 1000}s` : `${ms}ms`);

/** The start time that makes a pid one process; undefined when it has ended. */
function startTimeOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return undefined;
  }
}

/** The beginning of what a probe says; the rest is read and dropped. */
class ProbeOutput {
  readonly #socket: Socket;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: true, writable: false });
    this.#socket.on('error', () => undefined);
    this.#socket.on('data', (chunk: Buffer) => {
      if (this.#bytes <= MAX_OUTPUT_BYTES) this.#chunks.push(chunk);
      this.#bytes += chunk.length;
    });
  }

  /** Until whoever holds the other end has closed it. */
  ended(withinMs: number): Promise<void> {
    if (this.#socket.closed || this.#socket.readableEnded) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, withinMs);
      this.#socket.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  text(): string {
    const bytes = Buffer.concat(this.#chunks);
    if (bytes.length <= MAX_OUTPUT_BYTES) return bytes.toString();
    return `${bytes.subarray(0, MAX_OUTPUT_BYTES).toString()}...`;
  }

  close(): void {
    this.#socket.destroy();
  }
}
