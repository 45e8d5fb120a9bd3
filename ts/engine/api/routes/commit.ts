/** Images and archives out of containers. */
import Type, { type Static } from 'typebox';
import { CaissonError } from '../../../errdefs.ts';
import type { ImageRunConfig } from '../../../oci.ts';
import { parseReference } from '../../../reference.ts';
import type { Engine } from '../../engine.ts';
import type { Call } from '../call.ts';
import type { Router } from '../router.ts';

const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) =>
  Type.Optional(Type.Union([Type.Null(), type]));
const strings = nullable(Type.Array(Type.String()));
const set = nullable(Type.Record(Type.String(), Type.Object({})));

const CommitConfig = Type.Union([
  Type.Null(),
  Type.Object({
    User: Type.Optional(Type.String()),
    ExposedPorts: set,
    Env: strings,
    Entrypoint: strings,
    Cmd: strings,
    Volumes: set,
    WorkingDir: Type.Optional(Type.String()),
    Labels: nullable(Type.Record(Type.String(), Type.String())),
    StopSignal: Type.Optional(Type.String()),
    Shell: strings,
    OnBuild: strings,
    Healthcheck: nullable(
      Type.Object({
        Test: Type.Optional(Type.Array(Type.String())),
        Interval: Type.Optional(Type.Number()),
        Timeout: Type.Optional(Type.Number()),
        StartPeriod: Type.Optional(Type.Number()),
        StartInterval: Type.Optional(Type.Number()),
        Retries: Type.Optional(Type.Integer()),
      }),
    ),
  }),
]);

const RUN_KEYS = Object.keys(CommitConfig.anyOf[1].properties) as (keyof ImageRunConfig)[];

const EXPORT_HEAD =
  'HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n';

export function commitRoutes(router: Router, engine: Engine): void {
  router.json({
    method: 'POST',
    path: '/commit',
    body: CommitConfig,
    optionalBody: true,
    handle: (call) => commit(call, engine),
  });
  router.plain({
    method: 'GET',
    path: '/containers/:id/export',
    handle: async (call) => {
      const record = engine.containers.record(call.param('id'));
      const { fd } = call.hijack();
      await engine.containers.archives.export(record, fd, EXPORT_HEAD);
    },
  });
}

async function commit(call: Call<Static<typeof CommitConfig>>, { images, containers }: Engine): Promise<object> {
  const { query, body } = call;
  const container = query.string('container');
  if (container === '') throw new CaissonError('InvalidParameter', 'container: it must be named');
  const repository = query.string('repo');
  const tag = query.string('tag');
  const reference = repository === '' ? undefined : parseReference(tag === '' ? repository : `${repository}:${tag}`);
  if (reference?.digest !== undefined) throw new CaissonError('InvalidParameter', 'cannot commit to digest reference');
  const config = Object.fromEntries(RUN_KEYS.flatMap((key) => (body?.[key] == null ? [] : [[key, body[key]]])));
  const id = await images.commit(
    containers.archives.committable(container),
    {
      reference,
      author: query.string('author'),
      comment: query.string('comment'),
      changes: query.all('changes').flatMap((text) => text.split('\n')),
      // Absent it is on, as since API 1.13.
      pause: query.string('pause') === '' || query.bool('pause'),
      config: config as ImageRunConfig,
    },
    call.signal,
  );
  call.status(201);
  return { Id: id };
}
