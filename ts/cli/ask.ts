/** Questions at the terminal. */
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { ExitCode } from './failure.ts';

/** The answer; without `echo` it is not seen. `hint`: what to do where there is no terminal. */
export async function ask(question: string, { echo, hint }: { echo: boolean; hint: string }): Promise<string> {
  if (!process.stdin.isTTY) throw new ExitCode(1, `caisson: cannot ask for a login without a terminal: ${hint}`);
  process.stdout.write(question);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const reader = createInterface({ input: process.stdin, output: echo ? process.stdout : silent, terminal: true });
  try {
    return (await reader.question('')).trim();
  } finally {
    reader.close();
    if (!echo) process.stdout.write('\n');
  }
}
