/** What the prune commands have in common: what they remove, and how that is told. */
import type { Caisson, Filters } from '../client/index.ts';
import { humanSize } from '../humanSize.ts';

/** Writes what is gone; gives the bytes that became free. */
export type Prune = (engine: Caisson, filters: Filters) => Promise<number>;

function tell(title: string, names: readonly string[]): void {
  if (names.length > 0) process.stdout.write(`${title}:\n${names.join('\n')}\n\n`);
}

export const pruneContainers: Prune = async ({ containers }, filters) => {
  const { ContainersDeleted, SpaceReclaimed } = await containers.prune({ filters });
  tell('Deleted Containers', ContainersDeleted ?? []);
  return SpaceReclaimed;
};

export const pruneNetworks: Prune = async ({ networks }, filters) => {
  tell('Deleted Networks', await networks.prune({ filters }));
  return 0;
};

export const pruneVolumes: Prune = async ({ volumes }, filters) => {
  const { VolumesDeleted, SpaceReclaimed } = await volumes.prune({ filters });
  tell('Deleted Volumes', VolumesDeleted ?? []);
  return SpaceReclaimed;
};

export const pruneImages: Prune = async ({ images }, filters) => {
  const { ImagesDeleted, SpaceReclaimed } = await images.prune({ filters });
  tell(
    'Deleted Images',
    (ImagesDeleted ?? []).map(({ Untagged, Deleted }) =>
      Untagged === undefined ? `deleted: ${Deleted}` : `untagged: ${Untagged}`,
    ),
  );
  return SpaceReclaimed;
};

export const tellTotal = (bytes: number): void =>
  void process.stdout.write(`Total reclaimed space: ${humanSize(bytes, 4)}\n`);
