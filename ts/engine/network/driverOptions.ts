/** Options of a network's driver: read in one place, and refused when they are not known. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { CaissonError } from '../../errdefs.ts';
import type { NetworkRow } from '../../graph/networks.ts';
import type { DaemonConfig } from '../config.ts';
import type { GatewayMode } from '../native/network.ts';
import type { Family } from './addresses.ts';

const BRIDGE = 'com.docker.network.bridge.';
export const MTU = 'com.docker.network.driver.mtu';
const PREFIX = 'com.docker.network.container_iface_prefix';
export const NAME = `${BRIDGE}name`;
const ICC = `${BRIDGE}enable_icc`;
const MASQUERADE = `${BRIDGE}enable_ip_masquerade`;
const HOST_BINDING = `${BRIDGE}host_binding_ipv4`;
const INHIBIT = `${BRIDGE}inhibit_ipv4`;
const GATEWAY_MODES = [`${BRIDGE}gateway_mode_ipv4`, `${BRIDGE}gateway_mode_ipv6`] as const;
const TRUSTED = `${BRIDGE}trusted_host_interfaces`;
/** Address of the host that containers' traffic goes out with, by family. */
const SOURCES = { 4: 'com.docker.network.host_ipv4', 6: 'com.docker.network.host_ipv6' } as const;
/** How often, and how far apart, a container's addresses are told to its neighbours. */
const ADVERTISE = {
  count: { key: 'com.docker.network.advertise_addr_nmsgs', unit: 'an integer', least: 0, most: 3, usual: 3 },
  intervalMs: {
    key: 'com.docker.network.advertise_addr_ms',
    unit: 'integer milliseconds',
    least: 100,
    most: 2000,
    usual: 1000,
  },
} as const;
type AdvertiseOption = (typeof ADVERTISE)[keyof typeof ADVERTISE];
/** compose writes it beside EnableIPv6. */
export const ENABLE_IPV6 = 'com.docker.network.enable_ipv6';
export const ENABLE_IPV4 = 'com.docker.network.enable_ipv4';

const EVERY = [MTU, PREFIX, ADVERTISE.count.key, ADVERTISE.intervalMs.key, ENABLE_IPV4, ENABLE_IPV6];
const KNOWN: Record<string, ReadonlySet<string>> = {
  bridge: new Set([
    ...EVERY,
    NAME,
    ICC,
    MASQUERADE,
    HOST_BINDING,
    INHIBIT,
    TRUSTED,
    ...GATEWAY_MODES,
    ...Object.values(SOURCES),
  ]),
  macvlan: new Set(['parent', 'macvlan_mode', ...EVERY]),
  ipvlan: new Set(['parent', 'ipvlan_mode', 'ipvlan_flag', ...EVERY]),
};

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

const TRUE = ['1', 't', 'T', 'TRUE', 'true', 'True'];
const FALSE = ['0', 'f', 'F', 'FALSE', 'false', 'False'];

function bool(options: Record<string, string>, key: string, absent: boolean): boolean {
  const value = options[key];
  if (value === undefined) return absent;
  if (!TRUE.includes(value) && !FALSE.includes(value)) {
    if (key === ENABLE_IPV4 || key === ENABLE_IPV6) throw invalid(`driver-opt "${key}" is not a valid bool`);
    throw invalid(`failed to parse ${key} value: ${value} (strconv.ParseBool: parsing "${value}": invalid syntax)`);
  }
  return TRUE.includes(value);
}

/** Refuses what the driver does not know, and values that it cannot take. */
export function checkOptions(driver: string, options: Record<string, string>, internal: boolean): void {
  for (const key of Object.keys(options)) {
    if (!KNOWN[driver]?.has(key)) {
      throw new CaissonError(
        'NotImplemented',
        `network option ${key} is not supported by driver ${driver} of caisson`,
        {
          code: 'OPTION_NOT_SUPPORTED',
        },
      );
    }
  }
  for (const key of [ICC, MASQUERADE, INHIBIT, ENABLE_IPV4, ENABLE_IPV6]) bool(options, key, false);
  const mtu = options[MTU];
  // 0 is the usual one
  const isMtu =
    mtu === undefined || mtu === '0' || (/^\d{2,5}$/.test(mtu) && Number(mtu) >= 68 && Number(mtu) <= 65535);
  if (!isMtu) {
    throw invalid(`invalid value for ${MTU}: ${mtu}`);
  }
  if (options[NAME] && !/^[\w.-]{1,15}$/.test(options[NAME])) throw invalid(`invalid bridge name: ${options[NAME]}`);
  if (options['parent'] === 'lo') throw invalid(`loopback interface is not a valid ${driver} parent link`);
  if (options[PREFIX] && !/^[\w.-]{1,11}$/.test(options[PREFIX])) {
    throw invalid(`invalid value for ${PREFIX}: ${options[PREFIX]}`);
  }
  for (const key of GATEWAY_MODES) {
    if (gatewayMode(options, key) === 'isolated' && !internal) {
      throw invalid("gateway mode 'isolated' can only be used for an internal network");
    }
  }
  for (const family of [4, 6] as const) {
    const source = options[SOURCES[family]];
    if (source && isIP(source) !== family)
      throw invalid(`failed to parse ${SOURCES[family]} value: ${source} (not an address of IPv${family})`);
  }
  const binding = options[HOST_BINDING];
  if (binding !== undefined && isIP(binding) === 0)
    throw invalid(`failed to parse ${HOST_BINDING} value: ${binding} (nil ip)`);
  advertiseOf(options);
  for (const device of trustedDevices(options)) {
    if (!/^[^\s/]{1,15}$/.test(device))
      throw invalid(`invalid value for ${TRUSTED}: "${device}" is no name of a device`);
  }
}

function advertised(options: Record<string, string>, { key, unit, least, most, usual }: AdvertiseOption): number {
  const text = options[key];
  if (text === undefined) return usual;
  if (!/^[+-]?\d+$/.test(text)) throw invalid(`value for option ${key} "${text}" must be ${unit}`);
  const value = Number(text);
  if (value < least || value > most) throw invalid(`${key} must be in the range ${least} to ${most}`);
  return value;
}

const advertiseOf = (options: Record<string, string>): BridgeSettings['advertise'] => ({
  count: advertised(options, ADVERTISE.count),
  intervalMs: advertised(options, ADVERTISE.intervalMs),
});

function gatewayMode(options: Record<string, string>, key: string): GatewayMode {
  const mode = options[key] ?? 'nat';
  if (!isGatewayMode(mode)) throw invalid(`failed to parse ${key} value: ${mode} (unknown gateway mode ${mode})`);
  return mode;
}

const isGatewayMode = (mode: string): mode is GatewayMode =>
  ['nat', 'nat-unprotected', 'routed', 'isolated'].includes(mode);

const trustedDevices = (options: Record<string, string>): string[] =>
  (options[TRUSTED] ?? '').split(':').filter((device) => device !== '');

export const optionsOf = (row: NetworkRow): Record<string, string> => JSON.parse(row.options) as Record<string, string>;

export interface BridgeSettings {
  icc: boolean;
  masquerade: boolean;
  mtu: number;
  /** Host address of ports that are published without one. */
  hostBinding: string;
  /** Where containers send what is not for their network; '' for the host itself. */
  routers: Record<Family, string>;
  /** The host has addresses on the bridge, by family. */
  gateways: Record<Family, boolean>;
  modes: Record<Family, GatewayMode>;
  /** Devices by which published ports are reached at the containers' own addresses. */
  trusted: string[];
  /** They are reached there by every device (`--allow-direct-routing`). */
  direct: boolean;
  /** Instead of masquerading: the host's addresses that traffic goes out with. */
  sources: string[];
  advertise: { count: number; intervalMs: number };
}

/** What a bridge network is like: the daemon's settings for the default one, its options for others. */
export function bridgeSettings(row: NetworkRow, config: DaemonConfig): BridgeSettings {
  const options = optionsOf(row);
  const isDefault = row.name === 'bridge';
  const [v4, v6] = GATEWAY_MODES;
  const modes = { 4: gatewayMode(options, v4), 6: gatewayMode(options, v6) };
  return {
    icc: isDefault ? config.icc : bool(options, ICC, true),
    masquerade: isDefault ? config.ipMasq : bool(options, MASQUERADE, true),
    mtu: isDefault ? config.mtu : Number(options[MTU] ?? 0) || 1500,
    hostBinding: isDefault ? config.ip : options[HOST_BINDING] || '0.0.0.0',
    routers: isDefault ? config.defaultGateways : { 4: '', 6: '' },
    gateways: { 4: modes[4] !== 'isolated' && !bool(options, INHIBIT, false), 6: modes[6] !== 'isolated' },
    modes,
    trusted: trustedDevices(options),
    direct: config.allowDirectRouting,
    sources: Object.values(SOURCES).flatMap((key) => options[key] || []),
    advertise: advertiseOf(options),
  };
}

/** Its containers have devices of their own on one of the host's, without a bridge. */
export const isChildOfDevice = ({ driver }: Pick<NetworkRow, 'driver'>): boolean =>
  driver === 'macvlan' || driver === 'ipvlan';

/** The device of the host that they are on; where none is named a `dummy`, which leads nowhere. */
export function parentOf(row: NetworkRow): { name: string; dummy: boolean } {
  const { parent } = optionsOf(row);
  if (parent) return { name: parent, dummy: false };
  return { name: `d${row.driver.slice(0, 1)}-${row.id.slice(0, 12)}`, dummy: true };
}

/** Nothing but its own containers is reached over it. */
export const isInternal = (row: NetworkRow): boolean => row.internal || (isChildOfDevice(row) && parentOf(row).dummy);

export const interfacePrefix = (row: NetworkRow): string => optionsOf(row)[PREFIX] || 'eth';

/** MTU of the device that the host's default route leaves by, where it is smaller than the usual: a VPN, a cloud's network. */
export function egressMtu(device: string | undefined): number | undefined {
  if (device === undefined) return undefined;
  try {
    const mtu = Number(readFileSync(`/sys/class/net/${device}/mtu`, 'utf8'));
    return mtu >= 1280 && mtu < 1500 ? mtu : undefined;
  } catch {
    // /sys shows another network namespace
    return undefined;
  }
}
