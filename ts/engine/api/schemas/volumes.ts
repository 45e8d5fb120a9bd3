/** Body of `POST /volumes/create`. */
import { type Static, Type } from 'typebox';

const optional = <T extends Type.TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]));
const stringMap = optional(Type.Record(Type.String(), Type.String()));

export const volumeCreateBody = Type.Object({
  Name: optional(Type.String()),
  Driver: optional(Type.String()),
  DriverOpts: stringMap,
  Labels: stringMap,
  ClusterVolumeSpec: optional(Type.Object({})),
});

export type VolumeCreateBody = Static<typeof volumeCreateBody>;
