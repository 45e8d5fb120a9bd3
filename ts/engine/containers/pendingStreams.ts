/**
 * Streams of clients that attached before the start, until the shim is there to have them. Of a client that goes away
 * meanwhile only its input stays, and that input has ended: both still mean something to the program.
 */
import { readSync } from 'node:fs';
import { Socket } from 'node:net';
import type { ClientStream } from '../native/containers.ts';
import type { Native } from '../native/index.ts';
import type { LiveTable } from './live.ts';

/** `left`: what a client has sent that has gone; its descriptor is closed. */
export type PendingStream = ClientStream & { left?: Buffer };

const CHUNK_BYTES = 64 << 10;

export class PendingStreams {
  readonly #native: Pick<Native, 'closeFd' | 'socketPair' | 'watchClient' | 'unwatchClient'>;
  readonly #live: LiveTable;

  constructor(native: Native, live: LiveTable) {
    this.#native = native;
    this.#live = live;
  }

  add(id: string, stream: ClientStream): void {
    this.#live.of(id).pendingStreams.set(this.#native.watchClient(id, stream.fd), stream);
  }

  /** A client has closed its connection. */
  gone(id: string, client: number): void {
    const { pendingStreams } = this.#live.of(id);
    const stream = pendingStreams.get(client);
    // the shim may have it by now
    if (stream === undefined) return;
    if (stream.stdin) pendingStreams.set(client, { ...stream, left: readRest(stream.fd) });
    else pendingStreams.delete(client);
    this.#native.closeFd(stream.fd);
  }

  /** In the order in which they came. The caller owns their descriptors. */
  take(id: string): ClientStream[] {
    return this.#empty(id).map(({ left, ...stream }) =>
      left === undefined ? stream : { ...stream, stdout: false, stderr: false, fd: this.#sent(left) },
    );
  }

  /** There is nothing to attach to any more: their connections end. */
  close(id: string): void {
    for (const { fd, left } of this.#empty(id)) if (left === undefined) this.#native.closeFd(fd);
  }

  #empty(id: string): PendingStream[] {
    const { pendingStreams } = this.#live.of(id);
    const all = [...pendingStreams];
    pendingStreams.clear();
    for (const [client] of all) this.#native.unwatchClient(client);
    return all.map(([, stream]) => stream);
  }

  /** A connection whose other end says this and closes. */
  #sent(bytes: Buffer): number {
    const [fd, other] = this.#native.socketPair();
    const socket = new Socket({ fd: other });
    socket.on('error', () => undefined);
    socket.end(bytes, () => socket.destroy());
    return fd;
  }
}

/** What a closed connection still holds. */
function readRest(fd: number): Buffer {
  const chunks: Buffer[] = [];
  try {
    for (;;) {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      const length = readSync(fd, chunk);
      if (length === 0) break;
      chunks.push(chunk.subarray(0, length));
    }
  } catch {
    // reset by its peer: there is no more
  }
  return Buffer.concat(chunks);
}
