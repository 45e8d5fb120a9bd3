/** Every route of the API, module by module. */
import type { Engine } from '../engine.ts';
import type { Router } from './router.ts';
import { imageRoutes } from './routes/images.ts';
import { swarmRoutes } from './routes/swarm.ts';
import { systemRoutes } from './routes/system.ts';
import { unsupportedRoutes } from './routes/unsupported.ts';
import { volumeRoutes } from './routes/volumes.ts';

export function registerRoutes(router: Router, engine: Engine): void {
  systemRoutes(router, engine);
  imageRoutes(router, engine.images);
  volumeRoutes(router, engine.volumes);
  swarmRoutes(router);
  unsupportedRoutes(router);
}
