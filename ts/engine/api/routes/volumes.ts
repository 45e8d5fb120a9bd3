import { CaissonError } from '../../../errdefs.ts';
import { VOLUME_FILTERS, VOLUME_PRUNE_FILTERS, type Volumes } from '../../volumes/volumes.ts';
import type { Router } from '../router.ts';
import { VolumeCreateRequest } from '../schemas/volumes.ts';

export function volumeRoutes(router: Router, volumes: Volumes): void {
  router.plain({
    method: 'GET',
    path: '/volumes',
    handle: ({ query }) => volumes.list(query.filters(VOLUME_FILTERS)),
  });
  router.json({
    method: 'POST',
    path: '/volumes/create',
    body: VolumeCreateRequest,
    optionalBody: true,
    handle: (call) => {
      call.status(201);
      return volumes.create(call.body);
    },
  });
  router.plain({
    method: 'POST',
    path: '/volumes/prune',
    handle: (call) => volumes.prune(call.query.filters(VOLUME_PRUNE_FILTERS), call.atLeast('1.42')),
  });
  router.plain({ method: 'GET', path: '/volumes/:name', handle: (call) => volumes.inspect(call.param('name')) });
  router.plain({
    method: 'DELETE',
    path: '/volumes/:name',
    handle: (call) => volumes.remove(call.param('name'), call.query.bool('force')),
  });
  router.plain({
    method: 'PUT',
    path: '/volumes/:name',
    handle: () => {
      throw new CaissonError('Unavailable', 'volume update only valid for cluster volumes, but swarm is unavailable');
    },
  });
}
