/**
 * What this daemon process knows of a container beyond its row: who waits for it, streams that came before its start,
 * timers. Nothing here survives the daemon, and nothing here is needed to be right after a restart.
 */
import type { ExitStatus } from '../native/containers.ts';
import type { HealthState } from './health.ts';
import type { PendingStream } from './pendingStreams.ts';

/** Answer of `wait`. */
export interface WaitResult {
  exitCode: number;
  error?: string;
}

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

interface Waiter {
  condition: WaitCondition;
  resolve: (result: WaitResult) => void;
}

export class Live {
  /** Of clients that attached before the start, by the number that they are watched by (`pendingStreams.ts`). */
  readonly pendingStreams = new Map<number, PendingStream>();
  /** The shim has them: whoever attaches from here on goes there. */
  isReleased = false;
  /** Removal of what the last run left in the kernel; a start waits for it. */
  cleanup: Promise<void> = Promise.resolve();
  /** The start that is under way. */
  starting: Promise<unknown> | undefined;
  restartTimer: NodeJS.Timeout | undefined;
  /** Grows with each restart by the policy that was called off: one that is about to start then does not. */
  restartsCalledOff = 0;
  /** Grows with each quick end, up to a minute. */
  restartDelayMs = 0;
  /** Followers of the log, to be told of the end. */
  readonly logHandles = new Set<number>();
  /** A stop asked by a user is under way: its end is `stop`, not a failure. */
  stopping = false;
  /** Between the stop and the start of `restart`: `--rm` does not apply. */
  restarting = false;
  /** Being removed: nothing may start it. */
  removing = false;
  lastExit: ExitStatus | undefined;
  /** Of a container whose health is watched; its row has it as it was at the last change of status. */
  health: HealthState | undefined;
  /** `performance.now()` of the start; undefined for one that an earlier daemon has started. */
  startedAtMs: number | undefined;
  /** The shim went before its container's start was written down. */
  lost = false;
  /** Variables of a build's command that are written down nowhere: its secrets. */
  secretEnv: readonly string[] = [];
  #waiters = new Set<Waiter>();

  wait(condition: WaitCondition, signal?: AbortSignal): Promise<WaitResult> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { condition, resolve };
      this.#waiters.add(waiter);
      signal?.addEventListener(
        'abort',
        () => {
          this.#waiters.delete(waiter);
          reject(signal.reason);
        },
        { once: true },
      );
    });
  }

  callOffRestart(): void {
    clearTimeout(this.restartTimer);
    this.restartsCalledOff++;
  }

  notify(conditions: WaitCondition[], result: WaitResult): void {
    for (const waiter of [...this.#waiters]) {
      if (!conditions.includes(waiter.condition)) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(result);
    }
  }
}

export class LiveTable {
  readonly #table = new Map<string, Live>();

  of(id: string): Live {
    let live = this.#table.get(id);
    if (!live) {
      live = new Live();
      this.#table.set(id, live);
    }
    return live;
  }

  forget(id: string): void {
    this.#table.delete(id);
  }
}
