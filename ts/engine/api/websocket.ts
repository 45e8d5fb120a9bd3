/**
 * The server's side of a websocket (RFC 6455) over a connection taken from Node: bytes of a container's streams in binary
 * messages, and what the client sends, whatever the message's type, as its input.
 */
import { createHash } from 'node:crypto';
import { Socket } from 'node:net';
import { Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CaissonError } from '../../errdefs.ts';
import type { HijackedConnection } from './hijack.ts';

/** RFC 6455, section 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const MAX_PAYLOAD = 1 << 20;

const Opcode = { binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** The key of the client's handshake; kind InvalidParameter when it is none. */
export function websocketKey(header: (name: string) => string): string {
  const key = header('sec-websocket-key');
  const asks = /(^|,)\s*websocket\s*(,|$)/i.test(header('upgrade'));
  if (!asks || !/^[A-Za-z0-9+/]{22}==$/.test(key) || header('sec-websocket-version') !== '13') {
    throw new CaissonError('InvalidParameter', 'this route speaks websocket: a handshake of version 13 is needed');
  }
  return key;
}

const acceptHead = (key: string, protocol: string): string => {
  const accept = createHash('sha1')
    .update(key + GUID)
    .digest('base64');
  const chosen = protocol === '' ? '' : `Sec-WebSocket-Protocol: ${protocol}\r\n`;
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${chosen}\r\n`;
};

function frame(opcode: number, payload: Uint8Array): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  head[1] = length < 126 ? length : length < 65_536 ? 126 : 127;
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}

interface Parsed {
  opcode: number;
  payload: Buffer;
  /** Bytes that the frame took. */
  size: number;
}

/** The first frame of `bytes`; undefined when it is not whole yet. Clients mask what they send. */
function parseFrame(bytes: Buffer): Parsed | undefined {
  if (bytes.length < 2) return undefined;
  const [first = 0, second = 0] = bytes;
  const short = second & 0x7f;
  const extra = short === 126 ? 2 : short === 127 ? 8 : 0;
  const headSize = 2 + extra + 4;
  if ((second & 0x80) === 0 || (first & 0x70) !== 0) throw new Error('a frame without a mask, or of an extension');
  if (bytes.length < headSize) return undefined;
  const length = extra === 0 ? short : extra === 2 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if (length > MAX_PAYLOAD) throw new Error(`a frame of ${length} bytes`);
  if (bytes.length < headSize + length) return undefined;
  const mask = bytes.subarray(headSize - 4, headSize);
  const payload = Buffer.from(bytes.subarray(headSize, headSize + length));
  for (let at = 0; at < length; at++) payload[at] = (payload[at] as number) ^ (mask[at % 4] as number);
  return { opcode: first & 0x0f, payload, size: headSize + length };
}

/** Frames of the client to bytes; pings are answered by `reply`. */
class Unframe extends Transform {
  readonly #reply: (frame: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(reply: (frame: Buffer) => void) {
    super();
    this.#reply = reply;
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    try {
      this.#rest = Buffer.concat([this.#rest, chunk]);
      for (let found = parseFrame(this.#rest); found; found = parseFrame(this.#rest)) {
        this.#rest = this.#rest.subarray(found.size);
        if (found.opcode < Opcode.close) this.push(found.payload);
        else if (found.opcode === Opcode.ping) this.#reply(frame(Opcode.pong, found.payload));
        else if (found.opcode === Opcode.close) {
          this.push(null);
          break;
        }
      }
      done();
    } catch (error) {
      done(error as Error);
    }
  }
}

/** Answers the handshake and carries bytes between the client and `fd` until one of them ends. Both are consumed. */
export async function relayWebsocket(
  connection: HijackedConnection,
  { key, protocol, fd }: { key: string; protocol: string; fd: number },
): Promise<void> {
  const client = new Socket({ fd: connection.fd, readable: true, writable: true, allowHalfOpen: true });
  const stream = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  client.write(acceptHead(key, protocol));
  const unframe = new Unframe((reply) => void client.write(reply));
  const framed = new Transform({
    transform: (chunk: Buffer, _encoding, done) => done(null, frame(Opcode.binary, chunk)),
    flush: (done) => done(null, frame(Opcode.close, Buffer.from([0x03, 0xe8]))),
  });
  if (connection.early.length > 0) unframe.write(connection.early);
  // the end of input is handed on and output goes on; the end of output, or an error, ends both
  const input = pipeline(client, unframe, stream, { end: true });
  const output = pipeline(stream, framed, client);
  input.catch(() => stream.destroy());
  await output.catch(() => undefined);
  client.destroy();
  stream.destroy();
}
