/** SIGHUP: what may change while the daemon runs is read again. */
import { hostname } from 'node:os';
import type { Authorizer } from './api/authorization.ts';
import { levelOf, reloadConfig } from './config.ts';
import type { Engine } from './engine.ts';
import { engineId, shownRuntimes } from './system/info.ts';

/** All or nothing; kind InvalidParameter when the file is wrong. */
export async function reload(engine: Engine, authorizer: Authorizer): Promise<void> {
  const { config, graph, log } = engine;
  const keys = await reloadConfig(config, (next) => authorizer.use(next.authorizationPlugins));
  log.level = levelOf(config);
  log.info({ keys }, 'configuration reloaded');
  graph.events.append({ type: 'daemon', action: 'reload', actorId: engineId(engine), attributes: attributes(engine) });
}

/** The settings as they are now, with Docker's names. */
function attributes({ config, host }: Engine): Record<string, string> {
  return {
    'authorization-plugins': JSON.stringify(config.authorizationPlugins),
    debug: String(config.debug),
    'default-cgroupns-mode': config.defaultCgroupnsMode || (host.cgroupVersion === 2 ? 'private' : 'host'),
    'default-ipc-mode': config.defaultIpcMode,
    'default-runtime': config.defaultRuntime,
    'default-shm-size': String(config.defaultShmSizeBytes),
    'insecure-registries': JSON.stringify(config.insecureRegistries),
    labels: JSON.stringify(config.labels),
    'live-restore': 'true',
    'max-concurrent-downloads': String(config.maxConcurrentDownloads),
    'max-concurrent-uploads': String(config.maxConcurrentUploads),
    'max-download-attempts': String(config.maxDownloadAttempts),
    name: hostname(),
    'registry-mirrors': JSON.stringify(config.registryMirrors),
    runtimes: JSON.stringify(shownRuntimes(config.runtimes)),
    'shutdown-timeout': String(config.shutdownTimeoutS),
  };
}
