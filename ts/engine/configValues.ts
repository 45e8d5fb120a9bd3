/** Values of the daemon's settings, from their texts. */
import { isIP } from 'node:net';
import { CaissonError } from '../errdefs.ts';
import type { LogLevel } from '../log.ts';
import { formatSubnet, normalAddress, parseSubnet } from './network/addresses.ts';
import { type AddressPool, checkPool, parsePool } from './network/pools.ts';

export const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

export function wholeNumber(name: string, value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not a number`);
  return Number(value);
}

export function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined)
    throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: it is one of ${allowed.join(', ')}`);
  return found;
}

export const logLevel = (value: string): LogLevel =>
  oneOf('log-level', value, ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const);

export function mirror(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '' || url.username !== '')
    throw invalid(`invalid registry mirror ${JSON.stringify(value)}: not an http or https URL`);
  return value.endsWith('/') ? value : `${value}/`;
}

/** Units of 1024, as docker's: `64M`, `1g`, bytes without a unit. */
export function byteSize(name: string, value: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(value.trim());
  if (!match) throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not a size`);
  return Math.floor(Number(match[1]) * 1024 ** ' kmgt'.indexOf((match[2] || ' ').toLowerCase()));
}

/** Who can reach the daemon's own registry may push and delete: only this machine can. */
export function loopbackPort(name: string, value: string): string {
  if (/^(?:localhost|\[::1\]|127(?:\.\d{1,3}){3}):\d{1,5}$/.test(value)) return value;
  throw new CaissonError('InvalidParameter', `${name}: ${JSON.stringify(value)} is not a port of a loopback address`, {
    hint: 'for other machines run `caisson registry serve` with TLS and users',
  });
}

export function addressPool(value: string | AddressPool): AddressPool {
  return typeof value === 'string'
    ? parsePool(value)
    : checkPool({ base: String(value?.base), size: Number(value?.size) });
}

export function subnetOf(name: string, family: 4 | 6, value: string): string {
  const subnet = parseSubnet(value);
  if (subnet.family !== family)
    throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not an IPv${family} subnet`);
  return formatSubnet(subnet);
}

/** In the form that rows are compared in. */
export function bridgeAddress(name: string, family: 4 | 6, value: string): string {
  const [address = '', prefix = ''] = value.split('/');
  if (isIP(address) !== family || !/^\d{1,3}$/.test(prefix) || parseSubnet(value).family !== family)
    throw invalid(
      `invalid value ${JSON.stringify(value)} for ${name}: not an IPv${family} address with a prefix length`,
    );
  return `${normalAddress(address)}/${prefix}`;
}

export function addressAndPort(name: string, value: string): string {
  if (/^(?:\[[0-9a-f:]+\]|[^:]*):\d{1,5}$/i.test(value)) return value;
  throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not of the form address:port`);
}

export function cgroupParent(value: string): string {
  const path = value.startsWith('/') ? value : `/${value}`;
  if (path.split('/').includes('..') || path.includes('//'))
    throw invalid(`invalid value ${JSON.stringify(value)} for cgroup-parent`);
  return path.replace(/\/$/, '') || '/caisson';
}

export function ipAddress(name: string, value: string): string {
  if (isIP(value) === 0) throw invalid(`invalid value ${JSON.stringify(value)} for ${name}: not an IP address`);
  return value;
}

/** dockerd knows the cgroup drivers cgroupfs and systemd. */
export function execOption(value: string): void {
  if (value === 'native.cgroupdriver=cgroupfs') return;
  throw invalid(`invalid value ${JSON.stringify(value)} for exec-opt: the only one is native.cgroupdriver=cgroupfs`);
}

/** `name=true`, or the name alone. */
export function feature(value: string): [name: string, on: boolean] {
  const [name = '', on = 'true'] = value.split('=');
  if (name === '' || !['true', 'false', '1', '0'].includes(on)) {
    throw invalid(`invalid value ${JSON.stringify(value)} for feature: not of the form name=boolean`);
  }
  return [name, on === 'true' || on === '1'];
}

/** Containers outlive their daemon here, always. */
export function alwaysOn(name: string, value: boolean): void {
  if (value) return;
  throw new CaissonError(
    'NotImplemented',
    `${name}=false is not supported by caisson: containers outlive their daemon`,
  );
}

/** `-H=…` reaches us with its sign; an address without a scheme is of TCP. */
export function hostAddress(value: string): string {
  const address = value.replace(/^=/, '');
  return /^[a-z]+:\/\//.test(address) ? address : `tcp://${address}`;
}
