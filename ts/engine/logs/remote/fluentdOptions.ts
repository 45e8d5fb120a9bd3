/** `--log-opt fluentd-…`, checked as dockerd does. */
import { parseFlag, parseSize } from '../values.ts';
import { goDuration, invalid, portNumber, splitHostPort, splitUrl } from './address.ts';

export type FluentdAddress = { network: 'unix'; path: string } | { network: 'tcp' | 'tls'; host: string; port: number };

export interface FluentdOptions {
  address: FluentdAddress;
  /** The container starts whether the receiver is there or not, and its end does not wait for it. */
  async: boolean;
  /** 0: a connection is kept as long as it holds. */
  reconnectMs: number;
  retryWaitMs: number;
  maxRetries: number;
  subSecond: boolean;
  requestAck: boolean;
  /** 0: none. */
  writeTimeoutMs: number;
}

const MAX_INT32 = 2 ** 31 - 1;
/** Of the library that dockerd uses, where it is told 0. */
const LIBRARY_RETRIES = 13;

function parseAddress(text: string): FluentdAddress {
  const { scheme, host, path } = splitUrl(text.includes('://') ? text : `tcp://${text}`);
  if (scheme === 'unix') {
    if (path.replace(/^\/+/, '') === '') throw invalid('path is empty');
    return { network: 'unix', path };
  }
  if (scheme !== 'tcp' && scheme !== 'tls') throw invalid(`unsupported scheme: '${scheme}'`);
  if (path !== '') throw invalid('should not contain a path element');
  const { host: name, port } = splitHostPort(host);
  return { network: scheme, host: name || '127.0.0.1', port: portNumber(port || '24224') };
}

function parseRetries(text: string): number {
  const quoted = JSON.stringify(text);
  if (!/^\d+$/.test(text)) throw invalid(`strconv.ParseUint: parsing ${quoted}: invalid syntax`);
  if (Number(text) > 2 ** 32 - 1) throw invalid(`strconv.ParseUint: parsing ${quoted}: value out of range`);
  if (Number(text) > MAX_INT32) throw invalid('invalid fluentd-max-retries: value out of range');
  return Number(text) || LIBRARY_RETRIES;
}

function prefixed<T>(prefix: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw invalid(`${prefix}${(error as Error).message}`);
  }
}

function parseReconnect(text: string): number {
  const name = 'fluentd-async-reconnect-interval';
  const interval = prefixed(`invalid value for ${name}: `, () => goDuration(text));
  if (interval !== 0 && (interval < 100 || interval > 10_000)) {
    throw invalid(`invalid value for ${name}: value (${JSON.stringify(text)}) must be between 100ms and 10s`);
  }
  return interval;
}

function parseWriteTimeout(text: string): number {
  const name = 'fluentd-write-timeout';
  const timeout = prefixed(`invalid value for ${name}: value must be a duration: `, () => goDuration(text));
  if (timeout < 0) throw invalid(`invalid value for ${name}: value must be a duration that is non-negative`);
  return timeout;
}

export function parseFluentd(options: Record<string, string>): FluentdOptions {
  const read = <T>(name: string, parse: (text: string) => T, otherwise: T): T =>
    options[name] ? parse(options[name]) : otherwise;
  const text = options['fluentd-address'] ?? '';
  const address = prefixed(`invalid fluentd-address (${text}): `, () => parseAddress(text));
  // what waits for the receiver waits in the cache's files: this much memory is not needed for it
  read('fluentd-buffer-limit', (size) => parseSize(size, 1024), 0);
  return {
    address,
    retryWaitMs: read('fluentd-retry-wait', goDuration, 1000),
    maxRetries: read('fluentd-max-retries', parseRetries, MAX_INT32),
    async: read('fluentd-async', parseFlag, false),
    reconnectMs: read('fluentd-async-reconnect-interval', parseReconnect, 0),
    subSecond: read('fluentd-sub-second-precision', parseFlag, false),
    requestAck: read('fluentd-request-ack', parseFlag, false),
    writeTimeoutMs: read('fluentd-write-timeout', parseWriteTimeout, 0),
  };
}
