/**
 * Volumes of plugins in use: mounted by the plugin for as long as a container runs, or as something is copied. A row in
 * `volume_mount` stands from before the first call to after the last, so that the daemon after a SIGKILL knows what the
 * plugin may still hold.
 */
import { randomBytes } from 'node:crypto';
import type { Graph } from '../../graph/graph.ts';
import type { VolumeMountRow } from '../../graph/volumeMounts.ts';
import type { Logger } from '../../log.ts';
import type { MountPoint } from '../containers/config.ts';
import { PluginRefusal } from '../plugins/call.ts';
import { inDockersWords, LOCAL, type VolumeDrivers } from './drivers.ts';

const isPlugins = ({ type, driver = LOCAL }: MountPoint): boolean => type === 'volume' && driver !== LOCAL;

/** In place of a container's id: what is mounted for the time of a copy. */
const NOBODY = '';

export class PluginMounts {
  readonly #graph: Graph;
  readonly #drivers: VolumeDrivers;
  readonly #log: Logger;

  constructor(graph: Graph, drivers: VolumeDrivers, log: Logger) {
    this.#graph = graph;
    this.#drivers = drivers;
    this.#log = log;
  }

  /** For a start; `release` undoes it, also when it fails half way. */
  async mount(containerId: string, mountPoints: MountPoint[]): Promise<void> {
    for (const mount of mountPoints) if (isPlugins(mount)) await this.#mount(containerId, mount);
  }

  /** The mounts of a container with the directories that plugins have given for this run; empty where there is none. */
  placed(containerId: string, mountPoints: MountPoint[]): MountPoint[] {
    if (!mountPoints.some(isPlugins)) return mountPoints;
    const rows = this.#graph.volumeMounts.of(containerId);
    return mountPoints.map((mount) =>
      isPlugins(mount)
        ? { ...mount, source: rows.find(({ volumeName }) => volumeName === mount.name)?.path ?? '' }
        : mount,
    );
  }

  /** With its volumes mounted for that time alone. */
  async during<T>(mountPoints: MountPoint[], use: (placed: MountPoint[]) => Promise<T>): Promise<T> {
    const mounted: VolumeMountRow[] = [];
    try {
      const placed: MountPoint[] = [];
      for (const mount of mountPoints) {
        if (!isPlugins(mount)) placed.push(mount);
        else {
          const row = await this.#mount(NOBODY, mount);
          mounted.push(row);
          placed.push({ ...mount, source: row.path });
        }
      }
      return await use(placed);
    } finally {
      for (const row of mounted) await this.#unmount(row);
    }
  }

  /** After the end of a container, or of a start that came to nothing. A plugin that fails is asked again by the next daemon. */
  async release(containerId: string): Promise<void> {
    for (const row of this.#graph.volumeMounts.of(containerId)) await this.#unmount(row);
  }

  /** What an earlier daemon has left mounted for containers that do not run. */
  async sweep(running: ReadonlySet<string>): Promise<void> {
    const left = this.#graph.volumeMounts.all().filter(({ containerId }) => !running.has(containerId));
    await Promise.all(left.map((row) => this.#unmount(row)));
  }

  async #mount(containerId: string, { name = '', driver = LOCAL }: MountPoint): Promise<VolumeMountRow> {
    const row = { id: randomBytes(32).toString('hex'), containerId, driver, volumeName: name, path: '' };
    try {
      const plugin = await this.#drivers.get(driver);
      this.#graph.volumeMounts.insert(row);
      row.path = await plugin.mount(name, row.id);
      this.#graph.volumeMounts.setPath(row.id, row.path);
      return row;
    } catch (error) {
      // without an answer it may be mounted all the same
      if (error instanceof PluginRefusal) this.#graph.volumeMounts.delete(row.id);
      throw inDockersWords(`error while mounting volume '${name}'`, error);
    }
  }

  async #unmount({ id, driver, volumeName }: VolumeMountRow): Promise<void> {
    try {
      await (await this.#drivers.get(driver)).unmount(volumeName, id);
      this.#graph.volumeMounts.delete(id);
    } catch (error) {
      this.#log.warn({ err: error, volume: volumeName, driver }, 'a plugin did not unmount a volume');
    }
  }
}
