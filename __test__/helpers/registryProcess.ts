/** `caisson registry serve` as a process of its own, from the sources. */
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

/** Resolves when it serves; rejects with what it says when it ends before. */
export async function spawnRegistry(
  root: string,
  flags: readonly string[] = [],
  listen = '127.0.0.1:0',
): Promise<RegistryProcess> {
  const node = join(packageRoot, 'node_modules/node/bin/node');
  const main = join(packageRoot, 'ts/cli/main.ts');
  const child = spawn(node, [main, 'registry', 'serve', '--root', root, '--listen', listen, ...flags], {
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
