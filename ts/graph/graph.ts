/** All that an engine knows, on one database. Every method is synchronous; group writes with `db.transaction`. */
import { BlobStore } from './blobs.ts';
import { BuildRecordStore } from './buildRecords.ts';
import { ContainerStore } from './containers.ts';
import type { Database } from './db.ts';
import { EventStore } from './events.ts';
import { ExecStore } from './execs.ts';
import { ImageStore } from './images.ts';
import { JobStore } from './jobs.ts';
import { LayerStore } from './layers.ts';
import { LeaseStore } from './leases.ts';
import { LinkStore } from './links.ts';
import { MetaStore } from './meta.ts';
import { NetworkStore } from './networks.ts';
import { VolumeMountStore } from './volumeMounts.ts';
import { VolumeStore } from './volumes.ts';

export class Graph {
  readonly db: Database;
  readonly blobs: BlobStore;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly containers: ContainerStore;
  readonly buildRecords: BuildRecordStore;
  readonly links: LinkStore;
  readonly networks: NetworkStore;
  readonly volumes: VolumeStore;
  readonly volumeMounts: VolumeMountStore;
  readonly execs: ExecStore;
  readonly leases: LeaseStore;
  readonly events: EventStore;
  readonly jobs: JobStore;
  readonly meta: MetaStore;

  constructor(db: Database) {
    this.db = db;
    this.blobs = new BlobStore(db);
    this.layers = new LayerStore(db);
    this.images = new ImageStore(db);
    this.containers = new ContainerStore(db);
    this.buildRecords = new BuildRecordStore(db);
    this.links = new LinkStore(db);
    this.networks = new NetworkStore(db);
    this.volumes = new VolumeStore(db);
    this.volumeMounts = new VolumeMountStore(db);
    this.execs = new ExecStore(db);
    this.leases = new LeaseStore(db);
    this.events = new EventStore(db);
    this.jobs = new JobStore(db);
    this.meta = new MetaStore(db);
  }
}
