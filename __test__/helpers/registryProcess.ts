/** `caisson registry serve` as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../ts/packageRoot.ts';

export interface RegistryProcess {
  pid: number;
  child: ChildProcess;
  url: string;
  /** Its log, line by line. */
  log: string[];
  kill(signal?: NodeJS.Signals): Promise<void>;
}

const FROM_SOURCES = [join(packageRoot, 'node_modules/node/bin/node'), join(packageRoot, 'ts/cli/main.ts')];

/** Resolves when it serves; rejects with what it says when it ends before. `command`: what runs caisson.
 * `listen`: an address of one's own choice, which stays over restarts. */
export async function spawnRegistry(
  root: string,
  flags: readonly string[] = [],
  [program = '', ...args]: readonly string[] = FROM_SOURCES,
  listen = '127.0.0.1:0',
): Promise<RegistryProcess> {
  const child = spawn(program, [...args, 'registry', 'serve', '--root', root, '--listen', listen, ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const log: string[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let rest = '';
  child.stderr.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    log.push(...lines);
    const served = lines.find((line) => line.includes('"registry is served"'));
    if (served !== undefined) resolve((JSON.parse(served) as { addresses: string[] }).addresses[0] ?? '');
  });
  child.once('close', (code) => reject(new Error(`the registry ended with ${code}: ${log.join('\n')}${rest}`)));
  const address = await promise;
  return {
    pid: child.pid ?? 0,
    child,
    url: `http://${address}`,
    log,
    async kill(signal = 'SIGKILL') {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal);
      await once(child, 'close');
    },
  };
}
