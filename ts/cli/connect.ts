/** The engine that the commands talk to, and how one is started when there is none. */
import { spawn } from 'node:child_process';
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { DEFAULT_SOCKET, defaultAddress } from '../client/address.ts';
import { Caisson, CaissonError } from '../client/index.ts';
import { packageRoot } from '../packageRoot.ts';

const LOG = '/run/caisson/daemon.log';
const START_MS = 20_000;
/** Another command has started one in the same moment: that one is as good. */
const ALREADY_RUNS = 'is already in use by another caisson daemon';

export const engine = (): Caisson => new Caisson();

/** The engine; one of this machine is started, detached, when none was named and none runs. */
export async function engineOrStart(): Promise<Caisson> {
  const found = engine();
  if (defaultAddress() !== `unix://${DEFAULT_SOCKET}` || process.getuid?.() !== 0) return found;
  try {
    await found.ping();
    return found;
  } catch (error) {
    if (!(error instanceof CaissonError) || error.code !== 'DAEMON_UNREACHABLE') throw error;
  }
  process.stderr.write(`caisson: no daemon runs: starting one (its log: ${LOG})\n`);
  const daemon = startDaemon();
  let ended: number | undefined;
  for (const deadline = Date.now() + START_MS; Date.now() < deadline; ) {
    ended ??= await Promise.race([daemon.ended, wait(20, undefined)]);
    if (ended !== undefined && !daemon.said().includes(ALREADY_RUNS)) break;
    const answers = await found.ping().then(
      () => true,
      () => false,
    );
    if (answers) return found;
    if (ended !== undefined) await wait(20);
  }
  if (ended === undefined) {
    throw new CaissonError('Unavailable', 'the daemon was started but does not answer', { hint: `see ${LOG}` });
  }
  const why = daemon.said().trim().split('\n').at(-1) || `it ended with ${ended}`;
  throw new CaissonError('Unavailable', `the daemon could not be started: ${why}`, { hint: `see ${LOG}` });
}

interface StartedDaemon {
  /** Resolves with its exit code when it ends, which it should not. */
  ended: Promise<number>;
  /** What it has written to its log. */
  said(): string;
}

function startDaemon(): StartedDaemon {
  mkdirSync(dirname(LOG), { recursive: true, mode: 0o711 });
  const log = openSync(LOG, 'a', 0o600);
  const { size: before } = fstatSync(log);
  const child = spawn(join(packageRoot, 'bin/caisson'), ['daemon'], {
    detached: true,
    stdio: ['ignore', log, log],
    cwd: '/',
  });
  closeSync(log);
  child.unref();
  const ended = new Promise<number>((resolve) => {
    child.once('error', () => resolve(127));
    child.once('exit', (code) => resolve(code ?? 128));
  });
  return { ended, said: () => readFileSync(LOG).subarray(before).toString() };
}
