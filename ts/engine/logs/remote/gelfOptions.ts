/** `--log-opt gelf-…`, checked as dockerd does. */
import { goInteger, invalid, splitHostPort, splitUrl } from './address.ts';

export interface GelfOptions {
  network: 'udp' | 'tcp';
  host: string;
  port: number;
  compression: 'gzip' | 'zlib' | 'none';
  /** zlib's. */
  level: number;
  /** Undefined: as often as it takes. */
  maxReconnects: number | undefined;
  reconnectDelayMs: number;
}

const BEST_SPEED = 1;

function parseAddress(text: string | undefined): Pick<GelfOptions, 'network' | 'host' | 'port'> {
  if (!text) throw invalid('gelf-address is a required parameter');
  const { scheme, host: authority } = splitUrl(text);
  if (scheme !== 'udp' && scheme !== 'tcp') throw invalid('gelf: endpoint needs to be TCP or UDP');
  const { host, port } = splitHostPort(authority);
  if (port === undefined || !/^\d{1,5}$/.test(port)) {
    throw invalid('gelf: please provide gelf-address as proto://host:port');
  }
  return { network: scheme, host, port: Number(port) };
}

/** The names have been checked. */
export function parseGelf(options: Record<string, string>): GelfOptions {
  const address = parseAddress(options['gelf-address']);
  const { network } = address;
  const given = <T>(name: string, parse: (value: string) => T | undefined, wrong: (value: string) => string) => {
    const value = options[name];
    if (value === undefined) return undefined;
    if (name.startsWith('gelf-compression') && network !== 'udp') throw invalid('compression is only supported on UDP');
    if (name.startsWith('gelf-tcp') && network !== 'tcp')
      throw invalid(`${JSON.stringify(name)} is only valid for TCP`);
    const parsed = parse(value);
    if (parsed === undefined) throw invalid(wrong(value));
    return parsed;
  };
  const unknown = (name: string) => (value: string) =>
    `unknown value ${JSON.stringify(value)} for log opt ${JSON.stringify(name)} for gelf log driver`;
  const within = (least: number, most: number) => (text: string) => {
    const number = goInteger(text);
    return number === undefined || number < least || number > most ? undefined : number;
  };
  const positive = (name: string) => () => `${JSON.stringify(name)} must be a positive integer`;
  const types = ['gzip', 'zlib', 'none'] as const;
  const [level, type] = ['gelf-compression-level', 'gelf-compression-type'] as const;
  const [reconnects, delay] = ['gelf-tcp-max-reconnect', 'gelf-tcp-reconnect-delay'] as const;
  return {
    ...address,
    level: given(level, within(-1, 9), unknown(level)) ?? BEST_SPEED,
    compression: given(type, (value) => types.find((known) => known === value), unknown(type)) ?? 'gzip',
    maxReconnects: given(reconnects, within(0, Number.MAX_SAFE_INTEGER), positive(reconnects)),
    reconnectDelayMs: (given(delay, within(0, 1e9), positive(delay)) ?? 1) * 1000,
  };
}
