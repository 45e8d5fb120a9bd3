/**
 * `kill`: SIGKILL is a job that goes on until the container has ended; any other signal is sent once at most, as nobody
 * knows what it means to the program.
 */
import { within } from '../../async.ts';
import { CaissonError, isKind } from '../../errdefs.ts';
import { type JobKind, lock } from '../jobs/kinds.ts';
import { isOwnRuntime } from '../runtime/runtimes.ts';
import type { ContainerContext } from './context.ts';
import type { Freezer } from './freezer.ts';
import { hasEnded } from './procSignals.ts';
import { isRunning, readRecord, settledRow } from './record.ts';
import { parseSignal } from './signals.ts';
import { cgroupOf } from './spawn.ts';

const SIGKILL = 9;
/** A shim tells of an end at once; one that has not after this long hangs. */
const SHIM_PATIENCE_MS = 2_000;
/** After SIGKILL an end is a matter of the kernel; longer than this and it sits in uninterruptible sleep. */
const KILL_WAIT_MS = 10_000;

/** A process of a container's cgroup, named for good by pid and start time. */
export interface KillPlan {
  id: string;
  cgroup: string;
  pid: number;
  startTime: number;
}

interface SignalPlan extends KillPlan {
  signal: number;
  /** What `manuallyStopped` was, and is again if the signal was not sent. */
  wasStopped: boolean;
}

export class Killer {
  readonly #ctx: ContainerContext;
  readonly #freezer: Freezer;
  readonly #kill: JobKind<KillPlan>;
  readonly #signal: JobKind<SignalPlan>;

  /** Ends the shim of a container whose init has ended, and which does not tell of it. */
  readonly #endShim: (id: string) => Promise<void>;

  constructor(ctx: ContainerContext, freezer: Freezer, endShim: (id: string) => Promise<void>) {
    this.#ctx = ctx;
    this.#freezer = freezer;
    this.#endShim = endShim;
    // not the container's lock: a kill cuts the patience of a stop short
    const claims = ({ id }: KillPlan) => [lock(`kill:${id}`)];
    this.#kill = {
      kind: 'kill',
      subject: ({ id }) => id,
      claims,
      begin: (plan) => this.#begin(plan, true),
      commitPoint: 0,
      durable: false,
      steps: [{ name: 'kill', medium: 'kernel', do: (plan) => this.killNow(plan) }],
    };
    this.#signal = {
      kind: 'signal',
      subject: ({ id }) => id,
      claims,
      begin: (plan) => ({ ...plan, ...this.#begin(plan, this.#ends(plan)) }),
      rollback: ({ id, wasStopped }) => {
        const row = ctx.graph.containers.get(id);
        if (row && isRunning(row)) ctx.graph.containers.updateState(id, { manuallyStopped: wasStopped });
      },
      commitPoint: 1,
      durable: false,
      steps: [{ name: 'send', medium: 'kernel', do: (plan) => this.#send(plan) }],
    };
  }

  kinds(): [JobKind<KillPlan>, JobKind<SignalPlan>] {
    return [this.#kill, this.#signal];
  }

  /** SIGKILL waits for the end; any other signal is just sent. */
  async kill(idOrName: string, signalText: string): Promise<void> {
    const { runner } = this.#ctx;
    const signal = parseSignal(signalText || String(SIGKILL));
    const { row, hostConfig } = readRecord(await settledRow(this.#ctx, idOrName));
    if (!isRunning(row)) {
      if (row.status === 'restarting') return this.callOff(row.id);
      throw new CaissonError('Conflict', `cannot kill container: ${idOrName}: container ${row.id} is not running`, {
        code: 'CONTAINER_NOT_RUNNING',
      });
    }
    const { pid, pidStart: startTime } = row;
    const plan = { id: row.id, cgroup: cgroupOf(this.#ctx, hostConfig, row.id), pid, startTime };
    if (signal === SIGKILL) await runner.run(this.#kill, plan);
    else await runner.run(this.#signal, { ...plan, signal, wasStopped: row.manuallyStopped });
  }

  /** Between two runs of a restart policy there is nothing to signal: the next run is called off. */
  async callOff(id: string): Promise<void> {
    const { graph, live, runner } = this.#ctx;
    live.of(id).callOffRestart();
    // a start that was under way comes first
    const held = await runner.lock([`container:${id}`]);
    try {
      const row = graph.containers.resolve(id);
      if (row.status === 'restarting') {
        graph.containers.updateState(id, { status: 'exited', manuallyStopped: true });
        live.of(id).notify(['not-running'], { exitCode: row.exitCode });
        await graph.db.durable();
        return;
      }
    } finally {
      held.release();
    }
    if (isRunning(graph.containers.resolve(id))) await this.kill(id, 'KILL');
  }

  #begin(plan: KillPlan, ends: boolean): KillPlan {
    const { graph } = this.#ctx;
    const row = graph.containers.resolve(plan.id);
    if (!isRunning(row)) {
      throw new CaissonError('Conflict', `cannot kill container: ${plan.id}: container ${plan.id} is not running`, {
        code: 'CONTAINER_NOT_RUNNING',
      });
    }
    if (ends) graph.containers.updateState(row.id, { manuallyStopped: true });
    return { ...plan, pid: row.pid, startTime: row.pidStart };
  }

  /**
   * As Docker: a signal is a manual stop, unless the container's own stop signal says that this one means something else.
   * For `unless-stopped` whatever a user sends is one.
   */
  #ends({ id, signal }: SignalPlan): boolean {
    const { config, hostConfig } = readRecord(this.#ctx.graph.containers.resolve(id));
    if (hostConfig.RestartPolicy.Name === 'unless-stopped') return true;
    return !config.StopSignal || parseSignal(config.StopSignal) === signal;
  }

  async #send({ id, pid, startTime, signal }: SignalPlan): Promise<void> {
    const { graph, events } = this.#ctx;
    events.container(readRecord(graph.containers.resolve(id)), 'kill', { signal: String(signal) });
    await signalInit(this.#ctx, { id, pid, startTime, signal });
  }

  /** SIGKILL, and the wait for the end. */
  async killNow({ id, cgroup, pid, startTime }: KillPlan): Promise<void> {
    const { graph, events, native } = this.#ctx;
    const row = graph.containers.get(id);
    if (!row || !isRunning(row)) return;
    events.container(readRecord(row), 'kill', { signal: String(SIGKILL) });
    const end = new AbortController();
    const ended = this.ended(id, end.signal);
    try {
      await native.signalProcess({ pid, startTime, signal: SIGKILL }).catch(ignoreGone);
      // also what was frozen behind our back
      if (row.status === 'paused' || !(await within(ended, THAW_AFTER_MS))) await this.#freezer.thaw({ id, cgroup });
      if (await within(ended, SHIM_PATIENCE_MS)) return;
      if (hasEnded(pid)) await this.#endShim(id);
      if (await within(ended, KILL_WAIT_MS - SHIM_PATIENCE_MS)) return;
    } finally {
      end.abort();
    }
    throw new CaissonError('System', `container ${id} has not ended ${KILL_WAIT_MS / 1000} s after SIGKILL`, {
      hint: `see /proc/${pid}/stack for what it waits on`,
    });
  }

  /** Resolves when the row says that the container does not run; never when aborted. */
  async ended(id: string, signal: AbortSignal): Promise<void> {
    const row = this.#ctx.graph.containers.get(id);
    if (!row || !isRunning(row)) return;
    await this.#ctx.live
      .of(id)
      .wait('next-exit', signal)
      .catch(() => new Promise<never>(() => undefined));
  }
}

/** By another runtime where that has built the container: its init may be what stands around the program. */
export async function signalInit(
  { graph, native }: ContainerContext,
  { id, pid, startTime, signal }: { id: string; pid: number; startTime: number; signal: number },
): Promise<void> {
  const { hostConfig } = readRecord(graph.containers.resolve(id));
  if (isOwnRuntime(hostConfig.Runtime)) await native.signalProcess({ pid, startTime, signal });
  else await native.signalContainer(id, signal);
}

/** An end by SIGKILL takes less, unless somebody has frozen the cgroup. */
const THAW_AFTER_MS = 500;

export function ignoreGone(error: unknown): void {
  if (!isKind(error, 'NotFound')) throw error;
}
