/** The engine that the commands talk to, and how one is started when there is none. */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { DEFAULT_SOCKET, defaultAddress } from '../client/address.ts';
import { Caisson, CaissonError } from '../client/index.ts';
import { packageRoot } from '../packageRoot.ts';

const LOG = '/run/caisson/daemon.log';
const START_MS = 20_000;

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
  const ended = startDaemon();
  for (const deadline = Date.now() + START_MS; Date.now() < deadline; ) {
    const code = await Promise.race([ended, wait(20)]);
    if (code !== undefined)
      throw new CaissonError('Unavailable', `the daemon ended with ${code} as it started`, { hint: `see ${LOG}` });
    const answers = await found.ping().then(
      () => true,
      () => false,
    );
    if (answers) return found;
  }
  throw new CaissonError('Unavailable', 'the daemon was started but does not answer', { hint: `see ${LOG}` });
}

/** Resolves when it ends, which it should not. */
function startDaemon(): Promise<number> {
  mkdirSync('/run/caisson', { recursive: true, mode: 0o711 });
  const log = openSync(LOG, 'a', 0o600);
  const child = spawn(join(packageRoot, 'bin/caisson'), ['daemon'], {
    detached: true,
    stdio: ['ignore', log, log],
    cwd: '/',
  });
  closeSync(log);
  child.unref();
  return new Promise((resolve) => {
    child.once('error', () => resolve(127));
    child.once('exit', (code) => resolve(code ?? 128));
  });
}
