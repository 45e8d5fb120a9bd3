/** Everything a registry is made of, without its HTTP side. */
import { mkdirSync } from 'node:fs';
import type { Logger } from '../../log.ts';
import { Collector } from './collector.ts';
import type { RegistryConfig } from './config.ts';
import { FilesystemStorage } from './filesystem.ts';
import { Blobs } from './metadata/blobs.ts';
import { RegistryDatabase } from './metadata/database.ts';
import { Manifests } from './metadata/manifests.ts';
import { Repositories } from './metadata/repositories.ts';
import { UploadSessions } from './metadata/uploads.ts';
import { Pins } from './pins.ts';
import type { BlobStorage } from './storage.ts';
import { Uploads } from './uploads.ts';
import type { Upstreams } from './upstream.ts';

export class Registry {
  readonly config: RegistryConfig;
  readonly log: Logger;
  readonly db: RegistryDatabase;
  readonly storage: BlobStorage;
  readonly repositories: Repositories;
  readonly blobs: Blobs;
  readonly manifests: Manifests;
  readonly uploads: Uploads;
  readonly pins: Pins;
  readonly collector: Collector;
  /** Undefined when nothing is pulled through. */
  upstreams: Upstreams | undefined;

  /** Kind Conflict when another process serves the root. */
  constructor(config: RegistryConfig, log: Logger) {
    this.config = config;
    this.log = log;
    mkdirSync(config.root, { recursive: true, mode: 0o700 });
    this.db = new RegistryDatabase(config.root);
    this.storage = new FilesystemStorage(config.root);
    this.repositories = new Repositories(this.db);
    this.blobs = new Blobs(this.db, this.repositories);
    this.manifests = new Manifests(this.db, this.repositories);
    this.pins = new Pins();
    this.uploads = new Uploads({
      db: this.db,
      storage: this.storage,
      sessions: new UploadSessions(this.db),
      blobs: this.blobs,
      pins: this.pins,
    });
    this.collector = new Collector({
      config,
      log,
      db: this.db,
      storage: this.storage,
      repositories: this.repositories,
      blobs: this.blobs,
      uploads: this.uploads,
      pins: this.pins,
    });
  }

  /** As the constructor, with the upstreams: what nobody pulls through does not load a client. */
  static async open(config: RegistryConfig, log: Logger): Promise<Registry> {
    const registry = new Registry(config, log);
    if (config.upstreams.length === 0) return registry;
    const { Upstreams } = await import('./upstream.ts');
    registry.upstreams = new Upstreams(registry);
    return registry;
  }

  async close(): Promise<void> {
    await this.upstreams?.close();
    await this.collector.close();
    await this.db.close();
  }
}
