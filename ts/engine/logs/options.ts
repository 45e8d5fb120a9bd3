/** `--log-driver` and `--log-opt`: what a log is written with, checked with Docker's texts. */
import { CaissonError } from '../../errdefs.ts';
import { checkRemote, isRemote, REMOTE_DRIVERS } from './remote/options.ts';
import { parseFlag, parseSize } from './values.ts';

export interface LogOptions {
  /** Absent: the log grows without end. */
  maxSizeBytes?: number;
  maxFiles: number;
  compress: boolean;
  /** `mode=non-blocking`: what waits at most for a log that cannot be written as fast as the container writes. */
  maxBufferBytes?: number;
}

/** Of all drivers: the cache is what a driver that sends its log elsewhere is read from. */
const COMMON = ['mode', 'max-buffer-size', 'cache-disabled', 'cache-max-size', 'cache-max-file', 'cache-compress'];
const FILES = ['max-size', 'max-file', 'compress'];
const KNOWN: Record<string, Set<string>> = {
  'json-file': new Set([...COMMON, ...FILES, 'labels', 'labels-regex', 'env', 'env-regex', 'tag']),
  local: new Set([...COMMON, ...FILES]),
  none: new Set(COMMON),
};
/** Docker's drivers of single services. */
const UNSUPPORTED = /^(awslogs|splunk|gcplogs|etwlogs|logentries)$/;

export const LOG_DRIVERS = ['json-file', 'local', ...REMOTE_DRIVERS].sort();

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

function parseCount(text: string): number {
  if (!/^[+-]?\d{1,9}$/.test(text)) throw invalid(`strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  return Number(text);
}

/** `parse` with the option named in what it throws, as the local driver does. */
function named<T>(prefix: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (error) {
    throw invalid(`${prefix}${(error as Error).message}`);
  }
}

function buffer(options: Record<string, string>): number | undefined {
  const { mode = '', 'max-buffer-size': size } = options;
  if (!['', 'blocking', 'non-blocking'].includes(mode)) throw invalid(`logger: logging mode not supported: ${mode}`);
  if (mode !== 'non-blocking') {
    if (size !== undefined) throw invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
    return undefined;
  }
  // Docker takes 0 for its default as well
  return named('error parsing option max-buffer-size: ', size ?? '1m', (text) => parseSize(text, 1024)) || 1 << 20;
}

const without = (options: Record<string, string>, names: string[]): Record<string, string> =>
  Object.fromEntries(Object.entries(options).filter(([name]) => !names.includes(name)));

function checkNames(driver: string, options: Record<string, string>): void {
  if (isRemote(driver)) {
    checkRemote(driver, without(options, COMMON));
    return;
  }
  const known = KNOWN[driver];
  if (!known) {
    if (!UNSUPPORTED.test(driver))
      throw invalid(`error looking up logging plugin ${driver}: plugin "${driver}" not found`);
    throw new CaissonError(
      'NotImplemented',
      `--log-driver ${driver} is not supported by caisson, only ${[...LOG_DRIVERS, 'none'].join(', ')}`,
    );
  }
  for (const name of Object.keys(options)) {
    if (known.has(name)) continue;
    throw invalid(
      driver === 'local'
        ? `unknown log opt '${name}' for log driver local`
        : `unknown log opt '${name}' for ${driver} log driver`,
    );
  }
}

function jsonFileOptions(options: Record<string, string>): Omit<LogOptions, 'maxBufferBytes'> {
  const { 'max-size': size, 'max-file': files = '1', compress: flag = 'false' } = options;
  const maxSizeBytes = size === undefined ? undefined : parseSize(size, 1000);
  if (maxSizeBytes !== undefined && maxSizeBytes <= 0) throw invalid('max-size must be a positive number');
  const maxFiles = parseCount(files);
  if (maxFiles < 1) throw invalid('max-file cannot be less than 1');
  const compress = parseFlag(flag);
  if (compress && (maxFiles < 2 || maxSizeBytes === undefined)) {
    throw invalid('compress cannot be true when max-file is less than 2 or max-size is not set');
  }
  return { ...(maxSizeBytes === undefined ? {} : { maxSizeBytes }), maxFiles, compress };
}

function localOptions(options: Record<string, string>): Omit<LogOptions, 'maxBufferBytes'> {
  const { 'max-size': size = '20m', 'max-file': files = '5', compress: flag = 'true' } = options;
  const maxSizeBytes = named(`invalid value for max-size: ${size}: `, size, (text) => parseSize(text, 1000));
  if (maxSizeBytes <= 0) throw invalid(`invalid value for max-size: ${size}: max-size must be a positive number`);
  const maxFiles = named(`invalid value for max-file: ${files}: `, files, parseCount);
  if (maxFiles < 1) throw invalid('max-file cannot be less than 1');
  const compress = named('error reading compress log option: ', flag, parseFlag);
  if (compress && maxFiles === 1) throw invalid('compression cannot be enabled when max file count is 1');
  return { maxSizeBytes, maxFiles, compress };
}

/** Whether `logs` may read what a driver has sent elsewhere. */
export function isCached(options: Record<string, string>): boolean {
  const disabled = options['cache-disabled'] ?? '';
  if (disabled === '') return true;
  try {
    return !parseFlag(disabled);
  } catch {
    throw invalid(`invalid value for option cache-disabled: ${disabled}`);
  }
}

/** Of the files that a log waits in until it has been sent, and is read from afterwards. */
function cacheOptions(options: Record<string, string>): Omit<LogOptions, 'maxBufferBytes'> {
  const cache = Object.entries(options).filter(([name]) => name.startsWith('cache-'));
  return localOptions(Object.fromEntries(cache.map(([name, value]) => [name.slice('cache-'.length), value])));
}

function fileOptions(driver: string, options: Record<string, string>): Omit<LogOptions, 'maxBufferBytes'> {
  if (driver === 'json-file') return jsonFileOptions(options);
  return driver === 'local' ? localOptions(options) : cacheOptions(options);
}

/** Undefined for the driver that keeps nothing. */
export function parseLogOptions(driver: string, options: Record<string, string>): LogOptions | undefined {
  const maxBufferBytes = buffer(options);
  isCached(options);
  checkNames(driver, options);
  if (driver === 'none') return undefined;
  const files = fileOptions(driver, options);
  return { ...files, ...(maxBufferBytes === undefined ? {} : { maxBufferBytes }) };
}
