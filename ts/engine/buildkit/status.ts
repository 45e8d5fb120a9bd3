/** What a build tells its client: vertices (the steps), what they write, and how far they are. */
import { randomBytes } from 'node:crypto';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Timestamp, timestampNow } from '@bufbuild/protobuf/wkt';
import { Outbox } from './outbox.ts';
import { type StatusResponse, StatusResponseSchema, VertexWarningSchema } from './proto/control_pb.ts';

type Told = MessageInitShape<typeof StatusResponseSchema>;
/** Where in a Dockerfile, and where one can read more. */
type Warned = Pick<MessageInitShape<typeof VertexWarningSchema>, 'detail' | 'url' | 'info' | 'ranges'>;

/** What commands wrote and nobody has read yet: more of it is dropped, in bytes. */
const MAX_UNREAD = 16 << 20;
const CLIPPED = new TextEncoder().encode('\n[output clipped: its client does not read it]\n');

/** One build's, for one reader. What comes before it reads is kept for it. */
export class StatusLog {
  readonly #outbox = new Outbox<StatusResponse>();
  #unread = 0;
  #isClipped = false;
  #observer: (status: StatusResponse) => void = () => undefined;

  /** `observer` hears of all from here on, whoever reads. */
  observe(observer: (status: StatusResponse) => void): void {
    this.#observer = observer;
  }

  vertex(name: string): Vertex {
    return new Vertex(this, name);
  }

  tell(status: Told): void {
    const message = create(StatusResponseSchema, status);
    this.#observer(message);
    this.#outbox.put(message);
  }

  /** What a step's command wrote. */
  output(vertex: string, stream: bigint, msg: Uint8Array): void {
    if (this.#isClipped) return;
    this.#isClipped = this.#unread + msg.length > MAX_UNREAD;
    const said = this.#isClipped ? CLIPPED : msg;
    this.#unread += said.length;
    this.tell({ logs: [{ vertex, timestamp: timestampNow(), stream, msg: said }] });
  }

  end(): void {
    this.#outbox.end();
  }

  async *follow(): AsyncGenerator<StatusResponse> {
    for await (const status of this.#outbox) {
      for (const { msg } of status.logs) this.#unread -= msg.length;
      if (this.#unread === 0) this.#isClipped = false;
      yield status;
    }
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
    this.#log.output(this.#digest, isError ? 2n : 1n, new TextEncoder().encode(text));
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

  warn(text: string, more: Warned = {}): void {
    const short = new TextEncoder().encode(text);
    this.#log.tell({ warnings: [create(VertexWarningSchema, { ...more, vertex: this.#digest, level: 1n, short })] });
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
