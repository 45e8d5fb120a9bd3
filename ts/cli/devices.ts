/** Flags about devices: which there are, what may be done with them, how fast. */
import type { DeviceRate, DeviceRequest, HostConfig } from '../client/index.ts';
import type { ContainerFlags } from './containerFlags.ts';
import { invalidFlag, parseInteger, parseSize } from './units.ts';

export function deviceConfig(flags: ContainerFlags): HostConfig {
  const rates = (values: readonly string[], flag: string, parse: typeof parseSize): DeviceRate[] =>
    values.map((value) => {
      const [path, rate] = pathAnd(value, flag);
      return { Path: path, Rate: parse(rate, flag) };
    });
  return {
    Devices: flags.device.map(parseDevice),
    DeviceCgroupRules: flags.deviceCgroupRule,
    DeviceRequests: flags.gpus === undefined ? [] : [parseGpus(flags.gpus)],
    BlkioWeightDevice: flags.blkioWeightDevice.map((value) => {
      const [path, weight] = pathAnd(value, '--blkio-weight-device');
      return { Path: path, Weight: parseInteger(weight, '--blkio-weight-device') };
    }),
    BlkioDeviceReadBps: rates(flags.deviceReadBps, '--device-read-bps', parseSize),
    BlkioDeviceReadIOps: rates(flags.deviceReadIops, '--device-read-iops', parseInteger),
    BlkioDeviceWriteBps: rates(flags.deviceWriteBps, '--device-write-bps', parseSize),
    BlkioDeviceWriteIOps: rates(flags.deviceWriteIops, '--device-write-iops', parseInteger),
  };
}

/** `/dev/vda:1mb` */
function pathAnd(text: string, flag: string): [path: string, rest: string] {
  const [, path, rest] = /^(\/dev\/[^:]+):([^:]+)$/.exec(text) ?? [];
  if (path === undefined || rest === undefined) throw invalidFlag(flag, text, `bad format: ${text}`);
  return [path, rest];
}

function parseDevice(text: string): NonNullable<HostConfig['Devices']>[number] {
  const [host = '', second, third, ...more] = text.split(':');
  if (host === '' || more.length > 0) throw invalidFlag('--device', text, 'invalid device specification');
  const secondIsMode = second !== undefined && third === undefined && /^[rwm]+$/.test(second);
  const permissions = third ?? (secondIsMode ? second : 'rwm');
  if (!/^[rwm]+$/.test(permissions)) throw invalidFlag('--device', text, `invalid device mode ${permissions}`);
  return {
    PathOnHost: host,
    PathInContainer: second === undefined || secondIsMode ? host : second,
    CgroupPermissions: permissions,
  };
}

/** `all`, a number, or `device=0,capabilities=compute,driver=nvidia,options=a=b`; values with commas in double quotes. */
function parseGpus(text: string): DeviceRequest {
  const request: DeviceRequest = { Driver: '', Count: 0, Capabilities: [['gpu']] };
  const fields = [...text.matchAll(/(?:^|,)(?:"([^"]*)"|([^,]*))/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
  const count = (value: string): number => (value === 'all' ? -1 : parseInteger(value, '--gpus'));
  for (const field of fields) {
    const [key = '', value] = field.split(/=(.*)/s);
    if (value === undefined) request.Count = count(key);
    else if (key === 'count') request.Count = count(value);
    else if (key === 'driver') request.Driver = value;
    else if (key === 'device') request.DeviceIDs = value.split(',');
    else if (key === 'capabilities') request.Capabilities = [[...value.split(','), 'gpu']];
    else if (key === 'options')
      request.Options = Object.fromEntries(value.split(',').map((pair) => pair.split(/=(.*)/s)));
    else throw invalidFlag('--gpus', text, `unexpected key '${key}' in '${field}'`);
  }
  if (request.Count === 0 && request.DeviceIDs === undefined) request.Count = 1;
  return request;
}
