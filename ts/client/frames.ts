/** Docker's multiplexed streams: frames of 8 bytes of header (stream, 0, 0, 0, length big-endian) and the payload. */
import { CaissonError } from '../errdefs.ts';

export interface Frame {
  stream: 'stdout' | 'stderr';
  data: Uint8Array;
}

const HEADER = 8;

/**
 * The frames of a byte stream, as they come: a payload may arrive as several frames, so that nothing waits for a large
 * one to be whole. Payloads are views of the chunks, not copies.
 */
export async function* demultiplex(source: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  const header = new Uint8Array(HEADER);
  let filled = 0;
  let left = 0;
  let stream: Frame['stream'] = 'stdout';
  for await (const chunk of source) {
    let at = 0;
    while (at < chunk.byteLength) {
      if (left > 0) {
        const end = Math.min(at + left, chunk.byteLength);
        yield { stream, data: chunk.subarray(at, end) };
        left -= end - at;
        at = end;
        continue;
      }
      const taken = Math.min(HEADER - filled, chunk.byteLength - at);
      header.set(chunk.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
      if (filled < HEADER) continue;
      filled = 0;
      if ((header[0] ?? 255) > 3 || header[1] !== 0 || header[2] !== 0 || header[3] !== 0)
        throw new CaissonError('DataLoss', `the daemon sent no frame: ${Buffer.from(header).toString('hex')}`);
      // 3 is an error of the daemon itself, which docker shows on stderr as well.
      stream = (header[0] ?? 0) >= 2 ? 'stderr' : 'stdout';
      left = new DataView(header.buffer).getUint32(4);
    }
  }
  if (left > 0 || filled > 0) throw new CaissonError('DataLoss', "the daemon's stream ended within a frame");
}

/** A terminal's stream: no frames, all of it output. */
export async function* raw(source: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  for await (const data of source) yield { stream: 'stdout', data };
}

/** The JSON values of a stream with one a line. */
export async function* jsonLines<T>(source: AsyncIterable<Uint8Array>): AsyncGenerator<T> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of source) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') yield JSON.parse(line) as T;
  }
  rest += decoder.decode();
  if (rest.trim() !== '') yield JSON.parse(rest) as T;
}
