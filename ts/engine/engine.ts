/**
 * What the parts of the engine share. `daemon.ts` constructs all of it, once, and hands it to the routes; a part takes
 * only what it uses, by its constructor.
 */
import { join } from 'node:path';
import type { ContentStore } from '../graph/content-store.ts';
import type { GarbageCollector } from '../graph/gc.ts';
import type { Graph } from '../graph/graph.ts';
import type { Partials } from '../graph/partials.ts';
import type { Snapshotter } from '../graph/snapshotter.ts';
import type { Logger } from '../log.ts';
import type { RegistryClient } from '../registry/client/client.ts';
import type { DaemonConfig } from './config.ts';
import type { Containers } from './containers/containers.ts';
import type { Images } from './images/images.ts';
import type { JobRunner } from './jobs/runner.ts';
import type { HostInfo, Native } from './native/index.ts';
import type { Networks } from './network/networks.ts';
import type { Volumes } from './volumes/volumes.ts';

export interface Engine {
  readonly config: DaemonConfig;
  readonly paths: EnginePaths;
  readonly log: Logger;
  readonly native: Native;
  readonly host: HostInfo;
  readonly graph: Graph;
  readonly content: ContentStore;
  readonly partials: Partials;
  readonly snapshotter: Snapshotter;
  readonly gc: GarbageCollector;
  readonly runner: JobRunner;
  readonly remote: RegistryClient;
  readonly images: Images;
  readonly volumes: Volumes;
  readonly containers: Containers;
  readonly networks: Networks;
}

/*
 * <dataRoot>                     0710, survives a reboot
 *   graph.db, -wal, -shm         the truth
 *   overlay/<cacheId>/diff       a layer
 *   overlay/<id>/{upper,work}    a container's own
 *   init/                        the layer below every image
 *   content/blobs/sha256/<hex>   manifests, indexes, configs
 *   containers/<id>/             hostname, hosts, resolv.conf, <id>-json.log
 *   volumes/<name>/_data
 *   build-cache/                 what RUN --mount=type=cache keeps, each in a directory of its own
 *   tmp/                         emptied at every start
 * <execRoot>                     on tmpfs
 *   c/<id>/                      0700: shim.sock, config.json, exit.json
 *   build/                       0700, what a client lends a build's commands; emptied at every start
 *   lock.db                      held while a daemon uses the two roots
 */
export class EnginePaths {
  readonly dataRoot: string;
  readonly execRoot: string;

  constructor(dataRoot: string, execRoot: string) {
    this.dataRoot = dataRoot;
    this.execRoot = execRoot;
  }

  get database(): string {
    return join(this.dataRoot, 'graph.db');
  }
  get overlay(): string {
    return join(this.dataRoot, 'overlay');
  }
  get initLayer(): string {
    return join(this.dataRoot, 'init');
  }
  get content(): string {
    return join(this.dataRoot, 'content');
  }
  get containers(): string {
    return join(this.dataRoot, 'containers');
  }
  get volumes(): string {
    return join(this.dataRoot, 'volumes');
  }
  get buildCaches(): string {
    return join(this.dataRoot, 'build-cache');
  }
  get tmp(): string {
    return join(this.dataRoot, 'tmp');
  }
  get buildSecrets(): string {
    return join(this.execRoot, 'build');
  }
  get state(): string {
    return join(this.execRoot, 'c');
  }
  containerDir(id: string): string {
    return join(this.containers, id);
  }
  stateDir(id: string): string {
    return join(this.state, id);
  }
}
