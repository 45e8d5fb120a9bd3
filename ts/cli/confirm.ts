/** Questions before something is removed. */
import { createInterface } from 'node:readline/promises';
import { ExitCode } from './failure.ts';

/** Asks unless `force`; anything but y ends the command. */
export async function confirm(warning: string, force: boolean | undefined): Promise<void> {
  if (force) return;
  process.stdout.write(`WARNING! ${warning}\nAre you sure you want to continue? [y/N] `);
  const reader = createInterface({ input: process.stdin });
  try {
    for await (const line of reader) {
      if (/^y(?:es)?$/i.test(line.trim())) return;
      break;
    }
  } finally {
    reader.close();
  }
  if (!process.stdin.isTTY) process.stdout.write('\n');
  throw new ExitCode(0, 'caisson: nothing was removed: not confirmed (--force does not ask)');
}
