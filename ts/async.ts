/** Small helpers for promises that Node does not have. */
import type { Server } from 'node:http';
import type { Server as SecureServer } from 'node:https';
import type { Server as NetServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** At most `limit` at a time; the rest wait in the order in which they came. */
export class Semaphore {
  readonly #limit: () => number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  /** A limit that may change is asked for each time. */
  constructor(limit: number | (() => number)) {
    this.#limit = typeof limit === 'number' ? () => limit : limit;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running < this.#limit()) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await task();
    } finally {
      this.#running--;
      while (this.#waiting.length > 0 && this.#running < this.#limit()) {
        this.#running++;
        this.#waiting.shift()?.();
      }
    }
  }
}

/** Settles as `promise` does, or rejects with the signal's reason as soon as it aborts (the work itself goes on). */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** One run of a task per key at a time: who asks for a key that is under way shares its result. */
export class Shared<T> {
  readonly #running = new Map<string, Promise<T>>();

  run(key: string, task: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const started = task().finally(() => this.#running.delete(key));
    this.#running.set(key, started);
    return started;
  }
}

/** True when the promise settles in that time. */
export async function within(promise: Promise<void>, milliseconds: number): Promise<boolean> {
  const timer = new AbortController();
  try {
    const late = sleep(milliseconds, false, { signal: timer.signal }).catch(() => false);
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    timer.abort();
  }
}

/**
 * Takes no more connections and ends the idle ones; those still busy after `graceMs` are cut. `front`: what listens for
 * the server.
 */
export function closeServer(server: Server | SecureServer, graceMs: number, front: NetServer = server): Promise<void> {
  if (!front.listening) return Promise.resolve();
  return new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), graceMs);
    front.close(() => {
      clearTimeout(cut);
      resolve();
    });
    server.closeIdleConnections();
  });
}
