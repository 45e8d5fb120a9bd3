/** `/volumes`. */
import { CaissonError, isKind } from '../../../errdefs.ts';
import type { VolumeRow } from '../../../graph/volumes.ts';
import type { Engine } from '../../engine.ts';
import { boolFilter, type Filters, labelsMatch } from '../query.ts';
import type { Router } from '../router.ts';
import { type VolumeCreateBody, volumeCreateBody } from '../schemas/volumes.ts';

type VolumeContext = Pick<Engine, 'graph' | 'containers' | 'native'>;

const labelsOf = (row: VolumeRow): Record<string, string> => JSON.parse(row.labels) as Record<string, string>;

const describe = (row: VolumeRow): object => ({
  CreatedAt: row.created.replace(/\.\d+Z$/, 'Z'),
  Driver: row.driver,
  Labels: row.labels === '{}' ? null : labelsOf(row),
  Mountpoint: row.mountpoint,
  Name: row.name,
  Options: row.options === '{}' ? null : (JSON.parse(row.options) as object),
  Scope: 'local',
});

function checkCreate(body: VolumeCreateBody): void {
  const refuse = (what: string): CaissonError =>
    new CaissonError('NotImplemented', `${what} is not supported by caisson`, { code: 'OPTION_NOT_SUPPORTED' });
  if (body.Driver && body.Driver !== 'local') throw refuse(`volume driver ${body.Driver}`);
  if (Object.keys(body.DriverOpts ?? {}).length > 0) throw refuse('volume create --opt');
  if (body.ClusterVolumeSpec) throw refuse('a cluster volume');
}

function matches({ graph }: VolumeContext, row: VolumeRow, filters: Filters): boolean {
  const any = (key: string, test: (value: string) => boolean): boolean => {
    const values = filters.get(key);
    return values === undefined || values.length === 0 || values.some(test);
  };
  const dangling = boolFilter(filters, 'dangling');
  return (
    any('name', (value) => row.name.includes(value)) &&
    any('driver', (value) => row.driver === value) &&
    labelsMatch(labelsOf(row), filters.get('label')) &&
    (dangling === undefined || (graph.volumes.users(row.name).length === 0) === dangling)
  );
}

async function prune({ graph, containers, native }: VolumeContext, filters: Filters, all: boolean): Promise<object> {
  const removed: string[] = [];
  let bytes = 0;
  for (const row of graph.volumes.unused()) {
    const anonymous = Object.hasOwn(labelsOf(row), 'com.docker.volume.anonymous');
    const kept = (filters.get('label!') ?? []).some((label) => labelsMatch(labelsOf(row), [label]));
    if ((!all && !anonymous) || kept || !labelsMatch(labelsOf(row), filters.get('label'))) continue;
    const size = await native.treeSize(row.mountpoint);
    try {
      await containers.volumes.remove(row.name);
    } catch (error) {
      // taken into use, or removed by someone else, since the list was read
      if (isKind(error, 'Conflict') || isKind(error, 'NotFound')) continue;
      throw error;
    }
    removed.push(row.name);
    bytes += size;
  }
  return { VolumesDeleted: removed, SpaceReclaimed: bytes };
}

export function volumeRoutes(router: Router, context: VolumeContext): void {
  router.plain({
    method: 'GET',
    path: '/volumes',
    handle: (call) => {
      const filters = call.query.filters(['name', 'driver', 'label', 'dangling']);
      const rows = context.graph.volumes.all().filter((row) => matches(context, row, filters));
      return { Volumes: rows.map(describe), Warnings: null };
    },
  });
  router.json({
    method: 'POST',
    path: '/volumes/create',
    body: volumeCreateBody,
    handle: async (call) => {
      checkCreate(call.body);
      call.status(201);
      return describe(await context.containers.volumes.create(call.body.Name ?? '', call.body.Labels ?? {}));
    },
  });
  router.plain({
    method: 'GET',
    path: '/volumes/:name',
    handle: (call) => describe(context.graph.volumes.resolve(call.param('name'))),
  });
  router.plain({
    method: 'DELETE',
    path: '/volumes/:name',
    handle: async (call) => {
      const { graph, containers } = context;
      const name = call.param('name');
      if (!graph.volumes.get(name) && call.query.bool('force')) return;
      await containers.volumes.remove(name);
    },
  });
  router.plain({
    method: 'POST',
    path: '/volumes/prune',
    handle: (call) => {
      const filters = call.query.filters(['all', 'label', 'label!']);
      // before 1.42 every unused volume went, named ones too
      return prune(context, filters, !call.atLeast('1.42') || boolFilter(filters, 'all') === true);
    },
  });
}
