/** What a build tells its client: vertices (the steps), what they write, and how far they are. */
import { randomBytes } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { type Timestamp, timestampNow } from '@bufbuild/protobuf/wkt';
import { Outbox } from './outbox.ts';
import { type StatusResponse, StatusResponseSchema } from './proto/control_pb.ts';

type Told = Parameters<typeof create<typeof StatusResponseSchema>>[1];

/** One build's, for one reader. What comes before it reads is kept for it. */
export class StatusLog {
  readonly #outbox = new Outbox<StatusResponse>();

  vertex(name: string): Vertex {
    return new Vertex(this, name);
  }

  tell(status: Told): void {
    this.#outbox.put(create(StatusResponseSchema, status));
  }

  end(): void {
    this.#outbox.end();
  }

  follow(): AsyncIterable<StatusResponse> {
    return this.#outbox;
  }
}

/** A step, which has begun. */
export class Vertex {
  readonly #log: StatusLog;
  readonly #digest = `sha256:${randomBytes(32).toString('hex')}`;
  readonly #name: string;
  readonly #started = timestampNow();
  readonly #parts = new Map<string, Timestamp>();
  #isCached = false;

  constructor(log: StatusLog, name: string) {
    this.#log = log;
    this.#name = name;
    this.#tell({});
  }

  /** Its result is one from before. */
  cached(): void {
    this.#isCached = true;
  }

  output(isError: boolean, text: string): void {
    const message = new TextEncoder().encode(text);
    const stream = isError ? 2n : 1n;
    this.#log.tell({ logs: [{ vertex: this.#digest, timestamp: timestampNow(), stream, msg: message }] });
  }

  /** How far a part of it is. `total`: 0 where that is not known. */
  part(name: string, current: number, total: number, isDone: boolean): void {
    const started = this.#parts.get(name) ?? timestampNow();
    this.#parts.set(name, started);
    const timestamp = timestampNow();
    const at = { timestamp, started, ...(isDone && { completed: timestamp }) };
    const counts = { current: BigInt(current), total: BigInt(total) };
    this.#log.tell({ statuses: [{ ID: name, vertex: this.#digest, name, ...counts, ...at }] });
  }

  warn(text: string): void {
    this.#log.tell({ warnings: [{ vertex: this.#digest, level: 1n, short: new TextEncoder().encode(text) }] });
  }

  /** `error`: why it failed. */
  end(error = ''): void {
    this.#tell({ completed: timestampNow(), error });
  }

  /** Ends with `use`. */
  async during<T>(use: (vertex: Vertex) => Promise<T>): Promise<T> {
    try {
      const result = await use(this);
      this.end();
      return result;
    } catch (error) {
      this.end((error as Error).message);
      throw error;
    }
  }

  #tell(more: { completed?: Timestamp; error?: string }): void {
    const vertex = { digest: this.#digest, name: this.#name, cached: this.#isCached, started: this.#started, ...more };
    this.#log.tell({ vertexes: [vertex] });
  }
}
