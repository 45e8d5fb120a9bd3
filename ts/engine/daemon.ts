/**
 * The daemon: takes its two roots, constructs every part of the engine, recovers what a former daemon left, then serves.
 *
 * Containers are not children to be stopped: they survive the daemon's end, whether by SIGTERM or SIGKILL, and the next
 * daemon takes them over (dockerd would stop them unless live-restore is set).
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { dirname, join } from 'node:path';
import { within } from '../async.ts';
import { asCaissonError, CaissonError } from '../errdefs.ts';
import { ContentStore } from '../graph/content-store.ts';
import { Database } from '../graph/db.ts';
import { GarbageCollector } from '../graph/gc.ts';
import { Graph } from '../graph/graph.ts';
import { Partials } from '../graph/partials.ts';
import { Snapshotter } from '../graph/snapshotter.ts';
import { createLogger, type Logger } from '../log.ts';
import { nativeFile } from '../nativeFiles.ts';
import { RegistryClient } from '../registry/client/client.ts';
import type { MetricsServer } from '../registry/server/prometheus.ts';
import { Authorizer } from './api/authorization.ts';
import { checkHost, isFree, listen } from './api/listeners.ts';
import { registerRoutes } from './api/routes.ts';
import { type ApiServer, createApiServer } from './api/server.ts';
import { type DaemonConfig, levelOf, loadConfig } from './config.ts';
import { Containers } from './containers/containers.ts';
import { makeInitLayer } from './containers/initLayer.ts';
import { type Engine, EnginePaths } from './engine.ts';
import { helpText } from './help.ts';
import { Images } from './images/images.ts';
import { SignaturePolicy } from './images/signatures/policy.ts';
import { Faults } from './jobs/faults.ts';
import { KindRegistry } from './jobs/kinds.ts';
import { JobRunner } from './jobs/runner.ts';
import { startLocalRegistry } from './localRegistry.ts';
import { lockRoot } from './lock.ts';
import { loadNative, type Native } from './native/index.ts';
import { Networks } from './network/networks.ts';
import { Plugins } from './plugins/plugins.ts';
import { reload } from './reload.ts';
import { tlsSettings } from './tlsSettings.ts';
import { ENGINE_VERSION } from './version.ts';
import { VolumeDrivers } from './volumes/drivers.ts';
import { Volumes } from './volumes/volumes.ts';

/** `caisson daemon`, with its flags. Resolves with the exit code when the daemon has ended and nothing is left to wait for. */
export async function main(argv: string[]): Promise<number> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(helpText());
    return 0;
  }
  try {
    const config = loadConfig(argv);
    if (config.signaturePolicy !== '') await SignaturePolicy.read(config.signaturePolicy);
    if (config.validateOnly) {
      process.stderr.write('configuration OK\n');
      return 0;
    }
    return await runDaemon(config, loadNative());
  } catch (thrown) {
    const error = asCaissonError(thrown);
    process.stderr.write(`caisson daemon: ${error.message}\n`);
    if (error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`);
    if (error.kind === 'System') process.stderr.write(`${error.cause instanceof Error ? error.cause.stack : ''}\n`);
    return 1;
  }
}

/** Runs until a signal ends it. */
export async function runDaemon(config: DaemonConfig, native: Native): Promise<number> {
  const log = createLogger(levelOf(config));
  const paths = new EnginePaths(config.dataRoot, config.execRoot);
  mkdirSync(paths.dataRoot, { recursive: true, mode: 0o710 });
  mkdirSync(paths.execRoot, { recursive: true, mode: 0o711 });
  avoidOomKiller();
  const locks = [lockRoot(paths.dataRoot), lockRoot(paths.execRoot)];
  // a daemon that nobody could reach starts no containers
  for (const host of config.hosts) await checkHost(host, tlsSettings(config));
  await prepareRoots(paths, native);
  writePidfile(config.pidfile);

  const ending = new AbortController();
  const plugins = new Plugins();
  const engine = await construct(config, paths, native, log, plugins);
  await recover(engine);
  const authorizer = new Authorizer(plugins);
  await authorizer.use(config.authorizationPlugins);
  const { experimental, features } = config;
  const settings = { experimental, buildkit: features['buildkit'] !== false };
  const api = createApiServer({ log, native, ending: ending.signal, authorizer, ...settings });
  registerRoutes(api.router, engine);
  await api.ready();

  const end = stopSignal(engine, authorizer);
  const registry = await startLocalRegistry(config, log);
  const metrics = config.metricsAddr === '' ? undefined : await openMetrics(engine, config.metricsAddr);
  const listeners = await openListeners(api, config, log);
  log.info(
    {
      version: ENGINE_VERSION,
      listeners,
      ...(registry && { registry: registry.address }),
      ...(metrics && { metrics: metrics.address }),
    },
    'API is served',
  );

  const signal = await end;
  log.info({ signal }, 'daemon ends; containers go on');
  ending.abort(new CaissonError('Unavailable', 'the daemon is shutting down'));
  await api.close(config.shutdownTimeoutS * 1000);
  await registry?.close();
  metrics?.close();
  // a job that waits for something outside is left to the next daemon, as after a kill
  const ended = await within(engine.runner.close(), config.shutdownTimeoutS * 1000);
  await engine.remote.close();
  if (ended) await engine.graph.db.close();
  else
    log.warn(
      { jobs: engine.runner.unfinished().length },
      'jobs are under way: the next daemon undoes or finishes them',
    );
  rmSync(config.pidfile, { force: true });
  for (const lock of locks) lock.release();
  return 0;
}

/** A daemon without metrics does not load what counts them. */
async function openMetrics(engine: Engine, address: string): Promise<MetricsServer> {
  const { startMetrics } = await import('./system/metrics.ts');
  return startMetrics(engine, address);
}

/** Every part of the engine, each given what it uses. */
async function construct(
  config: DaemonConfig,
  paths: EnginePaths,
  native: Native,
  log: Logger,
  plugins: Plugins,
): Promise<Engine> {
  const host = await native.probeHost();
  const boot = bootId();
  const db = new Database(paths.database);
  const graph = new Graph(db);
  const content = new ContentStore(paths.dataRoot, graph.blobs);
  const partials = new Partials(paths.dataRoot);
  const snapshotter = new Snapshotter({
    dataRoot: paths.dataRoot,
    layers: graph.layers,
    removeTree: (path) => native.removeTree(path),
  });
  const gc = new GarbageCollector(graph, content, snapshotter, boot);
  const registry = new KindRegistry();
  const faults = Faults.fromEnvironment(process.env);
  const runner = new JobRunner({ db, jobs: graph.jobs, registry, bootId: boot, log, faults });
  const remote = new RegistryClient({
    settings: () => ({
      insecureRegistries: config.insecureRegistries,
      mirrors: config.registryMirrors,
      certsDir: config.registryCertsDir,
      proxies: config.proxies,
      downloadAttempts: config.maxDownloadAttempts,
    }),
  });
  const images = new Images({
    graph,
    snapshotter,
    content,
    partials,
    gc,
    runner,
    registry,
    bootId: boot,
    native,
    host,
    maxConcurrentDownloads: () => config.maxConcurrentDownloads,
    maxConcurrentUploads: () => config.maxConcurrentUploads,
    storageBudgetBytes: config.storageBudgetBytes,
    storagePins: config.storagePins,
    keepLayerBlobs: config.keepLayerBlobs,
    signaturePolicy: config.signaturePolicy,
    remote,
  });
  const shared = { config, paths, log, native, host, graph };
  const volumeDrivers = new VolumeDrivers(plugins);
  const containers = new Containers({ engine: shared, runner, registry, bootId: boot, images, volumeDrivers });
  const plugged = containers.pluginVolumes;
  const volumes = new Volumes({ graph, runner, registry, native, root: paths.volumes, plugins: plugged });
  const networks = new Networks({ graph, config, native, runner, registry, devices: containers.devices });
  await native.startRuntime({ shimPath: nativeFile('caisson-shim'), onEvent: (event) => containers.onEvent(event) });
  return { ...shared, content, partials, snapshotter, gc, runner, remote, images, volumes, containers, networks };
}

/** What an earlier daemon left: its jobs first, then what no row and no job speaks for. */
async function recover({
  runner,
  graph,
  content,
  partials,
  snapshotter,
  gc,
  images,
  containers,
  log,
}: Engine): Promise<void> {
  await containers.adopt();
  const jobs = await runner.recover();
  content.clean();
  partials.clean();
  const known = graph.containers.all().map((container) => container.id);
  const orphans = await snapshotter.clean(known, plannedNames(runner));
  const garbage = gc.collect();
  await gc.sweep(garbage);
  await images.keepBudget();
  await containers.settle();
  log.info({ jobs, orphans: orphans.length, layers: garbage.layers.length }, 'recovered');
}

/** Names that unfinished jobs may have made, or are about to remove: every hexadecimal id in their plans. */
function plannedNames(runner: JobRunner): string[] {
  return runner.unfinished().flatMap((job) => JSON.stringify(job.plan).match(/\b[0-9a-f]{32,64}\b/g) ?? []);
}

async function prepareRoots(paths: EnginePaths, native: Native): Promise<void> {
  for (const path of [paths.tmp, paths.buildSecrets]) rmSync(path, { recursive: true, force: true });
  for (const [path, mode] of [
    [paths.overlay, 0o710],
    [paths.content, 0o700],
    [paths.containers, 0o710],
    [paths.volumes, 0o701],
    [paths.tmp, 0o700],
    [paths.state, 0o700],
    [paths.buildSecrets, 0o700],
  ] as const)
    mkdirSync(path, { recursive: true, mode });
  makeInitLayer(paths.initLayer);
  for (const path of [paths.overlay, paths.volumes]) await native.spreadTrees(path);
}

/** A container is rather to be killed than the daemon that speaks for all. Without CAP_SYS_RESOURCE it stays as it was. */
function avoidOomKiller(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '-500');
  } catch {
    // an ordinary process then
  }
}

function writePidfile(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${process.pid}\n`);
}

async function openListeners(api: ApiServer, config: DaemonConfig, log: Logger): Promise<string[]> {
  const tls = tlsSettings(config);
  const secure = tls && {
    before: (server: Server) => api.secure(server, tls),
    verify: tls.verify,
  };
  if (config.hosts.length > 0)
    return Promise.all(config.hosts.map((host) => listen(api.newServer(), host, config.group, secure)));
  const listeners = [await listen(api.newServer(), `unix://${join(config.execRoot, 'caisson.sock')}`, config.group)];
  const docker = '/var/run/docker.sock';
  if (await isFree(docker)) listeners.push(await listen(api.newServer(), `unix://${docker}`, config.group));
  else log.warn({ path: docker }, 'another engine serves this socket: it is left alone');
  return listeners;
}

/** Resolves with the first signal that ends the daemon; SIGHUP reloads the settings that may change while it runs. */
function stopSignal(engine: Engine, authorizer: Authorizer): Promise<string> {
  process.on('SIGHUP', () => {
    reload(engine, authorizer).catch((error: unknown) => {
      engine.log.error({ err: error }, 'configuration not reloaded');
    });
  });
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve('SIGTERM'));
    process.once('SIGINT', () => resolve('SIGINT'));
  });
}

/** The boot that this is: pids and kernel objects of another one are void. */
const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
