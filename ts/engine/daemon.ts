/**
 * The daemon: takes its two roots, constructs every part of the engine, recovers what a former daemon left, then serves.
 *
 * Containers are not children to be stopped: they survive the daemon's end, whether by SIGTERM or SIGKILL, and the next
 * daemon takes them over (dockerd would stop them unless live-restore is set).
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { asCaissonError } from '../errdefs.ts';
import { Database } from '../graph/db.ts';
import { Graph } from '../graph/graph.ts';
import { createLogger, type Logger } from '../log.ts';
import { packageRoot } from '../packageRoot.ts';
import { isFree, listen } from './api/listeners.ts';
import { registerRoutes } from './api/routes.ts';
import { type ApiServer, createApiServer } from './api/server.ts';
import { type DaemonConfig, loadConfig, reloadConfig } from './config.ts';
import { type Engine, EnginePaths } from './engine.ts';
import { lockRoot } from './lock.ts';
import { loadNative } from './native/index.ts';
import { ENGINE_VERSION } from './version.ts';

/** `caisson daemon`, with its flags. Resolves with the exit code when the daemon has ended. */
export async function main(argv: string[]): Promise<number> {
  try {
    const config = loadConfig(argv);
    return await runDaemon(config);
  } catch (thrown) {
    const error = asCaissonError(thrown);
    process.stderr.write(`caisson daemon: ${error.message}\n`);
    if (error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`);
    if (error.kind === 'System') process.stderr.write(`${error.cause instanceof Error ? error.cause.stack : ''}\n`);
    return 1;
  }
}

async function runDaemon(config: DaemonConfig): Promise<number> {
  const log = createLogger(config.logLevel);
  const paths = new EnginePaths(config.dataRoot, config.execRoot);
  mkdirSync(paths.dataRoot, { recursive: true, mode: 0o710 });
  mkdirSync(paths.execRoot, { recursive: true, mode: 0o711 });
  const locks = [lockRoot(paths.dataRoot), lockRoot(paths.execRoot)];
  prepareRoots(paths);
  writePidfile(config.pidfile);

  const native = loadNative();
  const host = await native.probeHost();
  const db = new Database(paths.database);
  const ending = new AbortController();
  const engine: Engine = { config, paths, log, native, host, graph: new Graph(db), ending: ending.signal };

  const api = createApiServer({ log, native });
  registerRoutes(api.router, engine);
  await api.ready();

  const end = stopSignal(engine);
  const listeners = await openListeners(api, config, log);
  log.info({ version: ENGINE_VERSION, listeners }, 'API is served');

  const signal = await end;
  log.info({ signal }, 'daemon ends; containers go on');
  ending.abort();
  await api.close(config.shutdownTimeoutS * 1000);
  await db.close();
  rmSync(config.pidfile, { force: true });
  for (const lock of locks) lock.release();
  return 0;
}

function prepareRoots(paths: EnginePaths): void {
  rmSync(paths.tmp, { recursive: true, force: true });
  for (const [path, mode] of [
    [paths.overlay, 0o710],
    [paths.content, 0o700],
    [paths.containers, 0o710],
    [paths.volumes, 0o701],
    [paths.tmp, 0o700],
    [paths.state, 0o700],
  ] as const)
    mkdirSync(path, { recursive: true, mode });
}

function writePidfile(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${process.pid}\n`);
}

async function openListeners(api: ApiServer, config: DaemonConfig, log: Logger): Promise<string[]> {
  if (config.hosts.length > 0) return Promise.all(config.hosts.map((host) => listen(api.newServer(), host)));
  const listeners = [await listen(api.newServer(), `unix://${join(config.execRoot, 'caisson.sock')}`)];
  const docker = '/var/run/docker.sock';
  if (await isFree(docker)) listeners.push(await listen(api.newServer(), `unix://${docker}`));
  else log.warn({ path: docker }, 'another engine serves this socket: it is left alone');
  return listeners;
}

/** Resolves with the first signal that ends the daemon; SIGHUP reloads the settings that may change while it runs. */
function stopSignal(engine: Engine): Promise<string> {
  process.on('SIGHUP', () => {
    try {
      const keys = reloadConfig(engine.config);
      engine.log.level = engine.config.debug ? 'debug' : engine.config.logLevel;
      engine.log.info({ keys }, 'configuration reloaded');
    } catch (error) {
      engine.log.error({ err: error }, 'configuration not reloaded');
    }
  });
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve('SIGTERM'));
    process.once('SIGINT', () => resolve('SIGINT'));
  });
}

/** The boot that this is: pids and kernel objects of another one are void. */
export const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** Beside the addon in the package. */
export const shimPath = (): string => join(packageRoot, 'build/caisson-shim');
