/** Swarm: this engine never is part of one, and says so as a Docker daemon outside of a swarm does. */
import type { HTTPMethods } from 'fastify';
import { CaissonError } from '../../../errdefs.ts';
import { NOT_A_SWARM_MANAGER } from '../messages.ts';
import { pageNotFound, type Router } from '../router.ts';
import { notImplemented } from './unsupported.ts';

const ROUTES: [HTTPMethods, string][] = [
  ['GET', '/swarm'],
  ['POST', '/swarm/init'],
  ['POST', '/swarm/join'],
  ['POST', '/swarm/leave'],
  ['POST', '/swarm/update'],
  ['GET', '/swarm/unlockkey'],
  ['POST', '/swarm/unlock'],
  ['GET', '/nodes'],
  ['GET', '/nodes/:id'],
  ['DELETE', '/nodes/:id'],
  ['POST', '/nodes/:id/update'],
  ['GET', '/services'],
  ['POST', '/services/create'],
  ['GET', '/services/:id'],
  ['DELETE', '/services/:id'],
  ['POST', '/services/:id/update'],
  ['GET', '/services/:id/logs'],
  ['GET', '/tasks'],
  ['GET', '/tasks/:id'],
  ['GET', '/tasks/:id/logs'],
  ['GET', '/secrets'],
  ['POST', '/secrets/create'],
  ['GET', '/secrets/:id'],
  ['DELETE', '/secrets/:id'],
  ['POST', '/secrets/:id/update'],
  ['GET', '/configs'],
  ['POST', '/configs/create'],
  ['GET', '/configs/:id'],
  ['DELETE', '/configs/:id'],
  ['POST', '/configs/:id/update'],
];

export function swarmRoutes(router: Router): void {
  for (const [method, path] of ROUTES) {
    router.plain({
      method,
      path,
      body: 'stream',
      handle: (call) => {
        // Docker's routes of these want an id
        if (path.includes(':id') && call.param('id') === '') throw pageNotFound();
        if (path === '/swarm/leave') {
          throw new CaissonError('Unavailable', 'This node is not part of a swarm', { code: 'NOT_IN_A_SWARM' });
        }
        if (path === '/swarm/init' || path === '/swarm/join') throw notImplemented(`POST ${path}`, 'swarm mode');
        throw new CaissonError('Unavailable', NOT_A_SWARM_MANAGER, { code: 'NOT_A_SWARM_MANAGER' });
      },
    });
  }
}
