/** Operations of the Docker API that this engine does not have: each answers 501 and names itself. */
import type { HTTPMethods } from 'fastify';
import Type from 'typebox';
import { CaissonError } from '../../../errdefs.ts';
import type { Router } from '../router.ts';

/** What a managed plugin is given or allowed: none is there that would read it. */
const PluginSettings = Type.Union([Type.Array(Type.Unknown()), Type.Object({})]);

const ROUTES: [HTTPMethods, string, string][] = [['POST', '/plugins/create', 'managed plugins']];

export function unsupportedRoutes(router: Router): void {
  for (const [method, path, what] of ROUTES) {
    router.plain({
      method,
      path,
      body: 'stream',
      handle: () => {
        throw notImplemented(`${method} ${path}`, what);
      },
    });
  }
  // what is no JSON is told first, as dockerd does
  router.json({
    method: 'POST',
    path: '/plugins/pull',
    body: PluginSettings,
    handle: () => {
      throw notImplemented('POST /plugins/pull', 'managed plugins');
    },
  });
  router.plain({
    method: 'GET',
    path: '/plugins',
    handle: ({ query }) => {
      query.filters(['capability', 'enabled']);
      return [];
    },
  });
  // There is none of them: whatever is to be done with one ends here.
  for (const method of ['GET', 'POST', 'DELETE'])
    router.plain({
      method,
      path: '/plugins/*',
      body: 'stream',
      handle: (call) => {
        throw noSuchPlugin(call.param('*').replace(/\/(json|enable|disable|push|set|upgrade)$/, ''));
      },
    });
  for (const action of ['set', 'upgrade'])
    router.json({
      method: 'POST',
      path: `/plugins/:name/${action}`,
      body: PluginSettings,
      optionalBody: true,
      handle: (call) => {
        throw noSuchPlugin(call.param('name'));
      },
    });
}

const noSuchPlugin = (name: string): CaissonError =>
  new CaissonError('NotFound', `plugin ${JSON.stringify(name)} not found`, { code: 'PLUGIN_NOT_FOUND' });

export const notImplemented = (operation: string, what: string): CaissonError =>
  new CaissonError('NotImplemented', `${operation}: ${what} is not supported by caisson`, {
    code: 'OPERATION_NOT_SUPPORTED',
  });
