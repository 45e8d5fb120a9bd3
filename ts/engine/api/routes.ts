/** Every route of the API, module by module. */
import { Builds } from '../builder/builds.ts';
import type { Engine } from '../engine.ts';
import type { Router } from './router.ts';
import { archiveRoutes } from './routes/archive.ts';
import { buildRoutes } from './routes/build.ts';
import { commitRoutes } from './routes/commit.ts';
import { containerRoutes } from './routes/containers.ts';
import { containerStreamRoutes } from './routes/containersStreams.ts';
import { execRoutes } from './routes/exec.ts';
import { imageRoutes } from './routes/images.ts';
import { networkRoutes } from './routes/networks.ts';
import { registryRoutes } from './routes/registries.ts';
import { swarmRoutes } from './routes/swarm.ts';
import { systemRoutes } from './routes/system.ts';
import { unsupportedRoutes } from './routes/unsupported.ts';
import { volumeRoutes } from './routes/volumes.ts';

export function registerRoutes(router: Router, engine: Engine): void {
  const builds = new Builds(engine);
  systemRoutes(router, engine, builds);
  registryRoutes(router, engine);
  imageRoutes(router, engine.images);
  containerRoutes(router, engine.containers);
  containerStreamRoutes(router, engine.containers, engine.native);
  archiveRoutes(router, engine.containers);
  commitRoutes(router, engine);
  buildRoutes(router, engine, builds);
  execRoutes(router, engine.containers);
  networkRoutes(router, engine.networks, engine.containers);
  volumeRoutes(router, engine.volumes);
  swarmRoutes(router);
  unsupportedRoutes(router);
}
