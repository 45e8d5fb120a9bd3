/** A container as the engine works with it: its row with the JSON columns read. */
import type { ContainerRow } from '../../graph/containers.ts';
import type { ContainerConfig, HostConfig, MountPoint } from './config.ts';

/** The `detail` column. */
export interface ContainerDetail {
  mountPoints: MountPoint[];
  /** Driver `none`: no file. */
  logPath: string;
  /** Made by a build that is under way. */
  ofBuild?: boolean;
}

export interface ContainerRecord {
  row: ContainerRow;
  config: ContainerConfig;
  hostConfig: HostConfig;
  detail: ContainerDetail;
}

export const readRecord = (row: ContainerRow): ContainerRecord => ({
  row,
  config: JSON.parse(row.config) as ContainerConfig,
  hostConfig: JSON.parse(row.hostConfig) as HostConfig,
  detail: JSON.parse(row.detail) as ContainerDetail,
});

/** Entrypoint and command as one list. */
export const programOf = (config: Pick<ContainerConfig, 'Entrypoint' | 'Cmd'>): string[] => [
  ...(config.Entrypoint ?? []),
  ...(config.Cmd ?? []),
];

export const isRunning = (row: Pick<ContainerRow, 'status'>): boolean =>
  row.status === 'running' || row.status === 'paused';
