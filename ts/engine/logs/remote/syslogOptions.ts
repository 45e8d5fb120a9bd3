/** `--log-opt syslog-…`, checked as dockerd does. */
import { statSync } from 'node:fs';
import { goInteger, invalid, portNumber, splitHostPort, splitUrl } from './address.ts';

const FACILITIES = [
  ...['kern', 'user', 'mail', 'daemon', 'auth', 'syslog', 'lpr', 'news', 'uucp', 'cron', 'authpriv', 'ftp'],
  ...['', '', '', '', 'local0', 'local1', 'local2', 'local3', 'local4', 'local5', 'local6', 'local7'],
];
const FORMATS = ['', 'rfc3164', 'rfc5424', 'rfc5424micro'] as const;

export type SyslogFormat = (typeof FORMATS)[number];

export type SyslogAddress =
  /** The sockets that a syslog daemon of the host usually has. */
  | { network: '' }
  | { network: 'unix' | 'unixgram'; path: string }
  | { network: 'tcp' | 'udp' | 'tcp+tls'; host: string; port: number };

export interface SyslogOptions {
  address: SyslogAddress;
  /** 0 to 23. */
  facility: number;
  format: SyslogFormat;
  tls: { ca?: string; cert?: string; key?: string; skipVerify: boolean };
}

const DEFAULT_PORT = '514';

function parseAddress(text: string): SyslogAddress {
  if (text === '') return { network: '' };
  const { scheme, host, path } = splitUrl(text);
  if (scheme === 'unix' || scheme === 'unixgram') {
    if (statSync(path, { throwIfNoEntry: false })) return { network: scheme, path };
    throw invalid(`stat ${path}: no such file or directory`);
  }
  if (scheme !== 'udp' && scheme !== 'tcp' && scheme !== 'tcp+tls') throw invalid(`unsupported scheme: '${scheme}'`);
  const parts = splitHostPort(host);
  return { network: scheme, host: parts.host, port: portNumber(parts.port ?? DEFAULT_PORT) };
}

function parseFacility(text: string): number {
  if (text === '') return FACILITIES.indexOf('daemon');
  const named = FACILITIES.indexOf(text);
  if (named >= 0) return named;
  const number = goInteger(text);
  if (number === undefined || number < 0 || number > 23) throw invalid('invalid syslog facility');
  return number;
}

export function parseSyslog(options: Record<string, string>): SyslogOptions {
  const format = FORMATS.find((known) => known === (options['syslog-format'] ?? ''));
  const address = parseAddress(options['syslog-address'] ?? '');
  const facility = parseFacility(options['syslog-facility'] ?? '');
  if (format === undefined) throw invalid('Invalid syslog format');
  const file = (option: string, key: 'ca' | 'cert' | 'key') => (options[option] ? { [key]: options[option] } : {});
  return {
    address,
    facility,
    format,
    tls: {
      ...file('syslog-tls-ca-cert', 'ca'),
      ...file('syslog-tls-cert', 'cert'),
      ...file('syslog-tls-key', 'key'),
      // as dockerd: that it is given counts, not what
      skipVerify: options['syslog-tls-skip-verify'] !== undefined,
    },
  };
}
