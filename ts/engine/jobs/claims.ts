import { CaissonError } from '../../errdefs.ts';
import { type Claim, cancelled } from './kinds.ts';

interface Waiter {
  holder: string;
  claims: readonly Claim[];
  resolve: () => void;
  reject: (error: unknown) => void;
}

/**
 * Who holds what, in this process: the claim rows, and who waits for them. All claims of a holder are granted at once or
 * none, so nobody waits while holding; waiters are served in the order in which they came.
 */
export class ClaimTable {
  readonly #held = new Map<string, string>();
  readonly #of = new Map<string, string[]>();
  #waiters: Waiter[] = [];

  /**
   * Resolves when `holder` has all of them. What `lender` holds counts as free and stays the lender's. Kind Conflict when
   * a name is held; kind Cancelled when aborted meanwhile.
   */
  async acquire(holder: string, claims: readonly Claim[], signal?: AbortSignal, lender?: string): Promise<void> {
    if (signal?.aborted) throw cancelled('waiting for another operation', signal);
    const wanted = lender === undefined ? claims : claims.filter((claim) => this.#held.get(claim.resource) !== lender);
    this.#refuseTaken(wanted);
    if (!wanted.some((claim) => this.#held.has(claim.resource) || this.#isAwaited(claim.resource))) {
      this.#grant(holder, wanted);
      return;
    }
    await this.#wait(holder, wanted, signal);
  }

  /** Takes them whoever holds them: what the database says at start, or from the lender of a job that stays. */
  take(holder: string, resources: readonly string[]): void {
    for (const resource of resources) {
      const before = this.#held.get(resource);
      if (before === holder) continue;
      if (before !== undefined) {
        this.#of.set(before, this.#of.get(before)?.filter((other) => other !== resource) ?? []);
      }
      this.#grant(holder, [{ resource }]);
    }
  }

  release(holder: string): void {
    const resources = this.#of.get(holder);
    if (resources === undefined) return;
    this.#of.delete(holder);
    for (const resource of resources) this.#held.delete(resource);
    if (this.#waiters.length > 0) this.#serve();
  }

  holderOf(resource: string): string | undefined {
    return this.#held.get(resource);
  }

  /** Ends the waiting of all who wait for something of this holder (all waiters, when none is named). */
  rejectWaiters(error: CaissonError, holder?: string): void {
    const hopeless = this.#waiters.filter(
      (waiter) => holder === undefined || waiter.claims.some((claim) => this.#held.get(claim.resource) === holder),
    );
    this.#waiters = this.#waiters.filter((waiter) => !hopeless.includes(waiter));
    for (const waiter of hopeless) waiter.reject(error);
    this.#serve();
  }

  #wait(holder: string, claims: readonly Claim[], signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { holder, claims, resolve, reject };
    this.#waiters.push(waiter);
    if (signal === undefined) return promise;
    const leave = (): void => {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
      reject(cancelled('waiting for another operation', signal));
      this.#serve();
    };
    signal.addEventListener('abort', leave, { once: true });
    return promise.finally(() => signal.removeEventListener('abort', leave));
  }

  #serve(): void {
    const ahead = new Set<string>();
    const remaining: Waiter[] = [];
    for (const waiter of this.#waiters) {
      const blocked = waiter.claims.some((claim) => this.#held.has(claim.resource) || ahead.has(claim.resource));
      if (!blocked) {
        this.#grant(waiter.holder, waiter.claims);
        waiter.resolve();
        continue;
      }
      try {
        this.#refuseTaken(waiter.claims);
      } catch (error) {
        waiter.reject(error);
        continue;
      }
      remaining.push(waiter);
      for (const claim of waiter.claims) ahead.add(claim.resource);
    }
    this.#waiters = remaining;
  }

  #grant(holder: string, claims: readonly Claim[]): void {
    const list = this.#of.get(holder) ?? [];
    for (const { resource } of claims) {
      this.#held.set(resource, holder);
      list.push(resource);
    }
    this.#of.set(holder, list);
  }

  #isAwaited(resource: string): boolean {
    return this.#waiters.some((waiter) => waiter.claims.some((claim) => claim.resource === resource));
  }

  #refuseTaken(claims: readonly Claim[]): void {
    const taken = claims.find((claim) => claim.taken !== undefined && this.#held.has(claim.resource));
    if (taken?.taken !== undefined) throw new CaissonError('Conflict', taken.taken);
  }
}
