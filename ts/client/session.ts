/** An attached container or a process in one: its output as frames, its input as a stream. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { demultiplex, type Frame, raw } from './frames.ts';

export interface Output {
  stdout: string;
  stderr: string;
}

export class Session implements AsyncDisposable, AsyncIterable<Frame> {
  readonly #socket: Duplex;
  readonly #frames: AsyncGenerator<Frame>;
  /** Input; closing it is the end of input, output goes on. */
  readonly stdin: WritableStream<Uint8Array>;

  constructor(socket: Duplex, tty: boolean, signal?: AbortSignal) {
    this.#socket = socket;
    // Without a listener a broken connection would end this process; the reader and the writer get it too.
    socket.on('error', () => undefined);
    const onAbort = (): void => void socket.destroy();
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('close', () => signal?.removeEventListener('abort', onAbort));
    const bytes = socketBytes(socket, signal);
    this.#frames = tty ? raw(bytes) : demultiplex(bytes);
    this.stdin = new WritableStream<Uint8Array>({
      write: (chunk) => this.write(chunk),
      close: () => void socket.end(),
      abort: () => void socket.destroy(),
    });
  }

  /** Resolves when there is room for more. */
  async write(data: Uint8Array): Promise<void> {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    if (!this.#socket.write(data)) await Promise.race([once(this.#socket, 'drain'), once(this.#socket, 'close')]);
  }

  /** The end of input. */
  endInput(): void {
    this.#socket.end();
  }

  /** All output, until the process closes it. Call once; leaving the loop detaches. */
  [Symbol.asyncIterator](): AsyncIterator<Frame> {
    return this.#frames;
  }

  /** All output as text. */
  async text(): Promise<Output> {
    const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
    const output = { stdout: '', stderr: '' };
    for await (const { stream, data } of this) output[stream] += decoders[stream].decode(data, { stream: true });
    return output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }
}

async function* socketBytes(socket: Duplex, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of socket as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    signal?.throwIfAborted();
    // The far side may close both directions at once: what had been sent has been read by then.
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET' && (error as NodeJS.ErrnoException).code !== 'EPIPE')
      throw error;
  }
  signal?.throwIfAborted();
}
