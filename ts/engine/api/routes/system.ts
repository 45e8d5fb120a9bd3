/** Version, info, events. `/_ping` is answered by the front (server.ts). */
import Type, { type Static } from 'typebox';
import type { Engine } from '../../engine.ts';
import { credentialsOf } from '../../images/pull.ts';
import { diskUsage } from '../../system/diskUsage.ts';
import { EVENT_FILTERS, eventLine, followEvents } from '../../system/eventStream.ts';
import { systemInfo, versionInfo } from '../../system/info.ts';
import type { Call } from '../call.ts';
import type { Router } from '../router.ts';
import { parseTimestamp } from '../timestamps.ts';

export function systemRoutes(router: Router, engine: Engine): void {
  router.plain({ method: 'GET', path: '/version', handle: () => versionInfo(engine) });
  router.plain({ method: 'GET', path: '/info', handle: () => systemInfo(engine) });
  router.plain({
    method: 'GET',
    path: '/system/df',
    handle: ({ query }) => diskUsage(engine, query.all('type')),
  });
  router.json({ method: 'POST', path: '/auth', body: AuthConfig, handle: (call) => login(call, engine) });
  router.plain({ method: 'GET', path: '/events', handle: (call) => events(call, engine) });
}

const AuthConfig = Type.Object({
  username: Type.Optional(Type.String()),
  password: Type.Optional(Type.String()),
  auth: Type.Optional(Type.String()),
  serveraddress: Type.Optional(Type.String()),
  identitytoken: Type.Optional(Type.String()),
  registrytoken: Type.Optional(Type.String()),
});

async function login({ body, signal }: Call<Static<typeof AuthConfig>>, engine: Engine): Promise<object> {
  // Docker Hub is known by the URL of its old index.
  const host = (body.serveraddress ?? '').replace(/^https?:\/\//, '').split('/')[0] ?? '';
  const domain = host === '' || host === 'index.docker.io' ? 'docker.io' : host;
  await engine.remote.checkAuth(domain, credentialsOf(body) ?? {}, signal);
  return { IdentityToken: '', Status: 'Login Succeeded' };
}

async function events(call: Call<undefined>, engine: Engine): Promise<undefined> {
  const query = {
    since: parseTimestamp('since', call.query.string('since')),
    until: parseTimestamp('until', call.query.string('until')),
    filters: call.query.filters(EVENT_FILTERS),
  };
  const { signal } = call;
  const lines = call.lines();
  lines.start();
  for await (const event of followEvents(engine.graph.events, query, signal))
    if (!lines.writeText(eventLine(event))) await lines.drained();
  lines.end();
}
