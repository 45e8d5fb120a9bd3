/** `stop`, `kill`, `restart`, `pause`, `unpause`. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CaissonError, isKind } from '../../errdefs.ts';
import { type JobKind, lock } from '../jobs/kinds.ts';
import type { ContainerContext } from './context.ts';
import { wasDropped } from './procSignals.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';
import { parseSignal } from './signals.ts';
import { cgroupOf } from './spawn.ts';

const SIGKILL = 9;
const SIGTERM = 15;
const DEFAULT_TIMEOUT_S = 10;
/** Measured: after this long /proc tells what the program does with the signal. */
const SETTLE_MS = 20;
/** After SIGKILL an end is a matter of the kernel; longer than this and it sits in uninterruptible sleep. */
const KILL_WAIT_MS = 10_000;

export interface StopPlan {
  id: string;
  signal: number;
  /** Negative: for ever. */
  timeoutMs: number;
  cgroup: string;
  pid: number;
  startTime: number;
}

export class Stopper {
  readonly kind: JobKind<StopPlan>;
  readonly #ctx: ContainerContext;

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
    this.kind = {
      kind: 'stop',
      subject: ({ id }) => id,
      claims: ({ id }) => [lock(`container:${id}`)],
      begin: (plan) => this.#begin(plan),
      commitPoint: 0,
      durable: true,
      steps: [
        { name: 'signal', medium: 'kernel', do: (plan) => this.#signal(plan) },
        { name: 'kill', medium: 'kernel', do: (plan) => this.#kill(plan) },
      ],
    };
  }

  async stop(idOrName: string, options: { timeoutS?: number | undefined; signal?: string }): Promise<void> {
    const record = readRecord(this.#ctx.graph.containers.resolve(idOrName));
    const { row, config, hostConfig } = record;
    const signal = parseSignal(options.signal || config.StopSignal || String(SIGTERM));
    const timeoutS = options.timeoutS ?? config.StopTimeout ?? DEFAULT_TIMEOUT_S;
    if (!isRunning(row)) return this.#stopRestarting(record);
    const cgroup = cgroupOf(this.#ctx, hostConfig, row.id);
    await this.#ctx.runner.run(this.kind, {
      id: row.id,
      signal,
      timeoutMs: timeoutS * 1000,
      cgroup,
      pid: row.pid,
      startTime: row.pidStart,
    });
  }

  /** Between two runs of a restart policy there is nothing to signal: the next run is called off. */
  async #stopRestarting({ row }: ContainerRecord): Promise<void> {
    const { graph, live } = this.#ctx;
    if (row.status !== 'restarting') throw new CaissonError('NotModified', `container ${row.id} is not running`);
    clearTimeout(live.of(row.id).restartTimer);
    graph.containers.updateState(row.id, { status: 'exited', manuallyStopped: true });
    live.of(row.id).notify(['not-running'], { exitCode: row.exitCode });
    await graph.db.durable();
  }

  #begin(plan: StopPlan): StopPlan {
    const { graph } = this.#ctx;
    const row = graph.containers.resolve(plan.id);
    if (!isRunning(row)) throw new CaissonError('NotModified', `container ${row.id} is not running`);
    graph.containers.updateState(row.id, { manuallyStopped: true });
    return { ...plan, pid: row.pid, startTime: row.pidStart };
  }

  async #signal(plan: StopPlan): Promise<void> {
    const { graph, events, native } = this.#ctx;
    const row = graph.containers.get(plan.id);
    if (!row || !isRunning(row)) return;
    // also for a stop that an earlier daemon began
    this.#ctx.live.of(plan.id).stopping = true;
    events.container(readRecord(row), 'kill', { signal: String(plan.signal) });
    if (row.status === 'paused') await this.#thaw(row.id, plan.cgroup);
    const { pid, startTime, signal } = plan;
    await native.signalProcess({ pid, startTime, signal }).catch(ignoreGone);
  }

  async #kill(plan: StopPlan): Promise<void> {
    const { live } = this.#ctx;
    try {
      if (await this.#graceful(plan)) return;
      await this.#killNow(plan);
    } finally {
      live.of(plan.id).stopping = false;
    }
  }

  /** True when it ended within its time; false when it did not, or never will because the signal was dropped. */
  async #graceful({ id, pid, signal, timeoutMs }: StopPlan): Promise<boolean> {
    const end = new AbortController();
    const ended = this.#ended(id, end.signal);
    try {
      if (timeoutMs === 0) return await within(ended, 0);
      if (await within(ended, timeoutMs < 0 ? SETTLE_MS : Math.min(SETTLE_MS, timeoutMs))) return true;
      if (wasDropped(pid, signal)) {
        this.#ctx.log.debug({ container: id, signal }, 'PID 1 does not handle the stop signal: killed at once');
        return false;
      }
      if (timeoutMs < 0) return await ended.then(() => true);
      return await within(ended, Math.max(0, timeoutMs - SETTLE_MS));
    } finally {
      end.abort();
    }
  }

  async #killNow({ id, cgroup, pid, startTime }: Pick<StopPlan, 'id' | 'cgroup' | 'pid' | 'startTime'>): Promise<void> {
    const { graph, events, native } = this.#ctx;
    const row = graph.containers.get(id);
    if (!row || !isRunning(row)) return;
    events.container(readRecord(row), 'kill', { signal: String(SIGKILL) });
    const end = new AbortController();
    const ended = this.#ended(id, end.signal);
    try {
      if (row.status === 'paused') await this.#thaw(id, cgroup);
      await native.signalProcess({ pid, startTime, signal: SIGKILL }).catch(ignoreGone);
      if (await within(ended, KILL_WAIT_MS)) return;
    } finally {
      end.abort();
    }
    throw new CaissonError('System', `container ${id} has not ended ${KILL_WAIT_MS / 1000} s after SIGKILL`, {
      hint: `see /proc/${pid}/stack for what it waits on`,
    });
  }

  /** Resolves when the row says that the container does not run; never when aborted. */
  async #ended(id: string, signal: AbortSignal): Promise<void> {
    const row = this.#ctx.graph.containers.get(id);
    if (!row || !isRunning(row)) return;
    await this.#ctx.live
      .of(id)
      .wait('next-exit', signal)
      .catch(() => new Promise<never>(() => undefined));
  }

  /** SIGKILL waits for the end; any other signal is just sent. */
  async kill(idOrName: string, signalText: string): Promise<void> {
    const { graph, events, native } = this.#ctx;
    const record = readRecord(graph.containers.resolve(idOrName));
    const { row, config, hostConfig } = record;
    const signal = parseSignal(signalText || String(SIGKILL));
    if (!isRunning(row)) {
      throw new CaissonError('Conflict', `cannot kill container: ${idOrName}: container ${row.id} is not running`, {
        code: 'CONTAINER_NOT_RUNNING',
      });
    }
    // as Docker: a kill is a manual stop, unless an image's own stop signal says that this signal means something else
    const ends = signal === SIGKILL || !config.StopSignal || parseSignal(config.StopSignal) === signal;
    if (ends) graph.containers.updateState(row.id, { manuallyStopped: true });
    const plan = { id: row.id, cgroup: cgroupOf(this.#ctx, hostConfig, row.id), pid: row.pid, startTime: row.pidStart };
    if (signal === SIGKILL) return this.#killNow(plan);
    events.container(record, 'kill', { signal: String(signal) });
    await native.signalProcess({ pid: row.pid, startTime: row.pidStart, signal });
  }

  async pause(idOrName: string): Promise<void> {
    await this.#freeze(idOrName, true);
  }

  async unpause(idOrName: string): Promise<void> {
    await this.#freeze(idOrName, false);
  }

  async #freeze(idOrName: string, frozen: boolean): Promise<void> {
    const { graph, events, native, runner } = this.#ctx;
    const { id } = graph.containers.resolve(idOrName);
    const held = await runner.lock([`container:${id}`]);
    try {
      const row = graph.containers.resolve(id);
      if (!isRunning(row)) throw new CaissonError('Conflict', `container ${id} is not running`);
      if (frozen && row.status === 'paused') throw new CaissonError('Conflict', `Container ${id} is already paused`);
      if (!frozen && row.status !== 'paused') throw new CaissonError('Conflict', `Container ${id} is not paused`);
      const record = readRecord(row);
      const cgroup = cgroupOf(this.#ctx, record.hostConfig, id);
      await native.cgroupFreeze(cgroup, frozen);
      graph.db.transaction(() => {
        graph.containers.updateState(id, { status: frozen ? 'paused' : 'running' });
        events.container(record, frozen ? 'pause' : 'unpause');
      });
    } finally {
      held.release();
    }
  }

  async #thaw(id: string, cgroup: string): Promise<void> {
    const { graph, events, native } = this.#ctx;
    await native.cgroupFreeze(cgroup, false);
    const row = graph.containers.get(id);
    if (row?.status !== 'paused') return;
    graph.db.transaction(() => {
      graph.containers.updateState(id, { status: 'running' });
      events.container(readRecord(row), 'unpause');
    });
  }
}

/** True when the promise settles in that time. */
async function within(promise: Promise<void>, milliseconds: number): Promise<boolean> {
  const timer = new AbortController();
  try {
    const late = sleep(milliseconds, false, { signal: timer.signal }).catch(() => false);
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    timer.abort();
  }
}

function ignoreGone(error: unknown): void {
  if (!isKind(error, 'NotFound')) throw error;
}
