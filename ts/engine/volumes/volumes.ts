/** Volumes as users manage them. How a container mounts one is in local.ts and mountPoints.ts. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { VolumeRow } from '../../graph/volumes.ts';
import { NOT_A_SWARM_MANAGER } from '../api/messages.ts';
import { labelsAllow } from '../api/pruneFilters.ts';
import { boolFilter, type Filters, labelsMatch } from '../api/query.ts';
import type { Volume, VolumeCreateRequest, VolumesPruned } from '../api/schemas/volumes.ts';
import { type JobKind, type KindRegistry, lock } from '../jobs/kinds.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { Native } from '../native/index.ts';
import { ANONYMOUS_LABEL } from './local.ts';
import { checkVolumeOptions } from './options.ts';

export const VOLUME_FILTERS = ['dangling', 'driver', 'label', 'name'] as const;
export const VOLUME_PRUNE_FILTERS = ['all', 'label', 'label!'] as const;

export interface VolumesOptions {
  graph: Graph;
  runner: JobRunner;
  registry: KindRegistry;
  native: Pick<Native, 'removeTree' | 'treeSize'>;
  /** `<data>/volumes`. */
  root: string;
}

interface CreationPlan {
  row: VolumeRow;
}

export class Volumes {
  readonly #graph: Graph;
  readonly #runner: JobRunner;
  readonly #native: Pick<Native, 'removeTree' | 'treeSize'>;
  readonly #root: string;
  readonly #creation: JobKind<CreationPlan>;
  readonly #removal: JobKind<{ name: string }>;

  constructor({ graph, runner, registry, native, root }: VolumesOptions) {
    this.#graph = graph;
    this.#runner = runner;
    this.#native = native;
    this.#root = root;
    this.#creation = registry.register<CreationPlan, object>({
      kind: 'volumeCreate',
      subject: ({ row }) => row.name,
      claims: ({ row }) => [lock(`volume:${row.name}`)],
      steps: [
        {
          name: 'directory',
          medium: 'disk',
          do: ({ row }) => {
            mkdirSync(row.mountpoint, { recursive: true, mode: 0o755 });
            for (const path of [join(root, row.name), root]) syncDirectory(path);
            return { rows: () => this.#insert(row) };
          },
          undo: ({ row }) => {
            if (graph.volumes.get(row.name) === undefined) removeEmpty(row.mountpoint, join(root, row.name));
          },
        },
      ],
      commitPoint: 1,
      durable: true,
    });
    this.#removal = registry.register<{ name: string }, object>({
      kind: 'volumeRemove',
      subject: ({ name }) => name,
      claims: ({ name }) => [lock(`volume:${name}`)],
      begin: ({ name }) => {
        graph.volumes.delete(name);
        this.#event('destroy', name);
      },
      // The row is gone for good; the files follow, if need be after a restart.
      steps: [{ name: 'files', medium: 'disk', do: ({ name }) => native.removeTree(join(root, name)) }],
      commitPoint: 0,
      durable: true,
    });
  }

  async create(request: VolumeCreateRequest): Promise<Volume> {
    const name = request.Name || randomBytes(32).toString('hex');
    checkRequest(name, request);
    if (this.#graph.volumes.get(name) === undefined) {
      const anonymous = !request.Name;
      const row: VolumeRow = {
        name,
        driver: 'local',
        mountpoint: join(this.#root, name, '_data'),
        anonymous,
        options: JSON.stringify(request.DriverOpts ?? {}),
        labels: JSON.stringify({ ...request.Labels, ...(anonymous ? { [ANONYMOUS_LABEL]: '' } : {}) }),
        created: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
      };
      await this.#runner.run(this.#creation, { row });
    }
    return view(this.#graph.volumes.resolve(name));
  }

  /** Somebody may have made it while this one waited: then that is the answer. */
  #insert(row: VolumeRow): void {
    if (this.#graph.volumes.insert(row)) this.#event('create', row.name);
  }

  inspect(name: string): Volume {
    return view(this.#graph.volumes.resolve(name));
  }

  list(filters: Filters): Volume[] {
    const dangling = boolFilter(filters, 'dangling');
    const names = filters.get('name') ?? [];
    const drivers = filters.get('driver') ?? [];
    return this.#graph.volumes
      .all()
      .filter(
        (row) =>
          (dangling === undefined || dangling === (this.#graph.volumes.users(row.name).length === 0)) &&
          (names.length === 0 || names.some((part) => row.name.includes(part))) &&
          (drivers.length === 0 || drivers.includes(row.driver)) &&
          labelsMatch(labelsOf(row), filters.get('label')),
      )
      .map(view);
  }

  async remove(name: string, force: boolean): Promise<void> {
    if (this.#graph.volumes.get(name) === undefined && force) return;
    this.#graph.volumes.resolve(name);
    await this.#runner.run(this.#removal, { name });
  }

  /** Only anonymous ones, unless the filter `all` is set, which it always was before 1.42. */
  async prune(filters: Filters, anonymousOnly = true): Promise<VolumesPruned> {
    const all = boolFilter(filters, 'all') ?? !anonymousOnly;
    const pruned: VolumesPruned = { VolumesDeleted: [], SpaceReclaimed: 0 };
    for (const row of this.#graph.volumes.unused()) {
      const labels = labelsOf(row);
      if (!all && !row.anonymous) continue;
      if (!labelsAllow(labels, filters)) continue;
      const size = await this.#native.treeSize(row.mountpoint);
      await this.#runner.run(this.#removal, { name: row.name });
      pruned.VolumesDeleted.push(row.name);
      pruned.SpaceReclaimed += size;
    }
    return pruned;
  }

  /** With the space that each takes and the number of containers that mount it. */
  async usage(): Promise<Volume[]> {
    const sized = this.#graph.volumes.all().map(async (row) => ({
      ...view(row),
      UsageData: {
        Size: await this.#native.treeSize(row.mountpoint),
        RefCount: this.#graph.volumes.users(row.name).length,
      },
    }));
    return Promise.all(sized);
  }

  #event(action: string, name: string): void {
    this.#graph.events.append({ type: 'volume', action, actorId: name, attributes: { driver: 'local' } });
  }
}

/** Innermost first. What somebody has put files into stays: it was there before. */
function removeEmpty(...paths: string[]): void {
  for (const path of paths) {
    try {
      rmdirSync(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOTEMPTY') return;
      if (code !== 'ENOENT') throw error;
    }
  }
}

/** Its entries survive a power cut. */
function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function checkRequest(name: string, request: VolumeCreateRequest): void {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name))
    throw new CaissonError(
      'InvalidParameter',
      `create ${name}: ${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  if (Buffer.byteLength(name) > 255)
    throw new CaissonError('InvalidParameter', `create ${name}: a volume name has at most 255 bytes`);
  const driver = request.Driver || 'local';
  if (driver !== 'local')
    throw new CaissonError(
      'NotFound',
      `create ${name}: error looking up volume plugin ${driver}: plugin ${JSON.stringify(driver)} not found`,
    );
  if (request.ClusterVolumeSpec != null) throw new CaissonError('Unavailable', NOT_A_SWARM_MANAGER);
  checkVolumeOptions(name, request.DriverOpts ?? {});
}

const labelsOf = (row: VolumeRow): Record<string, string> => JSON.parse(row.labels) as Record<string, string>;

function view(row: VolumeRow): Volume {
  const options = JSON.parse(row.options) as Record<string, string>;
  const labels = labelsOf(row);
  return {
    CreatedAt: row.created,
    Driver: row.driver,
    Labels: Object.keys(labels).length > 0 ? labels : null,
    Mountpoint: row.mountpoint,
    Name: row.name,
    Options: Object.keys(options).length > 0 ? options : null,
    Scope: 'local',
  };
}
