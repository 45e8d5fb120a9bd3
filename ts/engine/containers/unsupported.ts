/** Options that caisson does not have: 501 with the option's name when one is set, never silence. */
import { CaissonError } from '../../errdefs.ts';
import {
  type CreateBody,
  createBody,
  endpoint as endpointBody,
  type UpdateBody,
  updateBody,
} from '../api/schemas/containers.ts';

/** How a client says "not given": Go sends zero values for what the user left out. */
function isUnset(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === 0 || value === '') return true;
  if (Array.isArray(value)) return value.length === 0 || value.every((item) => item === 0);
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** Field → the name that a person knows it by. */
const CONFIG: Record<string, string> = {
  NetworkDisabled: 'Config.NetworkDisabled (use --network none)',
  OnBuild: 'Config.OnBuild',
};

const HOST_CONFIG: Record<string, string> = {
  Cgroup: 'HostConfig.Cgroup',
  CpuCount: '--cpu-count (Windows only)',
  CpuPercent: '--cpu-percent (Windows only)',
  IOMaximumIOps: '--io-maxiops (Windows only)',
  IOMaximumBandwidth: '--io-maxbandwidth (Windows only)',
};

/** Sent back by clients that read them from inspect; they say what was, not what is wanted. */
const ENDPOINT_STATE = new Set([
  'NetworkID',
  'EndpointID',
  'Gateway',
  'IPAddress',
  'IPPrefixLen',
  'IPv6Gateway',
  'GlobalIPv6Address',
  'GlobalIPv6PrefixLen',
  'DNSNames',
]);

const refuse = (option: string): CaissonError =>
  new CaissonError('NotImplemented', `${option} is not supported by caisson`, { code: 'OPTION_NOT_SUPPORTED' });

function refuseSet(values: object, names: Record<string, string>): void {
  for (const [key, option] of Object.entries(names)) {
    if (!isUnset(Reflect.get(values, key))) throw refuse(option);
  }
}

/** A field that no schema names: newer than this engine, or a typing mistake. */
function refuseUnknown(values: object, known: object, where: string): void {
  for (const [key, value] of Object.entries(values)) {
    if (!Object.hasOwn(known, key) && !isUnset(value)) throw refuse(`${where}${key}`);
  }
}

const known = createBody.properties;

export function refuseUnsupported(body: CreateBody): void {
  refuseUnknown(body, known, 'Config.');
  refuseSet(body, CONFIG);
  const hostConfig = body.HostConfig ?? {};
  refuseUnknown(hostConfig, HOST_FIELDS, 'HostConfig.');
  refuseSet(hostConfig, HOST_CONFIG);
  if (hostConfig.UsernsMode && hostConfig.UsernsMode !== 'host') throw refuse(`--userns ${hostConfig.UsernsMode}`);
  for (const [network, endpoint] of Object.entries(body.NetworkingConfig?.EndpointsConfig ?? {})) {
    if (endpoint === null) continue;
    for (const [key, value] of Object.entries(endpoint)) {
      if (!Object.hasOwn(endpointBody.properties, key) && !ENDPOINT_STATE.has(key) && !isUnset(value)) {
        throw refuse(`EndpointsConfig.${network}.${key}`);
      }
    }
  }
}

/** Docker takes the rest of its Resources here too and does nothing with it. */
export function refuseUnsupportedUpdate(body: UpdateBody): void {
  for (const [key, value] of Object.entries(body)) {
    if (!Object.hasOwn(updateBody.properties, key) && !isUnset(value)) throw refuse(`update of ${key}`);
  }
}

/** Fields of HostConfig that the schema names; typebox wraps optional objects in a union with null. */
const HOST_FIELDS = ((): object => {
  const [object] = known.HostConfig.anyOf;
  return object.properties;
})();
