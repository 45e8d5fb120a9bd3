/** This process's terminal while it stands for one in a container. */
import { spawnSync } from 'node:child_process';
import { CaissonError } from '../client/index.ts';

export interface TerminalSize {
  rows: number;
  columns: number;
}

export const terminalSize = (): TerminalSize | undefined =>
  process.stdout.isTTY ? { rows: process.stdout.rows, columns: process.stdout.columns } : undefined;

/** Bytes of `ctrl-p,ctrl-q`; undefined for ''. */
export function parseDetachKeys(text: string): Uint8Array | undefined {
  if (text === '') return undefined;
  return Uint8Array.from(
    text.split(',').map((key) => {
      const [, letter] = /^ctrl-([a-z@[\\\]^_])$/i.exec(key) ?? [];
      if (letter !== undefined) return letter.toUpperCase().charCodeAt(0) & 0x1f;
      if (key.length === 1) return key.charCodeAt(0);
      throw new CaissonError('InvalidParameter', `invalid detach keys (${text}): unknown character: '${key}'`);
    }),
  );
}

/** Watches input for the keys; what could be their beginning is held back until it is known. */
export class DetachWatch {
  readonly #keys: Uint8Array;
  #matched = 0;

  constructor(keys: Uint8Array) {
    this.#keys = keys;
  }

  /** What goes on to the container; `detach` when the keys were complete. */
  feed(input: Uint8Array): { pass: Uint8Array; detach: boolean } {
    const pass: number[] = [];
    for (const byte of input) {
      if (byte !== this.#keys[this.#matched] && this.#matched > 0) {
        pass.push(...this.#keys.subarray(0, this.#matched));
        this.#matched = 0;
      }
      if (byte !== this.#keys[this.#matched]) pass.push(byte);
      else if (++this.#matched === this.#keys.length) return { pass: Uint8Array.from(pass), detach: true };
    }
    return { pass: Uint8Array.from(pass), detach: false };
  }
}

/** Keys go to the container as they are typed; undone by the returned function. */
export function rawMode(): () => void {
  if (!process.stdin.isTTY) return () => undefined;
  process.stdin.setRawMode(true);
  // Node leaves output processing on: a full-screen program's bare line feed would become a carriage return as well.
  spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] });
  const restore = (): void => void process.stdin.setRawMode(false);
  process.once('exit', restore);
  return () => {
    process.off('exit', restore);
    restore();
  };
}
