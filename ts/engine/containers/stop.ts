/** `stop` and `restart`. */
import { within } from '../../async.ts';
import { CaissonError } from '../../errdefs.ts';
import { type JobKind, lock } from '../jobs/kinds.ts';
import type { ContainerContext } from './context.ts';
import type { Freezer } from './freezer.ts';
import { ignoreGone, type Killer, type KillPlan, signalInit } from './kill.ts';
import { wasDropped } from './procSignals.ts';
import { isRunning, readRecord } from './record.ts';
import { parseSignal } from './signals.ts';
import { cgroupOf } from './spawn.ts';

const SIGTERM = 15;
const DEFAULT_TIMEOUT_S = 10;
/** Measured: after this long /proc tells what the program does with the signal. */
const SETTLE_MS = 20;

export interface StopOptions {
  timeoutS?: number | undefined;
  signal?: string;
}

export interface StopPlan extends KillPlan {
  signal: number;
  /** Negative: for ever. */
  timeoutMs: number;
  /** It is to run again after its end, whoever is there then. */
  restart: boolean;
}

export class Stopper {
  readonly kind: JobKind<StopPlan>;
  readonly #ctx: ContainerContext;
  readonly #freezer: Freezer;
  readonly #killer: Killer;
  /** Starts a container whose restart an earlier daemon has begun. */
  readonly #startAgain: (id: string) => void;
  /** Ids whose restart goes on in this process once they have ended. */
  readonly #restarts = new Set<string>();

  constructor(ctx: ContainerContext, freezer: Freezer, killer: Killer, startAgain: (id: string) => void) {
    this.#ctx = ctx;
    this.#freezer = freezer;
    this.#killer = killer;
    this.#startAgain = startAgain;
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

  stop(idOrName: string, options: StopOptions): Promise<void> {
    return this.#stop(idOrName, options, false);
  }

  /** Ends it, if it runs, and calls `start`. When the daemon goes in between, the next one starts it. */
  async restart(idOrName: string, options: StopOptions, start: (id: string) => Promise<void>): Promise<void> {
    const { graph, live } = this.#ctx;
    const { id } = graph.containers.resolve(idOrName);
    this.#restarts.add(id);
    live.of(id).restarting = true;
    try {
      await this.#stop(id, options, true).catch(ignoreEnded);
      await start(id);
    } finally {
      this.#restarts.delete(id);
      live.of(id).restarting = false;
      if (graph.containers.get(id)?.status === 'restarting') graph.containers.updateState(id, { status: 'exited' });
    }
  }

  async #stop(idOrName: string, options: StopOptions, restart: boolean): Promise<void> {
    const { row, config, hostConfig } = readRecord(this.#ctx.graph.containers.resolve(idOrName));
    if (row.status !== 'restarting' && !isRunning(row)) throw notRunning(row.id);
    const signal = parseSignal(options.signal || config.StopSignal || String(SIGTERM));
    const timeoutS = options.timeoutS ?? config.StopTimeout ?? DEFAULT_TIMEOUT_S;
    if (row.status === 'restarting') {
      if (!restart) await this.#killer.callOff(row.id);
      return;
    }
    const { pid, pidStart: startTime } = row;
    const cgroup = cgroupOf(this.#ctx, hostConfig, row.id);
    await this.#ctx.runner.run(this.kind, {
      id: row.id,
      signal,
      timeoutMs: timeoutS * 1000,
      restart,
      cgroup,
      pid,
      startTime,
    });
  }

  #begin(plan: StopPlan): StopPlan {
    const { graph } = this.#ctx;
    const row = graph.containers.resolve(plan.id);
    if (!isRunning(row)) throw notRunning(row.id);
    graph.containers.updateState(row.id, { manuallyStopped: true });
    return { ...plan, pid: row.pid, startTime: row.pidStart };
  }

  async #signal(plan: StopPlan): Promise<void> {
    const { graph, events } = this.#ctx;
    const row = graph.containers.get(plan.id);
    if (!row || !isRunning(row)) return;
    // also for a stop that an earlier daemon began
    this.#ctx.live.of(plan.id).stopping = true;
    events.container(readRecord(row), 'kill', { signal: String(plan.signal) });
    await signalInit(this.#ctx, plan).catch(ignoreGone);
    // after the signal, which it so finds first of all
    if (row.status === 'paused') await this.#freezer.thaw(plan);
  }

  async #kill(plan: StopPlan): Promise<void> {
    const live = this.#ctx.live.of(plan.id);
    try {
      if (plan.restart) live.restarting = true;
      if (!(await this.#graceful(plan))) await this.#killer.killNow(plan);
    } finally {
      live.stopping = false;
      if (plan.restart && !this.#restarts.has(plan.id)) {
        live.restarting = false;
        this.#startAgain(plan.id);
      }
    }
  }

  /** True when it ended within its time; false when it did not, or never will because the signal was dropped. */
  async #graceful({ id, pid, signal, timeoutMs }: StopPlan): Promise<boolean> {
    const end = new AbortController();
    const ended = this.#killer.ended(id, end.signal);
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
}

const notRunning = (id: string): CaissonError => new CaissonError('NotModified', `container ${id} is not running`);

/** It ended by itself before the signal came, or did not run at all. */
function ignoreEnded(error: unknown): void {
  if (!(error instanceof CaissonError && error.kind === 'NotModified')) throw error;
}
