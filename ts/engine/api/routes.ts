/** Every route of the API, module by module. */
import type { Engine } from '../engine.ts';
import type { Router } from './router.ts';
import { swarmRoutes } from './routes/swarm.ts';
import { unsupportedRoutes } from './routes/unsupported.ts';

export function registerRoutes(router: Router, _engine: Engine): void {
  swarmRoutes(router);
  unsupportedRoutes(router);
}
