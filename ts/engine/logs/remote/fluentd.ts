/** Fluentd's forward protocol: each record a message `[tag, time, record, option]` in MessagePack. */
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { decodeMultiStream, ExtData, encode } from '@msgpack/msgpack';
import { joinHostPort, StreamConnection } from './connection.ts';
import type { FluentdAddress, FluentdOptions } from './fluentdOptions.ts';
import type { LogRecord, LogSubject, Sender } from './sender.ts';

const MAX_RETRY_MS = 60_000;
/** Of the extension type that holds a time with nanoseconds. */
const EVENT_TIME = 0;

function eventTime(timeNs: bigint): ExtData {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(Number(BigInt.asUintN(32, timeNs / 1_000_000_000n)));
  bytes.writeUInt32BE(Number(timeNs % 1_000_000_000n), 4);
  return new ExtData(EVENT_TIME, bytes);
}

function dialler(address: FluentdAddress) {
  if (address.network === 'unix')
    return { network: 'unix', address: address.path, dial: () => connect(address.path) } as const;
  const { host, port } = address;
  const where = { network: 'tcp', address: joinHostPort(host, port) } as const;
  if (address.network === 'tcp') return { ...where, dial: () => connect({ host, port }) };
  return { ...where, dial: () => connectTls({ host, port }), ready: 'secureConnect' } as const;
}

export class FluentdSender implements Sender {
  readonly #options: FluentdOptions;
  readonly #subject: LogSubject;
  readonly #connection: StreamConnection;
  /** Of the connection that they come from. */
  #acks: { from: object; next: AsyncGenerator<unknown> } | undefined;

  constructor(options: FluentdOptions, subject: LogSubject) {
    this.#options = options;
    this.#subject = subject;
    const { writeTimeoutMs, requestAck: listens } = options;
    this.#connection = new StreamConnection({ ...dialler(options.address), writeTimeoutMs, listens });
  }

  async connect(): Promise<void> {
    if (!this.#options.async) await this.#connection.connect();
  }

  async send(records: LogRecord[]): Promise<void> {
    const { async, reconnectMs, requestAck } = this.#options;
    const age = performance.now() - this.#connection.connectedAtMs;
    if (async && reconnectMs > 0 && age > reconnectMs) this.#connection.close();
    if (!requestAck) return this.#connection.write(Buffer.concat(records.map((record) => this.#message(record))));
    for (const record of records) await this.#acknowledged(record);
  }

  #message(record: LogRecord, option: Record<string, string> = {}): Uint8Array {
    const { tag, id, name, extra } = this.#subject;
    const { piece, stream, text, timeNs } = record;
    const time = this.#options.subSecond ? eventTime(timeNs) : Number(timeNs / 1_000_000_000n);
    const data = {
      container_id: id,
      container_name: `/${name}`,
      source: stream,
      log: text.toString(),
      ...extra,
      ...(piece && {
        partial_message: 'true',
        partial_id: piece.id,
        partial_ordinal: String(piece.ordinal),
        partial_last: String(piece.last),
      }),
    };
    return encode([tag, time, data, option]);
  }

  async #acknowledged(record: LogRecord): Promise<void> {
    const chunk = randomBytes(16).toString('base64');
    const socket = await this.#connection.connect();
    if (this.#acks?.from !== socket) this.#acks = { from: socket, next: decodeMultiStream(socket) };
    try {
      await this.#connection.write(Buffer.from(this.#message(record, { chunk })));
      const { value } = await this.#acks.next.next();
      const ack = (value as { ack?: unknown } | undefined)?.ack;
      if (ack !== chunk) throw new Error(`fluentd has acknowledged ${JSON.stringify(ack)} instead of a message`);
    } catch (error) {
      this.#connection.abandon();
      throw error;
    }
  }

  retryMs(failed: number): number | undefined {
    const { retryWaitMs, maxRetries } = this.#options;
    return failed > maxRetries ? undefined : Math.min(retryWaitMs * 1.5 ** (failed - 1), MAX_RETRY_MS);
  }

  close(): void {
    this.#connection.close();
  }
}
