/** `/networks` */
import { CaissonError } from '../../../errdefs.ts';
import type { Containers } from '../../containers/containers.ts';
import { NETWORK_FILTERS } from '../../network/describe.ts';
import type { Networks } from '../../network/networks.ts';
import type { Router } from '../router.ts';
import { connectBody, disconnectBody, networkCreateBody } from '../schemas/networks.ts';

export function networkRoutes(router: Router, networks: Networks, containers: Containers): void {
  // the only path of the API that may end with a slash
  for (const path of ['/networks', '/networks/']) {
    router.plain({ method: 'GET', path, handle: ({ query }) => networks.list(query.filters(NETWORK_FILTERS)) });
  }
  router.json({
    method: 'POST',
    path: '/networks/create',
    body: networkCreateBody,
    handle: (call) => {
      call.status(201);
      // a client of before then meant nothing by it
      const EnableIPv4 = call.atLeast('1.48') ? (call.body.EnableIPv4 ?? null) : null;
      return networks.create({ ...call.body, EnableIPv4 });
    },
  });
  router.plain({
    method: 'POST',
    path: '/networks/prune',
    handle: async ({ query }) => {
      const removed = await networks.prune(query.filters(['until', 'label', 'label!']));
      return { NetworksDeleted: removed.length > 0 ? removed : null };
    },
  });
  router.plain({
    method: 'GET',
    path: '/networks/:id',
    handle: (call) => {
      checkBoolean('verbose', call.query.string('verbose'));
      return networks.inspect(call.param('id'), call.query.string('scope'));
    },
  });
  router.plain({ method: 'DELETE', path: '/networks/:id', handle: (call) => networks.remove(call.param('id')) });
  router.json({
    method: 'POST',
    path: '/networks/:id/connect',
    body: connectBody,
    handle: async (call) => {
      await containers.connect(call.param('id'), call.body.Container, call.body.EndpointConfig);
      call.status(200);
    },
  });
  router.json({
    method: 'POST',
    path: '/networks/:id/disconnect',
    body: disconnectBody,
    handle: async (call) => {
      await containers.disconnect(call.param('id'), call.body.Container, call.body.Force ?? false);
      call.status(200);
    },
  });
}

/** One of the few that Docker reads as strictly as Go does. */
function checkBoolean(name: string, value: string): void {
  if (/^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)?$/.test(value)) return;
  throw new CaissonError('InvalidParameter', `invalid value for ${name}: ${value}: not a boolean`);
}
