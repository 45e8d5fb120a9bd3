/** `caisson registry serve`: a registry that runs until a signal ends it. */
import { createLogger } from '../../log.ts';
import type * as HtpasswdFile from './auth/htpasswdFile.ts';
import { loadRegistryConfig, SETTINGS } from './config.ts';
import { startRegistry } from './server.ts';

/** Its users' file. With it comes bcrypt, which a registry without users does not load. */
export const htpasswdFile = (): Promise<typeof HtpasswdFile> => import('./auth/htpasswdFile.ts');

/** Flags without the command's name. */
export async function serve(argv: readonly string[]): Promise<number> {
  const config = loadRegistryConfig(argv);
  // Syncs of many uploads wait in libuv's pool, and four threads are soon all waiting. It is read at the pool's first use.
  process.env['UV_THREADPOOL_SIZE'] ??= '16';
  const log = createLogger(config.logLevel);
  // V8 collects when more memory is asked for, and keeps its pages: of a registry that rests neither is wanted.
  const onRest = (): unknown => globalThis.gc?.({ type: 'major', flavor: 'last-resort', execution: 'sync' });
  const running = await startRegistry(config, log, onRest);
  const { addresses, metricsAddress } = running;
  log.info({ root: config.root, addresses, ...(metricsAddress && { metricsAddress }) }, 'registry is served');
  process.on('SIGHUP', () => {
    try {
      running.reload();
      log.info('certificate read again');
    } catch (error) {
      log.error({ err: error }, 'certificate not read again');
    }
  });
  const signal = await new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT']) process.once(name, () => resolve(name));
  });
  log.info({ signal }, 'registry ends');
  await running.close();
  return 0;
}

/** Its flags, for `--help`. */
export function flagsHelp(): string {
  const lines = Object.entries(SETTINGS).flatMap(([name, { kind, help }]) => {
    if (kind === 'objects') return [];
    const flag = `--${name}${kind === 'switch' ? '' : kind === 'list' ? ' VALUE …' : ' VALUE'}`;
    return [`  ${flag.padEnd(26)}  ${help}`];
  });
  const file = `  ${'--config FILE'.padEnd(26)}  The same settings as JSON; there also "rights" and "retention"`;
  return [file, ...lines].join('\n');
}
