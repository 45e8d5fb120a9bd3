/** The drivers that send a log elsewhere, and what each may be told. */
import { invalid } from './address.ts';
import { parseFluentd } from './fluentdOptions.ts';
import { parseGelf } from './gelfOptions.ts';
import { parseSyslog } from './syslogOptions.ts';

const SUBJECT = ['env', 'env-regex', 'labels', 'labels-regex', 'tag'];

interface Driver {
  names: string[];
  check: (options: Record<string, string>) => unknown;
  unknown: (name: string) => string;
}

const unknown = (driver: string) => (name: string) => `unknown log opt '${name}' for ${driver} log driver`;

const DRIVERS: Record<string, Driver> = {
  syslog: {
    names: ['address', 'facility', 'format', 'tls-ca-cert', 'tls-cert', 'tls-key', 'tls-skip-verify'].map(
      (name) => `syslog-${name}`,
    ),
    check: parseSyslog,
    unknown: unknown('syslog'),
  },
  fluentd: {
    names: [
      ...['address', 'async', 'async-reconnect-interval', 'buffer-limit', 'max-retries', 'request-ack', 'retry-wait'],
      ...['sub-second-precision', 'write-timeout'],
    ].map((name) => `fluentd-${name}`),
    check: parseFluentd,
    unknown: unknown('fluentd'),
  },
  gelf: {
    names: ['address', 'compression-level', 'compression-type', 'tcp-max-reconnect', 'tcp-reconnect-delay'].map(
      (name) => `gelf-${name}`,
    ),
    check: parseGelf,
    unknown: (name) => `unknown log opt ${JSON.stringify(name)} for gelf log driver`,
  },
  journald: { names: [], check: () => undefined, unknown: unknown('journald') },
};

export const REMOTE_DRIVERS = Object.keys(DRIVERS);

export const isRemote = (driver: string): boolean => Object.hasOwn(DRIVERS, driver);

/** `options`: without those that all drivers have. */
export function checkRemote(name: string, options: Record<string, string>): void {
  const driver = DRIVERS[name];
  if (!driver) return;
  for (const option of Object.keys(options)) {
    if (!SUBJECT.includes(option) && !driver.names.includes(option)) throw invalid(driver.unknown(option));
  }
  driver.check(options);
}
