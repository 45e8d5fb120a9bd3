/**
 * Volume plugins, in Docker's first protocol: `POST /VolumeDriver.METHOD`. What a plugin has mounted for a container is in
 * pluginMounts.ts.
 */
import { CaissonError } from '../../errdefs.ts';
import { PluginRefusal } from '../plugins/call.ts';
import type { Plugin, Plugins } from '../plugins/plugins.ts';

export const LOCAL = 'local';
const IMPLEMENTED = 'VolumeDriver';

/** A volume as its plugin tells of it. */
export interface PluginVolume {
  Name: string;
  /** Where it is mounted, if it is. */
  Mountpoint?: string;
  CreatedAt?: string;
  /** Whatever the plugin wants to show. */
  Status?: Record<string, unknown>;
}

export class VolumeDrivers {
  readonly #plugins: Plugins;
  readonly #drivers = new Map<string, VolumeDriver>();

  constructor(plugins: Plugins) {
    this.#plugins = plugins;
  }

  /** Kind NotFound, with Docker's text, when there is no such plugin. `waits`: for one that may come. */
  async get(name: string, options: { waits?: boolean } = {}): Promise<VolumeDriver> {
    try {
      return this.#driver(await this.#plugins.get(name, IMPLEMENTED, options));
    } catch (error) {
      if (!(error instanceof CaissonError)) throw error;
      const { kind, message, code, hint } = error;
      const details = { code, cause: error, ...(hint === undefined ? {} : { hint }) };
      throw new CaissonError(kind, `error looking up volume plugin ${name}: ${message}`, details);
    }
  }

  /** All that answer. */
  async all(): Promise<VolumeDriver[]> {
    return (await this.#plugins.all(IMPLEMENTED)).map((plugin) => this.#driver(plugin));
  }

  /** For `docker info`. */
  names(): string[] {
    return [LOCAL, ...this.#plugins.used(IMPLEMENTED)];
  }

  #driver(plugin: Plugin): VolumeDriver {
    const driver = this.#drivers.get(plugin.name) ?? new VolumeDriver(plugin);
    this.#drivers.set(plugin.name, driver);
    return driver;
  }
}

export class VolumeDriver {
  readonly name: string;
  readonly #plugin: Plugin;
  #scope: Promise<'local' | 'global'> | undefined;

  constructor(plugin: Plugin) {
    this.name = plugin.name;
    this.#plugin = plugin;
  }

  /** Whether a volume is the same on all machines. A plugin need not say it. */
  scope(): Promise<'local' | 'global'> {
    this.#scope ??= this.#call('Capabilities', {}).then(
      ({ Capabilities: told }) =>
        (told as { Scope?: string })?.Scope?.toLowerCase() === 'global' ? 'global' : 'local',
      () => 'local',
    );
    return this.#scope;
  }

  async create(name: string, options: Record<string, string>): Promise<void> {
    await this.#call('Create', { Name: name, Opts: options }, { waits: true });
  }

  async remove(name: string): Promise<void> {
    await this.#call('Remove', { Name: name }, { waits: true });
  }

  /** Undefined when the plugin has none of that name, which each says in words of its own. */
  async get(name: string): Promise<PluginVolume | undefined> {
    try {
      const { Volume: volume } = await this.#call('Get', { Name: name });
      return (volume as PluginVolume | undefined)?.Name ? (volume as PluginVolume) : undefined;
    } catch (error) {
      if (error instanceof PluginRefusal) return undefined;
      throw error;
    }
  }

  async list(): Promise<PluginVolume[]> {
    const { Volumes: volumes } = await this.#call('List', {});
    return Array.isArray(volumes) ? (volumes as PluginVolume[]) : [];
  }

  /** The directory on the host; `id` is of this one use, for a plugin that counts. */
  async mount(name: string, id: string): Promise<string> {
    const { Mountpoint: path } = await this.#call('Mount', { Name: name, ID: id }, { waits: true });
    if (typeof path === 'string' && path.startsWith('/')) return path;
    throw new CaissonError(
      'System',
      `VolumeDriver.Mount: plugin "${this.name}" gives no absolute path for volume ${name}`,
      {
        code: 'PLUGIN_FAILED',
      },
    );
  }

  async unmount(name: string, id: string): Promise<void> {
    await this.#call('Unmount', { Name: name, ID: id }, { waits: true });
  }

  #call(method: string, body: object, options: { waits?: boolean } = {}): Promise<Record<string, unknown>> {
    return this.#plugin.call(`${IMPLEMENTED}.${method}`, body, options);
  }
}

/** As Docker: what a plugin says itself stands without the name of the method. */
export function inDockersWords(what: string, error: unknown): CaissonError {
  if (error instanceof PluginRefusal)
    return new CaissonError('System', `${what}: ${error.said}`, { code: error.code, cause: error });
  if (!(error instanceof CaissonError)) throw error;
  return new CaissonError(error.kind, `${what}: ${error.message}`, { code: error.code, cause: error });
}
