/** Whether and when a container that has ended runs again, as Docker documents it. */
import type { RestartPolicy } from './config.ts';

export interface Ending {
  exitCode: number;
  manuallyStopped: boolean;
  restartCount: number;
}

export function shouldRestart(policy: RestartPolicy, ending: Ending): boolean {
  if (ending.manuallyStopped) return false;
  switch (policy.Name) {
    case 'always':
    case 'unless-stopped':
      return true;
    case 'on-failure':
      return (
        ending.exitCode !== 0 && (policy.MaximumRetryCount === 0 || ending.restartCount < policy.MaximumRetryCount)
      );
    default:
      return false;
  }
}

/** A container that was not running when the daemon (or the host) came up: `always` forgives a manual stop then. */
export function startsWithDaemon(policy: RestartPolicy, manuallyStopped: boolean): boolean {
  return policy.Name === 'always' || (policy.Name === 'unless-stopped' && !manuallyStopped);
}

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 60_000;
/** Having run this long a container counts as healthy again: the delay starts from the beginning. */
const LONG_ENOUGH_MS = 10_000;

export function nextDelayMs(lastDelayMs: number, ranMs: number): number {
  if (lastDelayMs === 0 || ranMs >= LONG_ENOUGH_MS) return FIRST_DELAY_MS;
  return Math.min(lastDelayMs * 2, MAX_DELAY_MS);
}
