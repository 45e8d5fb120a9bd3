/** The journal of the host, by its native protocol: a datagram of fields for each record. */
import { randomBytes } from 'node:crypto';
import type { Native } from '../../native/index.ts';
import { DatagramConnection } from './connection.ts';
import { type LogRecord, type LogSubject, patiently, type Sender } from './sender.ts';

const SOCKET = '/run/systemd/journal/socket';
const PRIORITY = { stdout: '6', stderr: '3' };

/** Fields are of capital letters, digits and underscores, and do not begin with one of these. */
const fieldName = (key: string): string =>
  key
    .toUpperCase()
    .replace(/[^A-Z0-9]/g, '_')
    .replace(/^_+/, '');

/** A value with a line end is told by its length. */
function field(name: string, value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  if (!bytes.includes('\n')) return Buffer.concat([Buffer.from(`${name}=`), bytes, Buffer.from('\n')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n')]);
}

export function rfc3339Nano(timeNs: bigint): string {
  const seconds = new Date(Number(timeNs / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  const fraction = String(timeNs % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${seconds}${fraction === '' ? '' : `.${fraction}`}Z`;
}

export class JournaldSender implements Sender {
  readonly #connection: DatagramConnection;
  readonly #fields: Buffer;
  #ordinal = 0;
  readonly retryMs = patiently;

  constructor({ id, name, tag, imageName, extra }: LogSubject, native: Native) {
    this.#connection = new DatagramConnection(native, SOCKET);
    const fields: [string, string][] = [
      ['CONTAINER_ID', id.slice(0, 12)],
      ['CONTAINER_ID_FULL', id],
      ['CONTAINER_NAME', name],
      ['CONTAINER_TAG', tag],
      ['IMAGE_NAME', imageName],
      ['SYSLOG_IDENTIFIER', tag],
      ['CONTAINER_LOG_EPOCH', randomBytes(32).toString('hex')],
      ...Object.entries(extra).map(([key, value]): [string, string] => [fieldName(key), value]),
    ];
    this.#fields = Buffer.concat(fields.map(([key, value]) => field(key, value)));
  }

  async connect(): Promise<void> {
    await this.#connection.connect().catch(() => {
      throw new Error('journald is not enabled on this host');
    });
  }

  send(records: LogRecord[]): Promise<void> {
    return this.#connection.write(records.map((record) => this.#message(record)));
  }

  #message({ stream, timeNs, text, piece }: LogRecord): Buffer {
    return Buffer.concat([
      field('PRIORITY', PRIORITY[stream]),
      field('MESSAGE', text),
      this.#fields,
      field('SYSLOG_TIMESTAMP', rfc3339Nano(timeNs)),
      field('CONTAINER_LOG_ORDINAL', String(++this.#ordinal)),
      ...(piece
        ? [
            field('CONTAINER_PARTIAL_ID', piece.id),
            field('CONTAINER_PARTIAL_ORDINAL', String(piece.ordinal)),
            field('CONTAINER_PARTIAL_LAST', String(piece.last)),
            ...(piece.last ? [] : [field('CONTAINER_PARTIAL_MESSAGE', 'true')]),
          ]
        : []),
    ]);
  }

  close(): void {
    this.#connection.close();
  }
}
