/** Graylog's extended log format: JSON, over UDP compressed and in chunks, over TCP with a NUL behind each message. */
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import { deflateSync, gzipSync } from 'node:zlib';
import { joinHostPort, StreamConnection, UdpConnection } from './connection.ts';
import type { GelfOptions } from './gelfOptions.ts';
import { type LogRecord, type LogSubject, milliseconds, patiently, type Sender } from './sender.ts';

const LEVEL = { stdout: 6, stderr: 3 };
const DATAGRAM = 1420;
const CHUNK = DATAGRAM - 12;
const MAX_CHUNKS = 128;

/** Docker's fields; those of users get an underscore where they have none. */
export function gelfMessage(subject: LogSubject, host: string, record: LogRecord): string {
  const extra = Object.entries(subject.extra).map(([key, value]) => [key.startsWith('_') ? key : `_${key}`, value]);
  return JSON.stringify({
    version: '1.1',
    host,
    short_message: record.text.toString(),
    timestamp: milliseconds(record) / 1000,
    level: LEVEL[record.stream],
    _command: subject.command,
    _container_id: subject.id,
    _container_name: subject.name,
    _created: subject.created,
    _image_id: subject.imageId,
    _image_name: subject.imageName,
    _tag: subject.tag,
    ...Object.fromEntries(extra),
  });
}

/** None for a message that GELF's chunks cannot hold. */
export function datagrams(message: Buffer): Buffer[] {
  if (message.length <= DATAGRAM) return [message];
  const count = Math.ceil(message.length / CHUNK);
  if (count > MAX_CHUNKS) return [];
  const id = randomBytes(8);
  return Array.from({ length: count }, (_, index) =>
    Buffer.concat([
      Buffer.from([0x1e, 0x0f]),
      id,
      Buffer.from([index, count]),
      message.subarray(index * CHUNK, (index + 1) * CHUNK),
    ]),
  );
}

export class GelfSender implements Sender {
  readonly #options: GelfOptions;
  readonly #subject: LogSubject;
  readonly #connection: StreamConnection | UdpConnection;

  constructor(options: GelfOptions, subject: LogSubject) {
    this.#options = options;
    this.#subject = subject;
    const { network, host, port } = options;
    const dial = () => connect({ host: host || 'localhost', port });
    this.#connection =
      network === 'udp'
        ? new UdpConnection(host, port)
        : new StreamConnection({ network: 'tcp', address: joinHostPort(host, port), dial });
  }

  async connect(): Promise<void> {
    const { host, port } = this.#options;
    try {
      await this.#connection.connect();
    } catch (error) {
      const where = joinHostPort(host, port);
      throw new Error(`gelf: cannot connect to GELF endpoint: ${where} ${(error as Error).message}`);
    }
  }

  async send(records: LogRecord[]): Promise<void> {
    const host = hostname();
    const messages = records
      .filter(({ text }) => text.length > 0)
      .map((record) => Buffer.from(gelfMessage(this.#subject, host, record)));
    if (messages.length === 0) return;
    if (this.#connection instanceof UdpConnection) {
      await this.#connection.write(messages.flatMap((message) => datagrams(this.#compressed(message))));
    } else {
      await this.#connection.write(Buffer.concat(messages.flatMap((message) => [message, Buffer.from([0])])));
    }
  }

  #compressed(message: Buffer): Buffer {
    const { compression, level } = this.#options;
    if (compression === 'none') return message;
    return compression === 'gzip' ? gzipSync(message, { level }) : deflateSync(message, { level });
  }

  retryMs(failed: number): number | undefined {
    const { maxReconnects, reconnectDelayMs } = this.#options;
    if (maxReconnects === undefined) return patiently(failed);
    return failed > maxReconnects ? undefined : reconnectDelayMs;
  }

  close(): void {
    this.#connection.close();
  }
}
