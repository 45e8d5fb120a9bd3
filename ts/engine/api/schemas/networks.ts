/** Bodies of the network routes; every field may be absent or null, as Go's clients send it. */
import { type Static, Type } from 'typebox';
import { endpoint } from './containers.ts';

const optional = <T extends Type.TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]));
const string = () => optional(Type.String());
const boolean = () => optional(Type.Boolean());
const stringMap = () => optional(Type.Record(Type.String(), Type.String()));

const ipamConfig = Type.Object({
  Subnet: string(),
  IPRange: string(),
  Gateway: string(),
  AuxiliaryAddresses: stringMap(),
});

export const networkCreateBody = Type.Object({
  Name: Type.String(),
  CheckDuplicate: boolean(),
  Driver: string(),
  Scope: string(),
  EnableIPv4: boolean(),
  EnableIPv6: boolean(),
  IPAM: optional(Type.Object({ Driver: string(), Options: stringMap(), Config: optional(Type.Array(ipamConfig)) })),
  Internal: boolean(),
  Attachable: boolean(),
  Ingress: boolean(),
  ConfigOnly: boolean(),
  ConfigFrom: optional(Type.Object({ Network: string() })),
  Options: stringMap(),
  Labels: stringMap(),
});

export type NetworkCreateBody = Static<typeof networkCreateBody>;
export type IpamConfigBody = Static<typeof ipamConfig>;

export const connectBody = Type.Object({ Container: Type.String(), EndpointConfig: optional(endpoint) });

export const disconnectBody = Type.Object({ Container: Type.String(), Force: boolean() });
