/** Volumes as users manage them. How a container mounts one is in local.ts and mountPoints.ts. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import { noSuchVolume, type VolumeRow } from '../../graph/volumes.ts';
import { NOT_A_SWARM_MANAGER } from '../api/messages.ts';
import { labelsAllow } from '../api/pruneFilters.ts';
import { boolFilter, type Filters, labelsMatch, textMatches } from '../api/query.ts';
import type { Volume, VolumeCreateRequest, VolumesPruned } from '../api/schemas/volumes.ts';
import { type JobKind, type KindRegistry, lock } from '../jobs/kinds.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { Native } from '../native/index.ts';
import { inDockersWords, LOCAL, type PluginVolume } from './drivers.ts';
import { ANONYMOUS_LABEL } from './local.ts';
import { otherDriver } from './mountPoints.ts';
import { checkVolumeOptions } from './options.ts';
import { foreignVolume, type PluginVolumes } from './pluginVolumes.ts';

export const VOLUME_FILTERS = ['dangling', 'driver', 'label', 'name'] as const;
export const VOLUME_PRUNE_FILTERS = ['all', 'label', 'label!'] as const;

export interface VolumesOptions {
  graph: Graph;
  runner: JobRunner;
  registry: KindRegistry;
  native: Pick<Native, 'removeTree' | 'treeSize'>;
  /** `<data>/volumes`. */
  root: string;
  plugins: PluginVolumes;
}

interface CreationPlan {
  row: VolumeRow;
}

export class Volumes {
  readonly #graph: Graph;
  readonly #runner: JobRunner;
  readonly #native: Pick<Native, 'removeTree' | 'treeSize'>;
  readonly #root: string;
  readonly #plugins: PluginVolumes;
  readonly #creation: JobKind<CreationPlan>;
  readonly #removal: JobKind<{ name: string }>;

  constructor({ graph, runner, registry, native, root, plugins }: VolumesOptions) {
    this.#plugins = plugins;
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
        this.#event('destroy', name, LOCAL);
      },
      // The row is gone for good; the files follow, if need be after a restart.
      steps: [{ name: 'files', medium: 'disk', do: ({ name }) => native.removeTree(join(root, name)) }],
      commitPoint: 0,
      durable: true,
    });
  }

  /** Names of the drivers that have been used. */
  get drivers(): string[] {
    return this.#plugins.drivers.names();
  }

  async create(request: VolumeCreateRequest): Promise<Volume> {
    const name = request.Name || randomBytes(32).toString('hex');
    checkRequest(name, request);
    const there = await this.#existing(name, request.Driver || '');
    if (there !== undefined) return view(there);
    const anonymous = !request.Name;
    const driver = request.Driver || LOCAL;
    const row: VolumeRow = {
      name,
      driver,
      mountpoint: driver === LOCAL ? join(this.#root, name, '_data') : '',
      anonymous,
      options: JSON.stringify(request.DriverOpts ?? {}),
      labels: JSON.stringify({ ...request.Labels, ...(anonymous ? { [ANONYMOUS_LABEL]: '' } : {}) }),
      created: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
    };
    if (driver !== LOCAL) return this.#createOfPlugin(row);
    await this.#runner.run(this.#creation, { row });
    return this.inspect(name);
  }

  /** One that its plugin has lost counts as gone, unless a container mounts it. */
  async #existing(name: string, driver: string): Promise<VolumeRow | undefined> {
    if (driver === '') await this.#plugins.adopt(name);
    const row = this.#graph.volumes.get(name);
    if (row === undefined) return undefined;
    const known = row.driver === LOCAL || (await this.#ofPlugin(row)) !== undefined;
    if (known && driver !== '' && driver !== row.driver) throw otherDriver(name, row.driver);
    return this.#graph.volumes.get(name);
  }

  /** What the plugin says of it. Without the plugin's knowing it, its row goes as soon as no container mounts it. */
  async #ofPlugin(row: VolumeRow): Promise<PluginVolume | undefined> {
    try {
      const told = await (await this.#plugins.drivers.get(row.driver, { waits: false })).get(row.name);
      if (told === undefined && this.#graph.volumes.users(row.name).length === 0) this.#graph.volumes.delete(row.name);
      return told;
    } catch (error) {
      throw inDockersWords(`get ${row.name}`, error);
    }
  }

  /**
   * Not undone: a volume that the plugin has and no row knows is taken by the next create of its name, as is one that was
   * there before. The answer does not ask the plugin again: as with dockerd it may deny what it has just made.
   */
  async #createOfPlugin(row: VolumeRow): Promise<Volume> {
    const { name, driver, anonymous } = row;
    const options = JSON.parse(row.options) as Record<string, string>;
    const held = await this.#runner.lock([`volume:${name}`]);
    try {
      const there = await this.#plugins.create({ name, driver, options, anonymous });
      this.#graph.db.transaction(() => this.#insert(row));
      await this.#graph.db.durable();
      const scope = await (await this.#plugins.drivers.get(driver)).scope();
      return { ...view(row), ...(there && shown(there)), Scope: scope };
    } finally {
      held.release();
    }
  }

  /** Somebody may have made it while this one waited: then that is the answer. */
  #insert(row: VolumeRow): void {
    if (this.#graph.volumes.insert(row)) this.#event('create', row.name, row.driver);
  }

  async inspect(name: string): Promise<Volume> {
    await this.#plugins.adopt(name);
    const row = this.#graph.volumes.resolve(name);
    if (row.driver === LOCAL) return view(row);
    const told = await this.#ofPlugin(row);
    if (told === undefined) throw noSuchVolume(name);
    const plugin = await this.#plugins.drivers.get(row.driver);
    return { ...view(row), ...shown(told), Scope: await plugin.scope(), Status: told.Status ?? {} };
  }

  /** With those that plugins know and nobody has used here. */
  async list(filters: Filters): Promise<{ Volumes: Volume[]; Warnings: string[] | null }> {
    boolFilter(filters, 'dangling'); // a wrong one is refused also where there is nothing to filter
    const own = this.#listOwn(filters);
    const asked = filters.get('driver') ?? [];
    if (asked.length > 0 && asked.every((driver) => driver === LOCAL)) return { Volumes: own, Warnings: null };
    const warnings: string[] = [];
    const plugins = await this.#plugins.drivers.all();
    const told = await Promise.all(
      plugins.map(async (plugin) => {
        const volumes = await plugin.list().catch((error: Error) => {
          warnings.push(`list ${plugin.name}: ${error.message}`);
          return [];
        });
        const scope = volumes.length > 0 ? await plugin.scope() : LOCAL;
        return volumes.map((volume) => ({ driver: plugin.name, scope, volume }));
      }),
    );
    const seen = new Map(own.map((volume) => [volume.Name, volume]));
    for (const { driver, scope, volume } of told.flat()) {
      const row = this.#graph.volumes.get(volume.Name);
      const known = seen.get(volume.Name);
      if (known?.Driver === driver) seen.set(volume.Name, { ...known, ...shown(volume), Scope: scope });
      else if (row === undefined && this.#matches(foreignVolume(volume, driver), filters))
        seen.set(volume.Name, { ...view(foreignVolume(volume, driver)), ...shown(volume), Scope: scope });
    }
    const Volumes = [...seen.values()].sort((a, b) => (a.Name < b.Name ? -1 : 1));
    return { Volumes, Warnings: warnings.length > 0 ? warnings : null };
  }

  #listOwn(filters: Filters): Volume[] {
    return this.#graph.volumes
      .all()
      .filter((row) => this.#matches(row, filters))
      .map(view);
  }

  #matches(row: VolumeRow, filters: Filters): boolean {
    const dangling = boolFilter(filters, 'dangling');
    const names = filters.get('name') ?? [];
    const drivers = filters.get('driver') ?? [];
    return (
      (dangling === undefined || dangling === (this.#graph.volumes.users(row.name).length === 0)) &&
      (names.length === 0 || names.some((name) => textMatches(row.name, name))) &&
      (drivers.length === 0 || drivers.includes(row.driver)) &&
      labelsMatch(labelsOf(row), filters.get('label'))
    );
  }

  async remove(name: string, force: boolean): Promise<void> {
    await this.#plugins.adopt(name);
    if (this.#graph.volumes.get(name) === undefined && force) return;
    const row = this.#graph.volumes.resolve(name);
    if (row.driver === LOCAL) await this.#runner.run(this.#removal, { name });
    else await this.#removeOfPlugin(row, force);
  }

  /** The row goes when the plugin has let the volume go; with `force` in any case. */
  async #removeOfPlugin({ name, driver }: VolumeRow, force: boolean): Promise<void> {
    const held = await this.#runner.lock([`volume:${name}`]);
    try {
      this.#graph.volumes.checkUnused(name);
      if (force) await this.#plugins.forget({ name, driver });
      else await this.#plugins.remove({ name, driver });
      this.#graph.db.transaction(() => {
        this.#graph.volumes.delete(name);
        this.#event('destroy', name, driver);
      });
      await this.#graph.db.durable();
    } finally {
      held.release();
    }
  }

  /** Only anonymous ones, unless the filter `all` is set, which it always was before 1.42. */
  async prune(filters: Filters, anonymousOnly = true): Promise<VolumesPruned> {
    const all = boolFilter(filters, 'all') ?? !anonymousOnly;
    const pruned: VolumesPruned = { VolumesDeleted: [], SpaceReclaimed: 0 };
    for (const row of this.#graph.volumes.unused()) {
      const labels = labelsOf(row);
      if (row.driver !== LOCAL) continue;
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
    const local = this.#graph.volumes.all().filter(({ driver }) => driver === LOCAL);
    const sized = local.map(async (row) => ({
      ...view(row),
      UsageData: {
        Size: await this.#native.treeSize(row.mountpoint),
        RefCount: this.#graph.volumes.users(row.name).length,
      },
    }));
    return Promise.all(sized);
  }

  #event(action: string, name: string, driver: string): void {
    this.#graph.events.append({ type: 'volume', action, actorId: name, attributes: { driver } });
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
  if (request.ClusterVolumeSpec != null) throw new CaissonError('Unavailable', NOT_A_SWARM_MANAGER);
  if ((request.Driver || LOCAL) === LOCAL) checkVolumeOptions(name, request.DriverOpts ?? {});
}

/** What only the plugin knows. */
const shown = ({ Mountpoint = '', CreatedAt }: PluginVolume): Partial<Volume> => ({
  Mountpoint,
  ...(CreatedAt ? { CreatedAt } : {}),
});

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
