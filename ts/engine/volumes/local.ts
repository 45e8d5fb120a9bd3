/**
 * The local driver: a volume is a directory.
 *
 *   <data>/volumes/<name>/_data
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { VolumeRow } from '../../graph/volumes.ts';
import type { MountPoint } from '../containers/config.ts';
import { nowRfc3339 } from '../containers/time.ts';
import { type JobKind, type KindRegistry, lock } from '../jobs/kinds.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { Native } from '../native/index.ts';
import { checkVolumeName, type VolumeLookup } from './mountPoints.ts';

export interface LocalVolumesOptions {
  graph: Graph;
  native: Pick<Native, 'copyUp' | 'removeTree'>;
  runner: JobRunner;
  registry: KindRegistry;
  root: string;
}

interface CreatePlan {
  name: string;
  labels: Record<string, string>;
}

interface RemovePlan {
  name: string;
}

export class LocalVolumes implements VolumeLookup {
  readonly #options: LocalVolumesOptions;
  readonly #create: JobKind<CreatePlan>;
  readonly #remove: JobKind<RemovePlan>;

  constructor(options: LocalVolumesOptions) {
    this.#options = options;
    this.#create = options.registry.register(this.#createKind());
    this.#remove = options.registry.register(this.#removeKind());
  }

  directory(name: string): string {
    const { graph, root } = this.#options;
    return graph.volumes.get(name)?.mountpoint ?? join(root, name, '_data');
  }

  driver(name: string): string | undefined {
    return this.#options.graph.volumes.get(name)?.driver;
  }

  /** `volume create`: an existing volume of that name is the answer too, as in Docker. '' makes an anonymous one. */
  async create(name: string, labels: Record<string, string>): Promise<VolumeRow> {
    const { graph, runner } = this.#options;
    const anonymous = name === '';
    const chosen = anonymous ? randomBytes(32).toString('hex') : name;
    checkVolumeName(chosen);
    // Docker's mark of a volume without a name: `volume prune` takes only those
    const all = anonymous ? { ...labels, 'com.docker.volume.anonymous': '' } : labels;
    await runner.run(this.#create, { name: chosen, labels: all });
    return graph.volumes.resolve(chosen);
  }

  /** Kind Conflict while a container mounts it. */
  async remove(name: string): Promise<void> {
    this.#options.graph.volumes.resolve(name);
    await this.#options.runner.run(this.#remove, { name });
  }

  #createKind(): JobKind<CreatePlan> {
    const { graph } = this.#options;
    return {
      kind: 'volumeCreate',
      subject: ({ name }) => name,
      claims: ({ name }) => [lock(`volume:${name}`)],
      commitPoint: 1,
      durable: true,
      steps: [
        {
          name: 'directory',
          medium: 'disk',
          do: ({ name, labels }) => {
            this.makeDirectory(name);
            return { rows: () => this.insert(name, { labels }) };
          },
          undo: async ({ name }) => {
            if (!graph.volumes.get(name)) await this.removeDirectory(name);
          },
        },
      ],
    };
  }

  #removeKind(): JobKind<RemovePlan> {
    const { graph } = this.#options;
    return {
      kind: 'volumeRemove',
      subject: ({ name }) => name,
      claims: ({ name }) => [lock(`volume:${name}`)],
      begin: ({ name }) => {
        graph.volumes.resolve(name);
        graph.volumes.delete(name);
        this.event('destroy', name);
      },
      commitPoint: 0,
      durable: true,
      steps: [{ name: 'directory', medium: 'disk', do: ({ name }) => this.removeDirectory(name) }],
    };
  }

  /** Makes the directory, if it is not there. Before the row: a row never is without its directory. */
  makeDirectory(name: string): void {
    mkdirSync(this.directory(name), { recursive: true, mode: 0o755 });
  }

  /** The row of a new volume, with its event; an existing one is left as it is. */
  insert(name: string, more: { anonymous?: boolean; labels?: Record<string, string> }): void {
    const made = this.#options.graph.volumes.insert({
      name,
      driver: 'local',
      mountpoint: this.directory(name),
      anonymous: more.anonymous ?? false,
      options: '{}',
      labels: JSON.stringify(more.labels ?? {}),
      created: nowRfc3339(),
    });
    if (made) this.event('create', name);
  }

  event(action: 'create' | 'destroy', name: string): void {
    this.#options.graph.events.append({ type: 'volume', action, actorId: name, attributes: { driver: 'local' } });
  }

  /** Removes the directory of a volume whose row has gone, or never came. */
  async removeDirectory(name: string): Promise<void> {
    await this.#options.native.removeTree(join(this.#options.root, name));
  }

  /** Docker's rule: an image's files at the mount point fill a volume that is still empty. */
  async copyUp(mount: MountPoint, layers: string[], upper: string): Promise<void> {
    if (!mount.copyUp || (await readdir(mount.source)).length > 0) return;
    try {
      await this.#options.native.copyUp({ lower: layers, upper, source: mount.destination, target: mount.source });
    } catch (error) {
      // the image has nothing there: the volume stays empty
      if (error instanceof CaissonError && error.kind === 'NotFound') return;
      throw error;
    }
  }
}
