/** What the operations on containers share; `daemon.ts` constructs it once. */
import type { Graph } from '../../graph/graph.ts';
import type { Logger } from '../../log.ts';
import type { ImageConfig } from '../../oci.ts';
import type { DaemonConfig } from '../config.ts';
import type { EnginePaths } from '../engine.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { LogForwarder } from '../logs/remote/forwarder.ts';
import type { HostInfo, Native } from '../native/index.ts';
import type { NetworkDevices } from '../network/devices.ts';
import type { Resolvers } from '../network/dns/resolvers.ts';
import type { Endpoints } from '../network/endpoints.ts';
import type { SeccompCache } from '../runtime/seccomp.ts';
import type { SpecHost } from '../runtime/spec.ts';
import type { LocalVolumes } from '../volumes/local.ts';
import type { PluginVolumes } from '../volumes/pluginVolumes.ts';
import type { ContainerEvents } from './events.ts';
import type { LiveTable } from './live.ts';
import type { PendingStreams } from './pendingStreams.ts';

/** An image as a container needs it. */
export interface UsableImage {
  id: string;
  config: ImageConfig;
  /** chainId of its top layer; null when it has none. */
  chainId: string | null;
}

export interface ImageLookup {
  /** By reference or id; kind NotFound with `No such image: NAME:TAG`. */
  find(name: string): UsableImage;
}

export interface ContainerContext {
  config: DaemonConfig;
  paths: EnginePaths;
  log: Logger;
  native: Native;
  host: HostInfo;
  specHost: SpecHost;
  graph: Graph;
  runner: JobRunner;
  bootId: string;
  images: ImageLookup;
  seccomp: SeccompCache;
  devices: NetworkDevices;
  endpoints: Endpoints;
  resolvers: Resolvers;
  volumes: LocalVolumes;
  pluginVolumes: PluginVolumes;
  events: ContainerEvents;
  live: LiveTable;
  pending: PendingStreams;
  forwarder: LogForwarder;
}
