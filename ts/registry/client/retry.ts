/** At most five attempts, with waits that double and are jittered, or as long as the registry asks for. */
import { setTimeout as wait } from 'node:timers/promises';
import { TransientError } from './errors.ts';
import type { RegistryTiming } from './settings.ts';

export const MAX_ATTEMPTS = 5;

/** Before attempt `failed + 1`. */
export async function backOff(
  failed: number,
  error: TransientError,
  { backoffMs }: Pick<RegistryTiming, 'backoffMs'>,
  signal: AbortSignal,
): Promise<void> {
  const base = backoffMs * 2 ** (failed - 1);
  // Half of it is random: clients that failed together do not come back together.
  const delay = error.retryAfterMs ?? base / 2 + (Math.random() * base) / 2;
  await wait(delay, undefined, { signal }).catch(() => signal.throwIfAborted());
}

/** Repeats what fails with a TransientError. */
export async function retrying<T>(
  timing: Pick<RegistryTiming, 'backoffMs'>,
  signal: AbortSignal,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let failed = 1; ; failed++) {
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TransientError) || failed === MAX_ATTEMPTS) throw error;
      await backOff(failed, error, timing, signal);
    }
  }
}
