/** Images in the shapes of the Docker API (up to 1.51). */
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow } from '../../graph/images.ts';
import type { Snapshotter } from '../../graph/snapshotter.ts';
import type { ImageConfig } from '../../oci.ts';
import { parseConfig } from './config.ts';
import type { ImageNames } from './names.ts';

const NO_DATE = '0001-01-01T00:00:00Z';

export const createdSeconds = (created: string | null | undefined): number => {
  const ms = Date.parse(created ?? NO_DATE);
  return Number.isNaN(ms) ? 0 : Math.floor(ms / 1000);
};

export interface ImageSummary {
  Containers: number;
  Created: number;
  Id: string;
  Labels: Record<string, string> | null;
  ParentId: string;
  RepoDigests: string[];
  RepoTags: string[];
  SharedSize: number;
  Size: number;
}

export function summary(graph: Graph, names: ImageNames, image: ImageRow, config: ImageConfig): ImageSummary {
  const { repoTags, repoDigests } = names.tagsOf(image.id);
  return {
    Containers: graph.containers.usingImage(image.id).length,
    Created: createdSeconds(config.created),
    Id: image.id,
    Labels: config.config?.Labels ?? null,
    ParentId: image.parent ?? '',
    RepoDigests: repoDigests,
    RepoTags: repoTags,
    SharedSize: -1,
    Size: image.sizeBytes,
  };
}

/** Bytes of each image's layers that another image has too. The cache of builds does not count: it has all that was built. */
export function sharedSizes(graph: Graph): Map<string, number> {
  const users = new Map<string, string[]>();
  const hidden = graph.images.hidden();
  for (const { id } of graph.images.all()) {
    if (hidden.has(id)) continue;
    for (const chainId of new Set(graph.images.layers(id))) users.set(chainId, [...(users.get(chainId) ?? []), id]);
  }
  const shared = new Map<string, number>();
  for (const [chainId, ids] of users) {
    const size = ids.length > 1 ? (graph.layers.get(chainId)?.sizeBytes ?? 0) : 0;
    for (const id of ids) shared.set(id, (shared.get(id) ?? 0) + size);
  }
  return shared;
}

export function inspect(graph: Graph, names: ImageNames, snapshotter: Snapshotter, image: ImageRow): object {
  const config = parseConfig(image.config);
  const { repoTags, repoDigests } = names.tagsOf(image.id);
  const lower = snapshotter.lower(graph.images.layers(image.id).at(-1) ?? null);
  const run = config.config ?? {};
  const [top, ...below] = lower;
  return {
    Id: image.id,
    RepoTags: repoTags,
    RepoDigests: repoDigests,
    Parent: image.parent ?? '',
    Comment: config.history?.at(-1)?.comment ?? '',
    ...(config.created ? { Created: config.created } : {}),
    DockerVersion: '',
    Author: config.author ?? '',
    Architecture: config.architecture,
    ...(config.variant ? { Variant: config.variant } : {}),
    Os: config.os,
    ...(config['os.version'] ? { OsVersion: config['os.version'] } : {}),
    Size: image.sizeBytes,
    GraphDriver: {
      Data: {
        ...(below.length > 0 ? { LowerDir: below.join(':') } : {}),
        ...(top === undefined ? {} : { UpperDir: top }),
      },
      Name: 'overlay2',
    },
    RootFS: {
      Type: 'layers',
      ...(config.rootfs.diff_ids.length > 0 ? { Layers: config.rootfs.diff_ids } : {}),
    },
    Metadata: { LastTagTime: image.taggedMs === null ? NO_DATE : new Date(image.taggedMs).toISOString() },
    Config: {
      ...(run.ExposedPorts ? { ExposedPorts: run.ExposedPorts } : {}),
      ...(run.Healthcheck ? { Healthcheck: run.Healthcheck } : {}),
      ...(run.StopSignal ? { StopSignal: run.StopSignal } : {}),
      ...(run.Shell ? { Shell: run.Shell } : {}),
      Cmd: run.Cmd ?? null,
      Entrypoint: run.Entrypoint ?? null,
      Env: run.Env ?? null,
      Labels: run.Labels ?? null,
      OnBuild: run.OnBuild ?? null,
      User: run.User ?? '',
      Volumes: run.Volumes ?? null,
      WorkingDir: run.WorkingDir ?? '',
    },
  };
}

export interface HistoryItem {
  Comment: string;
  Created: number;
  CreatedBy: string;
  Id: string;
  Size: number;
  Tags: string[] | null;
}

/** The newest step first; as Docker tells it, the first ones are the image and those that it was made from here. */
export function history(graph: Graph, names: ImageNames, image: ImageRow): HistoryItem[] {
  const config = parseConfig(image.config);
  const chain = graph.images.layers(image.id);
  let next = 0;
  const items = (config.history ?? []).map((step): HistoryItem => {
    const chainId = step.empty_layer === true ? undefined : chain[next++];
    return {
      Comment: step.comment ?? '',
      Created: createdSeconds(step.created),
      CreatedBy: step.created_by ?? '',
      Id: '<missing>',
      Size: chainId === undefined ? 0 : (graph.layers.get(chainId)?.sizeBytes ?? 0),
      Tags: null,
    };
  });
  // Layers that no step of the history tells about.
  for (const chainId of chain.slice(next))
    items.push({
      Comment: '',
      Created: createdSeconds(config.created),
      CreatedBy: '',
      Id: '<missing>',
      Size: graph.layers.get(chainId)?.sizeBytes ?? 0,
      Tags: null,
    });
  items.reverse();
  let at: ImageRow | undefined = image;
  for (const item of items) {
    if (at === undefined) break;
    const { repoTags } = names.tagsOf(at.id);
    Object.assign(item, { Id: at.id, Tags: repoTags.length > 0 ? repoTags : null });
    at = at.parent === null ? undefined : graph.images.get(at.parent);
  }
  return items;
}
