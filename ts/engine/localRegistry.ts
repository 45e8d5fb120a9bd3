/** `--registry ADDRESS:PORT`: a registry of this daemon's own, with its root under the data root. */
import { join } from 'node:path';
import type { Logger } from '../log.ts';
import type { DaemonConfig } from './config.ts';

export interface LocalRegistry {
  address: string;
  close(): Promise<void>;
}

/** Undefined when none is wished for. */
export async function startLocalRegistry(config: DaemonConfig, log: Logger): Promise<LocalRegistry | undefined> {
  if (config.registry === '') return undefined;
  // A daemon without a registry does not load one.
  const [{ defaultConfig, openRights }, { startRegistry }] = await Promise.all([
    import('../registry/server/config.ts'),
    import('../registry/server/server.ts'),
  ]);
  const running = await startRegistry(
    {
      ...defaultConfig(),
      ...openRights,
      root: join(config.dataRoot, 'registry'),
      listen: [config.registry],
      allowDelete: true,
      accessLog: config.debug,
    },
    log.child({ part: 'registry' }),
  );
  return { address: running.addresses[0] ?? config.registry, close: () => running.close() };
}
