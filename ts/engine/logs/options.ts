/** `--log-driver` and `--log-opt`: what a log is written with, checked with Docker's texts. */
import { CaissonError } from '../../errdefs.ts';

export interface LogOptions {
  /** Absent: the log grows without end. */
  maxSizeBytes?: number;
  maxFiles: number;
  compress: boolean;
  /** `mode=non-blocking`: what waits at most for a log that cannot be written as fast as the container writes. */
  maxBufferBytes?: number;
}

const COMMON = ['mode', 'max-buffer-size'];
const FILES = ['max-size', 'max-file', 'compress'];
const KNOWN: Record<string, Set<string>> = {
  'json-file': new Set([...COMMON, ...FILES, 'labels', 'labels-regex', 'env', 'env-regex', 'tag']),
  local: new Set([...COMMON, ...FILES]),
  none: new Set(COMMON),
};
/** Docker's other drivers send logs elsewhere. */
const REMOTE = /^(syslog|journald|gelf|fluentd|awslogs|splunk|gcplogs|etwlogs|logentries)$/;

export const LOG_DRIVERS = ['json-file', 'local', 'none'];

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** `10m`; a file's size counts in thousands, a buffer's in 1024, as in Docker. */
function parseSize(text: string, base: 1000 | 1024): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?$/i.exec(text) ?? [];
  if (digits === '') throw invalid(`invalid size: '${text}'`);
  return Math.floor(Number(digits) * base ** ' kmgtp'.indexOf(unit.toLowerCase() || ' '));
}

function parseCount(text: string): number {
  if (!/^[+-]?\d{1,9}$/.test(text)) throw invalid(`strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  return Number(text);
}

function parseFlag(text: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  throw invalid(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
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

function checkNames(driver: string, options: Record<string, string>): void {
  const known = KNOWN[driver];
  if (!known) {
    if (!REMOTE.test(driver)) throw invalid(`error looking up logging plugin ${driver}: plugin "${driver}" not found`);
    throw new CaissonError(
      'NotImplemented',
      `--log-driver ${driver} is not supported by caisson, only ${LOG_DRIVERS.join(', ')}`,
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

/** Undefined for the driver that keeps nothing. */
export function parseLogOptions(driver: string, options: Record<string, string>): LogOptions | undefined {
  const maxBufferBytes = buffer(options);
  checkNames(driver, options);
  if (driver === 'none') return undefined;
  const files = driver === 'local' ? localOptions(options) : jsonFileOptions(options);
  return { ...files, ...(maxBufferBytes === undefined ? {} : { maxBufferBytes }) };
}
