/** Wire types of volumes. */
import Type, { type Static } from 'typebox';

const map = Type.Optional(Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()]));

export const VolumeCreateRequest = Type.Object({
  Name: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  Driver: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  DriverOpts: map,
  Labels: map,
  ClusterVolumeSpec: Type.Optional(Type.Union([Type.Object({}), Type.Null()])),
});
export type VolumeCreateRequest = Static<typeof VolumeCreateRequest>;

export interface Volume {
  CreatedAt: string;
  Driver: string;
  Labels: Record<string, string> | null;
  Mountpoint: string;
  Name: string;
  Options: Record<string, string> | null;
  Scope: 'local' | 'global';
  /** Volumes of plugins: what the plugin tells of it. */
  Status?: Record<string, unknown>;
  /** Only in `GET /system/df`. */
  UsageData?: { Size: number; RefCount: number };
}

export interface VolumesPruned {
  VolumesDeleted: string[];
  SpaceReclaimed: number;
}
