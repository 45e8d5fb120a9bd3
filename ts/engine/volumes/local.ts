/**
 * Volumes as containers use them (volumes.ts is how users manage them). One of the local driver is a directory:
 *
 *   <data>/volumes/<name>/_data
 */
import { existsSync, mkdirSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { MountPoint } from '../containers/config.ts';
import type { ImageLookup } from '../containers/context.ts';
import { readRecord } from '../containers/record.ts';
import { nowRfc3339 } from '../containers/time.ts';
import type { EnginePaths } from '../engine.ts';
import type { Native } from '../native/index.ts';
import { LOCAL } from './drivers.ts';
import type { VolumeLookup } from './mountPoints.ts';
import { type VolumeSource, volumeSource } from './options.ts';

/** Marks a volume that nobody named. */
export const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';

export class LocalVolumes implements VolumeLookup {
  readonly #graph: Graph;
  readonly #native: Pick<Native, 'copyUp' | 'finishCopyUp' | 'removeTree'>;
  readonly dataRoot: string;
  readonly #root: string;
  readonly #images: ImageLookup;

  constructor(
    graph: Graph,
    native: Pick<Native, 'copyUp' | 'finishCopyUp' | 'removeTree'>,
    { volumes: root, dataRoot }: Pick<EnginePaths, 'volumes' | 'dataRoot'>,
    images: ImageLookup,
  ) {
    this.#graph = graph;
    this.dataRoot = dataRoot;
    this.#native = native;
    this.#root = root;
    this.#images = images;
  }

  /** Of a plugin's volume: empty, as the plugin tells it at each mount. */
  directory(name: string): string {
    return this.#graph.volumes.get(name)?.mountpoint ?? join(this.#root, name, '_data');
  }

  driver(name: string): string | undefined {
    return this.#graph.volumes.get(name)?.driver;
  }

  source(name: string): VolumeSource | undefined {
    const row = this.#graph.volumes.get(name);
    // the options of a plugin's volume are the plugin's
    if (row && row.driver !== LOCAL) return { readOnly: false };
    return row && volumeSource(JSON.parse(row.options) as Record<string, string>);
  }

  image(name: string): { id: string; chainId: string | null } {
    return this.#images.find(name);
  }

  mountsOf(container: string): MountPoint[] {
    return readRecord(this.#graph.containers.resolve(container)).detail.mountPoints;
  }

  /** Makes the directory, if it is not there. Before the row: a row never is without its directory. */
  makeDirectory(name: string): void {
    mkdirSync(this.directory(name), { recursive: true, mode: 0o755 });
  }

  /** The row of a new volume, with its event; an existing one is left as it is. */
  insert(
    name: string,
    more: { driver: string; anonymous?: boolean; labels?: Record<string, string>; options?: Record<string, string> },
  ): void {
    const { driver } = more;
    const made = this.#graph.volumes.insert({
      name,
      driver,
      mountpoint: driver === LOCAL ? this.directory(name) : '',
      anonymous: more.anonymous ?? false,
      options: JSON.stringify(more.options ?? {}),
      labels: JSON.stringify(more.labels ?? {}),
      created: nowRfc3339(),
    });
    if (made) this.event('create', name, driver);
  }

  event(action: 'create' | 'destroy', name: string, driver: string): void {
    this.#graph.events.append({ type: 'volume', action, actorId: name, attributes: { driver } });
  }

  /** Removes the directory of a volume whose row has gone, or never came. */
  async removeDirectory(name: string): Promise<void> {
    await this.#native.removeTree(join(this.#root, name));
  }

  /** Docker's rule: an image's files at the mount point fill a volume that is still empty. */
  async copyUp(mount: MountPoint, layers: string[], upper: string): Promise<void> {
    if (!mount.copyUp) return;
    await access(mount.source).catch((error: NodeJS.ErrnoException) => {
      const why = error.code === 'ENOENT' ? 'no such file or directory' : error.message;
      const what = `error while mounting volume '${mount.name}': failed to mount local volume: mount ${mount.source}`;
      throw new CaissonError('System', `${what}: ${why}`, { code: 'VOLUME_UNREACHABLE', cause: error });
    });
    try {
      const { destination, source, subpath = '' } = mount;
      await this.#native.copyUp({ lower: layers, upper, source: destination, target: source, subpath });
    } catch (error) {
      // the image has nothing there: the volume stays empty
      if (error instanceof CaissonError && error.kind === 'NotFound') return;
      throw error;
    }
  }

  /** After a copy that failed or was cut off: nobody finds a part of the image's files in the volume. */
  async settleCopyUp(mount: MountPoint): Promise<void> {
    if (!mount.copyUp || !existsSync(mount.source)) return;
    await this.#native.finishCopyUp(mount.source, mount.subpath ?? '');
  }
}
