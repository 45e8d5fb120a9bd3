/** Volumes of plugins, made and removed. What uses them is in pluginMounts.ts. */
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import type { Graph } from '../../graph/graph.ts';
import type { VolumeRow } from '../../graph/volumes.ts';
import type { Logger } from '../../log.ts';
import type { MountPoint } from '../containers/config.ts';
import { inDockersWords, LOCAL, type PluginVolume, type VolumeDrivers } from './drivers.ts';
import type { PluginMounts } from './pluginMounts.ts';

/** A volume that a plugin is to have. */
export interface PluginVolumePlan {
  name: string;
  driver: string;
  options: Record<string, string>;
  /** Nobody named it, so nobody else has it. */
  anonymous: boolean;
}

export class PluginVolumes {
  readonly drivers: VolumeDrivers;
  readonly mounts: PluginMounts;
  readonly #graph: Graph;
  readonly #log: Logger;

  constructor(graph: Graph, drivers: VolumeDrivers, mounts: PluginMounts, log: Logger) {
    this.#graph = graph;
    this.drivers = drivers;
    this.mounts = mounts;
    this.#log = log;
  }

  /** A name that no row has may be one of a plugin's volume: then it is known from now on. */
  async adopt(name: string): Promise<void> {
    if (this.#graph.volumes.get(name) !== undefined) return;
    for (const driver of await this.drivers.all()) {
      const told = await driver.get(name).catch(() => undefined);
      if (told === undefined) continue;
      this.#graph.volumes.insert(foreignVolume(told, driver.name));
      return;
    }
  }

  /** What the plugin has already under that name is taken as it is, and told. */
  async create({ name, driver, options }: PluginVolumePlan): Promise<PluginVolume | undefined> {
    try {
      const plugin = await this.drivers.get(driver);
      const there = await plugin.get(name).catch(() => undefined);
      if (there === undefined) await plugin.create(name, options);
      return there;
    } catch (error) {
      throw inDockersWords(`create ${name}`, error);
    }
  }

  async remove({ name, driver }: Pick<PluginVolumePlan, 'name' | 'driver'>): Promise<void> {
    try {
      await (await this.drivers.get(driver)).remove(name);
    } catch (error) {
      throw inDockersWords(`remove ${name}`, error);
    }
  }

  /** Of a volume that nobody knows any more: a plugin that fails keeps it, which is logged. */
  async forget(volume: Pick<PluginVolumePlan, 'name' | 'driver'>): Promise<void> {
    await this.remove(volume).catch((error: unknown) => {
      this.#log.warn({ err: error, volume: volume.name, driver: volume.driver }, 'a plugin keeps a volume without use');
    });
  }
}

/** One that was made elsewhere. */
export const foreignVolume = ({ Name: name, CreatedAt: created = '' }: PluginVolume, driver: string): VolumeRow => ({
  name,
  driver,
  mountpoint: '',
  anonymous: false,
  options: '{}',
  labels: '{}',
  created,
});

/** Those that an image's files may fill: a plugin is not asked to mount a volume for nothing. */
export function filledFrom(mountPoints: MountPoint[], layers: string[]): MountPoint[] {
  return mountPoints.filter(
    ({ copyUp, driver, destination }) =>
      copyUp && (driver === LOCAL || layers.some((layer) => mayHave(layer, destination))),
  );
}

/** A symlink on the way leads anywhere. */
function mayHave(layer: string, path: string): boolean {
  let at = layer;
  for (const name of path.split('/').filter((part) => part !== '')) {
    at = join(at, name);
    const stat = lstatSync(at, { throwIfNoEntry: false });
    if (stat === undefined) return false;
    if (stat.isSymbolicLink()) return true;
  }
  return true;
}
