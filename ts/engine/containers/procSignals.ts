/**
 * What a process does with a signal, read from /proc. PID 1 of a pid namespace never gets a signal whose action is the
 * default one: the kernel drops it, so waiting for its effect is useless.
 */
import { readFileSync } from 'node:fs';

const field = (status: string, name: string): bigint =>
  BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)`, 'm').exec(status)?.[1] ?? '0'}`);

/** System call numbers of rt_sigtimedwait; it lifts the mask while it waits, so SigBlk tells nothing then. */
const RT_SIGTIMEDWAIT = process.arch === 'arm64' ? '137' : '128';

/**
 * True when the signal, delivered a moment ago, went nowhere: not caught, not blocked by the main thread (so no signalfd
 * and no later sigwait has it pending) and nobody is in rt_sigtimedwait. Sampled after the delivery, because a runtime
 * may install or take back its handler only then (Node does).
 */
export function wasDropped(pid: number, signal: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const bit = 1n << BigInt(signal - 1);
    if ((field(status, 'SigCgt') & bit) !== 0n || (field(status, 'SigBlk') & bit) !== 0n) return false;
    return readFileSync(`/proc/${pid}/syscall`, 'latin1').split(' ')[0] !== RT_SIGTIMEDWAIT;
  } catch {
    // it has ended, or may not be looked at: the full grace then
    return false;
  }
}

/** True when it has ended, whether somebody has reaped it or not. */
export function hasEnded(pid: number): boolean {
  try {
    return /\) [ZX] [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return true;
  }
}
