/** Syslog over TCP, TLS, UDP and unix sockets; messages are dockerd's, with the time at which the line was written. */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import { connect as connectTls } from 'node:tls';
import type { Native } from '../../native/index.ts';
import { DatagramConnection, joinHostPort, StreamConnection, UdpConnection } from './connection.ts';
import { type LogRecord, type LogSubject, milliseconds, patiently, type Sender } from './sender.ts';
import type { SyslogFormat, SyslogOptions } from './syslogOptions.ts';

const LOCAL_PATHS = ['/dev/log', '/var/run/syslog', '/var/run/log'];
const SEVERITY = { stdout: 6, stderr: 3 };
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

const two = (number: number): string => String(number).padStart(2, '0');

/** `Nov  8 17:39:09`, local time. */
function stamp(date: Date): string {
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
  return `${MONTHS[date.getMonth()]} ${String(date.getDate()).padStart(2, ' ')} ${time}`;
}

/** RFC 3339 in local time; `fraction`: with its dot. */
function rfc3339(date: Date, fraction: string): string {
  const day = [String(date.getFullYear()), two(date.getMonth() + 1), two(date.getDate())].join('-');
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
  const offset = -date.getTimezoneOffset();
  const away = Math.abs(offset);
  const zone = offset === 0 ? 'Z' : `${offset < 0 ? '-' : '+'}${two(Math.floor(away / 60))}:${two(away % 60)}`;
  return `${day}T${time}${fraction}${zone}`;
}

export interface SyslogHead {
  facility: number;
  format: SyslogFormat;
  host: string;
  tag: string;
  pid: number;
}

/** What stands before the text. */
export function syslogHead({ facility, format, host, tag, pid }: SyslogHead, record: LogRecord): string {
  const priority = facility * 8 + SEVERITY[record.stream];
  const date = new Date(milliseconds(record));
  if (format === '') return `<${priority}>${stamp(date)} ${tag}[${pid}]: `;
  if (format === 'rfc3164') return `<${priority}>${stamp(date)} ${host} ${tag}[${pid}]: `;
  const micro = two(Number((record.timeNs / 1000n) % 1_000_000n)).padStart(6, '0');
  const time = rfc3339(date, format === 'rfc5424micro' ? `.${micro}` : '');
  return `<${priority}>1 ${time} ${host} ${tag} ${pid} ${tag} - `;
}

interface Channel {
  connect(): Promise<unknown>;
  /** The messages one by one. */
  write(messages: Buffer[]): Promise<void>;
  close(): void;
}

const asStream = (stream: StreamConnection): Channel => ({
  connect: () => stream.connect(),
  write: (messages) => stream.write(Buffer.concat(messages)),
  close: () => stream.close(),
});

const unixStream = (path: string): Channel =>
  asStream(new StreamConnection({ network: 'unix', address: path, dial: () => connect(path) }));

function tlsFile(path: string | undefined, what: string): Buffer | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const why = missing ? 'no such file or directory' : (error as Error).message;
    throw new Error(`could not read ${what} ${JSON.stringify(path)}: open ${path}: ${why}`);
  }
}

function tlsStream(host: string, port: number, { ca, cert, key, skipVerify }: SyslogOptions['tls']): Channel {
  const files = {
    ca: tlsFile(ca, 'CA certificate'),
    cert: tlsFile(cert, 'certificate'),
    key: tlsFile(key, 'key'),
  };
  const dial = () => connectTls({ host, port, ...files, rejectUnauthorized: !skipVerify });
  const address = joinHostPort(host, port);
  return asStream(new StreamConnection({ network: 'tcp', address, dial, ready: 'secureConnect' }));
}

/** The first of the usual sockets that somebody listens on. */
class LocalChannel implements Channel {
  readonly #native: Native;
  #channel: Channel | undefined;

  constructor(native: Native) {
    this.#native = native;
  }

  async connect(): Promise<Channel> {
    if (this.#channel) return this.#channel;
    const kinds = [(path: string) => new DatagramConnection(this.#native, path), unixStream];
    for (const open of kinds) {
      for (const path of LOCAL_PATHS) {
        const channel = open(path);
        try {
          await channel.connect();
          this.#channel = channel;
          return channel;
        } catch {
          channel.close();
        }
      }
    }
    throw new Error('Unix syslog delivery error');
  }

  async write(messages: Buffer[]): Promise<void> {
    const channel = await this.connect();
    try {
      await channel.write(messages);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }
}

function open({ address, tls }: SyslogOptions, native: Native): Channel {
  switch (address.network) {
    case '':
      return new LocalChannel(native);
    case 'unix':
      return unixStream(address.path);
    case 'unixgram':
      return new DatagramConnection(native, address.path);
    case 'udp':
      return new UdpConnection(address.host, address.port);
    case 'tcp+tls':
      return tlsStream(address.host, address.port, tls);
    case 'tcp': {
      const { host, port } = address;
      const dial = () => connect({ host: host || 'localhost', port });
      return asStream(new StreamConnection({ network: 'tcp', address: joinHostPort(host, port), dial }));
    }
  }
}

export class SyslogSender implements Sender {
  readonly #channel: Channel;
  readonly #head: SyslogHead;
  /** RFC 5425: each message behind its length. */
  readonly #counted: boolean;
  readonly retryMs = patiently;

  constructor(options: SyslogOptions, { tag }: LogSubject, native: Native) {
    const { address, facility, format } = options;
    this.#channel = open(options, native);
    const host = address.network === '' ? 'localhost' : hostname();
    this.#head = { facility, format, host, tag, pid: process.pid };
    this.#counted = address.network === 'tcp+tls' && format.startsWith('rfc5424');
  }

  async connect(): Promise<void> {
    await this.#channel.connect();
  }

  async send(records: LogRecord[]): Promise<void> {
    const messages = records.filter(({ text }) => text.length > 0).map((record) => this.#message(record));
    if (messages.length > 0) await this.#channel.write(messages);
  }

  #message(record: LogRecord): Buffer {
    const message = [Buffer.from(syslogHead(this.#head, record)), record.text, Buffer.from('\n')];
    const length = message.reduce((sum, part) => sum + part.length, 0);
    return Buffer.concat(this.#counted ? [Buffer.from(`${length} `), ...message] : message);
  }

  close(): void {
    this.#channel.close();
  }
}
