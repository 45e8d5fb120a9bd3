/** The frames that `serveLog` gives of records (crates/libcontainer-sys/src/logs/forward.rs), as records. */
import { randomBytes } from 'node:crypto';
import type { LogRecord, Piece } from './sender.ts';

const HEAD = 38;
const POSITION = 14;
const POSITION_END = HEAD;

export class Frames {
  #rest: Buffer = Buffer.alloc(0);
  /** By stream: the last piece of a line that has not ended. */
  readonly #pieces = new Map<string, Piece>();

  /** The whole records of what has come so far, and the position behind them where it is known. */
  push(chunk: Buffer): { records: LogRecord[]; behind: string | undefined } {
    const buffer = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    const records: LogRecord[] = [];
    let at = 0;
    let behind: string | undefined;
    while (buffer.length - at >= HEAD) {
      const end = at + HEAD + buffer.readUInt32LE(at);
      if (end > buffer.length) break;
      const stream = buffer[at + 4] === 2 ? 'stderr' : 'stdout';
      const piece = this.#piece(stream, buffer[at + 5] === 1);
      const timeNs = buffer.readBigUInt64LE(at + 6);
      records.push({ stream, timeNs, text: buffer.subarray(at + HEAD, end), ...(piece && { piece }) });
      behind = buffer.toString('hex', at + POSITION, at + POSITION_END);
      at = end;
    }
    this.#rest = buffer.subarray(at);
    return { records, behind: behind !== undefined && /[1-9a-f]/.test(behind) ? behind : undefined };
  }

  #piece(stream: string, endsLine: boolean): Piece | undefined {
    const before = this.#pieces.get(stream);
    if (before === undefined && endsLine) return undefined;
    const id = before?.id ?? randomBytes(32).toString('hex');
    const piece = { id, ordinal: (before?.ordinal ?? 0) + 1, last: endsLine };
    if (endsLine) this.#pieces.delete(stream);
    else this.#pieces.set(stream, piece);
    return piece;
  }
}
