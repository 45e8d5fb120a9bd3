/** `logs`: the request checked here; the file is read and the client served by a thread of the addon. */
import { CaissonError } from '../../errdefs.ts';
import type { Query } from '../api/query.ts';
import type { ContainerRecord } from '../containers/record.ts';
import type { LogRequest } from '../native/containers.ts';
import { isCached } from './options.ts';
import { isRemote } from './remote/options.ts';

/** Seconds with fraction, or RFC 3339, as decimal nanoseconds. */
function toNanoseconds(text: string, name: string): string | undefined {
  if (text === '' || text === '0') return undefined;
  const match = /^(\d{1,12})(?:\.(\d{1,9}))?$/.exec(text);
  if (match) return String(BigInt(match[1] as string) * 1_000_000_000n + BigInt((match[2] ?? '').padEnd(9, '0')));
  const parsed = Date.parse(text);
  if (Number.isNaN(parsed)) throw new CaissonError('InvalidParameter', `invalid value for "${name}": ${text}`);
  return String(BigInt(parsed) * 1_000_000n);
}

function tailOf(text: string): number | undefined {
  if (text === '' || text === 'all') return undefined;
  // Docker takes any number that it cannot read, and negative ones, as "all"
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

export function logRequest(query: Query, { config, detail, hostConfig }: ContainerRecord): LogRequest {
  const stdout = query.bool('stdout');
  const stderr = query.bool('stderr');
  if (!stdout && !stderr) {
    throw new CaissonError('InvalidParameter', 'Bad parameters: you must choose at least one stream');
  }
  const { Type: driver, Config: options } = hostConfig.LogConfig;
  if (detail.logPath === '' || (isRemote(driver) && !isCached(options))) {
    throw new CaissonError('NotImplemented', `configured logging driver does not support reading: ${driver}`);
  }
  const tail = tailOf(query.string('tail'));
  const since = toNanoseconds(query.string('since'), 'since');
  const until = toNanoseconds(query.string('until'), 'until');
  return {
    driver: driver === 'json-file' ? 'json-file' : 'local',
    path: detail.logPath,
    stdout,
    stderr,
    timestamps: query.bool('timestamps'),
    details: query.bool('details'),
    follow: query.bool('follow'),
    ...(tail === undefined ? {} : { tail }),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
    raw: config.Tty,
  };
}

/** Of a chunked answer: serveLog writes the body. */
export function logHead(tty: boolean, namesFraming: boolean): string {
  const type = !tty && namesFraming ? 'application/vnd.docker.multiplexed-stream' : 'application/vnd.docker.raw-stream';
  return `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n`;
}
