/** Volumes of plugins, made and removed. What uses them is in pluginMounts.ts. */
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../../log.ts';
import type { MountPoint } from '../containers/config.ts';
import { inDockersWords, LOCAL, type VolumeDrivers } from './drivers.ts';
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
  readonly #log: Logger;

  constructor(drivers: VolumeDrivers, mounts: PluginMounts, log: Logger) {
    this.drivers = drivers;
    this.mounts = mounts;
    this.#log = log;
  }

  /** What the plugin has already under that name is taken as it is. */
  async create({ name, driver, options }: PluginVolumePlan): Promise<void> {
    try {
      const plugin = await this.drivers.get(driver);
      const there = await plugin.get(name).catch(() => undefined);
      if (there === undefined) await plugin.create(name, options);
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
