/** This process's streams and signals, joined to a container's or an exec's while it runs. */
import { once } from 'node:events';
import { constants } from 'node:os';
import type { Frame, Session } from '../client/index.ts';
import { DetachWatch, parseDetachKeys, rawMode, terminalSize } from './terminal.ts';

export const DEFAULT_DETACH_KEYS = 'ctrl-p,ctrl-q';

export interface JoinOptions {
  stdin: boolean;
  tty: boolean;
  detachKeys?: string | undefined;
  resize(rows: number, columns: number): Promise<void>;
}

/** `detached`: the user pressed the keys, the process goes on. */
export async function join(session: Session, options: JoinOptions): Promise<'ended' | 'detached'> {
  const restore = options.tty && options.stdin ? rawMode() : () => undefined;
  const onResize = (): void => {
    const size = terminalSize();
    if (size !== undefined) options.resize(size.rows, size.columns).catch(() => undefined);
  };
  if (options.tty) {
    process.stdout.on('resize', onResize);
    onResize();
  }
  try {
    const output = writeFrames(session).then(() => 'ended' as const);
    if (!options.stdin) return await output;
    const input = pumpInput(session, options);
    // The end of input alone ends nothing: output goes on.
    const result = await Promise.race([output, input.then((how) => (how === 'detached' ? how : output))]);
    if (result === 'detached') await session[Symbol.asyncDispose]();
    return result;
  } finally {
    process.stdout.off('resize', onResize);
    restore();
  }
}

/** At the pace of whoever reads them. */
export async function writeFrames(frames: AsyncIterable<Frame>): Promise<void> {
  for await (const { stream, data } of frames) {
    const out = stream === 'stdout' ? process.stdout : process.stderr;
    if (!out.write(data)) await once(out, 'drain');
  }
}

async function pumpInput(session: Session, { tty, detachKeys }: JoinOptions): Promise<'ended' | 'detached'> {
  const keys = tty ? parseDetachKeys(detachKeys ?? DEFAULT_DETACH_KEYS) : undefined;
  const watch = keys === undefined ? undefined : new DetachWatch(keys);
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    const { pass, detach } = watch?.feed(chunk) ?? { pass: chunk, detach: false };
    if (pass.byteLength > 0) await session.write(pass);
    if (detach) return 'detached';
  }
  session.endInput();
  return 'ended';
}

/** Not those that mean this process alone, nor those that cannot be caught. */
const NOT_FORWARDED = new Set([
  'SIGCHLD',
  'SIGPIPE',
  'SIGURG',
  'SIGKILL',
  'SIGSTOP',
  'SIGWINCH',
  'SIGPROF',
  'SIGVTALRM',
  'SIGSEGV',
  'SIGBUS',
  'SIGFPE',
  'SIGILL',
  'SIGTRAP',
  'SIGABRT',
  'SIGIOT',
  'SIGTSTP',
  'SIGTTIN',
  'SIGTTOU',
  'SIGCONT',
  'SIGIO',
  'SIGPOLL',
  'SIGSTKFLT',
  'SIGPWR',
  'SIGSYS',
  'SIGXCPU',
  'SIGXFSZ',
  'SIGALRM',
]);

/** Signals to this process go to the container; undone by the returned function. */
export function forwardSignals(kill: (signal: string) => Promise<void>): () => void {
  const forwarded = (Object.keys(constants.signals) as NodeJS.Signals[]).filter((name) => !NOT_FORWARDED.has(name));
  const handler = (signal: NodeJS.Signals): void => void kill(signal).catch(() => undefined);
  for (const signal of forwarded) process.on(signal, handler);
  return () => {
    for (const signal of forwarded) process.off(signal, handler);
  };
}
