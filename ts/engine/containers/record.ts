/** A container as the engine works with it: its row with the JSON columns read. */
import type { ContainerRow } from '../../graph/containers.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ContainerConfig, HostConfig, MountPoint } from './config.ts';
import type { LiveTable } from './live.ts';

/** The `detail` column. */
export interface ContainerDetail {
  mountPoints: MountPoint[];
  /** Driver `none`: no file. */
  logPath: string;
  /** Made by a build that is under way. */
  ofBuild?: boolean;
}

/** Each column is read when it is first asked for: with hundreds of ports they are long, and most of the engine asks for one. */
export class ContainerRecord {
  readonly row: ContainerRow;
  #config: ContainerConfig | undefined;
  #hostConfig: HostConfig | undefined;
  #detail: ContainerDetail | undefined;

  constructor(row: ContainerRow) {
    this.row = row;
  }

  get config(): ContainerConfig {
    this.#config ??= JSON.parse(this.row.config) as ContainerConfig;
    return this.#config;
  }

  get hostConfig(): HostConfig {
    this.#hostConfig ??= JSON.parse(this.row.hostConfig) as HostConfig;
    return this.#hostConfig;
  }

  get detail(): ContainerDetail {
    this.#detail ??= JSON.parse(this.row.detail) as ContainerDetail;
    return this.#detail;
  }
}

export const readRecord = (row: ContainerRow): ContainerRecord => new ContainerRecord(row);

/** The row, when no start of the container is under way: what its program writes can be seen before the row says that it runs. */
export async function settledRow(
  { graph, live }: { graph: Graph; live: LiveTable },
  idOrName: string,
): Promise<ContainerRow> {
  const row = graph.containers.resolve(idOrName);
  if (isRunning(row)) return row;
  await live.of(row.id).starting?.catch(() => undefined);
  return graph.containers.resolve(row.id);
}

/** Entrypoint and command as one list. */
export const programOf = (config: Pick<ContainerConfig, 'Entrypoint' | 'Cmd'>): string[] => [
  ...(config.Entrypoint ?? []),
  ...(config.Cmd ?? []),
];

export const isRunning = (row: Pick<ContainerRow, 'status'>): boolean =>
  row.status === 'running' || row.status === 'paused';
