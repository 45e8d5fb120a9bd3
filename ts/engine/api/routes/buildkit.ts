/** `/grpc` and `/session`: connections on which BuildKit's protocol is spoken from there on; and its builds by `POST /build`. */
import { randomBytes } from 'node:crypto';
import { Socket } from 'node:net';
import { CaissonError } from '../../../errdefs.ts';
import type { Buildkit } from '../../buildkit/buildkit.ts';
import type { Call } from '../call.ts';
import type { Router } from '../router.ts';

/** `load`: the protocol is loaded when somebody first speaks it. */
export function buildkitRoutes(router: Router, load: () => Promise<Buildkit>): void {
  router.plain({
    method: 'POST',
    path: '/grpc',
    handle: async (call) => {
      const buildkit = await load();
      buildkit.serve(upgraded(call));
    },
  });
  router.plain({
    method: 'POST',
    path: '/session',
    handle: async (call) => {
      const id = call.header('x-docker-expose-session-uuid');
      const buildkit = await load();
      if (buildkit.hasSession(id)) throw new CaissonError('Conflict', `session ${id} already exists`);
      const headers = (name: string): string[] => call.headers(name);
      buildkit.addSession(upgraded(call), headers);
    },
  });
  router.plain({
    method: 'POST',
    path: '/build/cancel',
    handle: async ({ query }) => {
      const id = query.string('id');
      if (id === '') throw new CaissonError('InvalidParameter', 'build ID not provided');
      (await load()).cancel(id);
    },
  });
}

function upgraded(call: Call<undefined>): Socket {
  const protocol = call.header('upgrade');
  if (protocol === '') throw new CaissonError('InvalidParameter', 'no upgrade proto in request');
  if (protocol !== 'h2c') throw new CaissonError('InvalidParameter', `protocol ${protocol} not supported`);
  const { signal } = call;
  const { fd, early } = call.hijack();
  const socket = new Socket({ fd, readable: true, writable: true });
  socket.write('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n');
  if (early.length > 0) socket.unshift(early);
  // what is under way on it ends with the daemon
  const end = (): void => void socket.destroy();
  signal.addEventListener('abort', end, { once: true });
  socket.once('close', () => signal.removeEventListener('abort', end));
  return socket;
}

/**
 * `POST /build?version=2`, of clients that do not speak gRPC: what is told comes as lines, each a message of Control.Status
 * in base64. The context is the body, or comes by the session.
 */
export async function buildOverHttp(call: Call<undefined>, buildkit: Buildkit): Promise<undefined> {
  const { query } = call;
  const lines = call.lines();
  const ref = query.string('buildid') || randomBytes(12).toString('hex');
  const remote = query.string('remote');
  if (remote === 'upload-request')
    throw new CaissonError('NotImplemented', 'remote=upload-request is not supported by caisson', {
      hint: 'send the context as the body, or by a session',
    });
  try {
    const solved = buildkit.build(
      {
        ref,
        session: query.string('session'),
        attrs: attributesOf(call),
        exporters: exportersOf(call),
        entitlements: query.string('networkmode') === 'host' ? ['network.host'] : [],
        ...(remote === '' && { archive: call.chunks }),
      },
      call.signal,
    );
    solved.result.catch(() => undefined);
    for await (const status of solved.status) lines.write({ id: 'moby.buildkit.trace', aux: status });
    const id = (await solved.result)['containerimage.digest'];
    if (id !== undefined) lines.write({ id: 'moby.image.id', aux: { ID: id } });
  } catch (error) {
    if (!lines.started) throw error;
    return lines.fail(error) as undefined;
  }
  lines.end();
}

/** The query as the attributes of the frontend. */
function attributesOf({ query }: Call<undefined>): Record<string, string> {
  const attrs: Record<string, string> = { 'image-resolve-mode': query.bool('pull') ? 'pull' : 'default' };
  const set = (name: string, value: string): void => {
    if (value !== '') attrs[name] = value;
  };
  const record = (key: string, prefix: string): void => {
    const values = query.json<Record<string, string | null>>(key, {});
    for (const [name, value] of Object.entries(values)) if (value !== null) attrs[`${prefix}${name}`] = value;
  };
  const remote = query.string('remote');
  set('context', remote === 'client-session' ? '' : remote);
  set('filename', query.string('dockerfile'));
  set('target', query.string('target'));
  set('platform', query.string('platform'));
  set('cgroup-parent', query.string('cgroupparent'));
  set('shm-size', query.string('shmsize').replace(/^0$/, ''));
  set(
    'add-hosts',
    query
      .all('extrahosts')
      .map((host) => host.replace(':', '='))
      .join(','),
  );
  set('cache-from', query.json<string[]>('cachefrom', []).join(','));
  const network = query.string('networkmode');
  if (!['', 'default', 'host', 'none'].includes(network))
    throw new CaissonError('InvalidParameter', `network mode ${JSON.stringify(network)} not supported by buildkit`);
  set('force-network-mode', network.replace('default', ''));
  const ulimits = query.json<{ Name: string; Soft: number; Hard: number }[]>('ulimits', []);
  set('ulimit', ulimits.map(({ Name, Soft, Hard }) => `${Name}=${Soft}:${Hard}`).join(','));
  if (query.bool('nocache')) attrs['no-cache'] = '';
  record('buildargs', 'build-arg:');
  record('labels', 'label:');
  return attrs;
}

function exportersOf({ query }: Call<undefined>): { Type: string; Attrs: Record<string, string> }[] {
  const outputs = query.json<{ Type: string; Attrs?: Record<string, string> }[]>('outputs', []);
  if (outputs.length > 1) throw new CaissonError('InvalidParameter', 'multiple outputs not supported');
  const names = {
    name: query
      .all('t')
      .filter((name) => name !== '')
      .join(','),
  };
  if (outputs.length === 0) return [{ Type: 'moby', Attrs: names }];
  return outputs
    .filter(({ Type: type }) => type !== 'cacheonly')
    .map(({ Type, Attrs }) => ({ Type, Attrs: { ...Attrs, ...(['moby', 'image'].includes(Type) && names) } }));
}
