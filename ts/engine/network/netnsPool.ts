/**
 * Network namespaces made ahead: making one costs a start some of its time, and an empty one costs only memory. They are
 * held by descriptors alone, so they vanish with the daemon.
 */
import type { Logger } from '../../log.ts';
import type { Native } from '../native/index.ts';

const SPARES = 2;

export class NetnsPool {
  readonly #native: Pick<Native, 'createNetns'>;
  readonly #log: Logger;
  readonly #spares: number[] = [];
  #filling = false;

  constructor(native: Pick<Native, 'createNetns'>, log: Logger) {
    this.#native = native;
    this.#log = log;
  }

  /** A namespace with its lo up; the caller owns the descriptor. */
  async take(): Promise<number> {
    const spare = this.#spares.pop();
    return spare ?? this.#native.createNetns();
  }

  /** Makes what is missing, one after the other; to be called when no start waits for the kernel's network lock. */
  async fill(): Promise<void> {
    if (this.#filling) return;
    this.#filling = true;
    try {
      while (this.#spares.length < SPARES) this.#spares.push(await this.#native.createNetns());
    } catch (error) {
      this.#log.warn({ err: error }, 'no network namespace could be made ahead');
    } finally {
      this.#filling = false;
    }
  }
}
