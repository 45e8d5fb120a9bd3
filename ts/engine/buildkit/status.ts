/** What a build tells its client: vertices (the steps), what they write, and how far they are. */
import { randomBytes } from 'node:crypto';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type Timestamp, timestampNow } from '@bufbuild/protobuf/wkt';
import { Outbox } from './outbox.ts';
import { type StatusResponse, StatusResponseSchema, VertexWarningSchema } from './proto/control_pb.ts';

type Told = MessageInitShape<typeof StatusResponseSchema>;
/** Where in a Dockerfile, and where one can read more. */
type Warned = Pick<MessageInitShape<typeof VertexWarningSchema>, 'detail' | 'url' | 'info' | 'ranges'>;

/** What commands wrote and a reader has not read yet: more of it is dropped, in bytes. */
const MAX_UNREAD = 16 << 20;
/** Of what one build tells, for the readers to come, in bytes: of a longer one only the steps are kept. */
const MAX_KEPT = 4 << 20;
const clipped = (why: string): Uint8Array => new TextEncoder().encode(`\n[output clipped: ${why}]\n`);
const UNREAD = clipped('its client does not read it');
const UNKEPT = clipped('the rest is too long to be kept');

/** One build's. Each reader gets all of it, whenever it comes. */
export class StatusLog {
  /** Each as BuildKit encodes it. */
  readonly #kept: Uint8Array[] = [];
  #keptBytes = 0;
  #isClipped = false;
  readonly #readers = new Set<Reader>();
  #isEnded = false;
  #observer: (status: StatusResponse) => void = () => undefined;

  /** `observer` hears of all from here on. */
  observe(observer: (status: StatusResponse) => void): void {
    this.#observer = observer;
  }

  /** All that was told, as far as it is kept. */
  get kept(): readonly Uint8Array[] {
    return this.#kept;
  }

  vertex(name: string): Vertex {
    return new Vertex(this, name);
  }

  tell(status: Told): void {
    const message = create(StatusResponseSchema, status);
    this.#observer(message);
    this.#keep(message);
    for (const reader of this.#readers) reader.put(message);
  }

  /** What a step's command wrote. */
  output(vertex: string, stream: bigint, msg: Uint8Array): void {
    this.tell({ logs: [{ vertex, timestamp: timestampNow(), stream, msg }] });
  }

  #keep(message: StatusResponse): void {
    let kept = message;
    if (this.#keptBytes >= MAX_KEPT && message.vertexes.length === 0) {
      if (this.#isClipped || message.logs.length === 0) return;
      this.#isClipped = true;
      kept = saying(UNKEPT, message);
    }
    const encoded = toBinary(StatusResponseSchema, kept);
    this.#keptBytes += encoded.length;
    this.#kept.push(encoded);
  }

  end(): void {
    this.#isEnded = true;
    for (const reader of this.#readers) reader.end();
  }

  async *follow(): AsyncGenerator<StatusResponse> {
    const before = [...this.#kept];
    const reader = new Reader();
    this.#readers.add(reader);
    if (this.#isEnded) reader.end();
    try {
      for (const encoded of before) yield fromBinary(StatusResponseSchema, encoded);
      yield* reader.read();
    } finally {
      this.#readers.delete(reader);
    }
  }
}

/** What waits for one reader. */
class Reader {
  readonly #outbox = new Outbox<StatusResponse>();
  #unread = 0;
  #isClipped = false;

  put(message: StatusResponse): void {
    let said = message;
    if (message.logs.length > 0) {
      if (this.#isClipped) return;
      this.#isClipped = this.#unread + bytesOf(message) > MAX_UNREAD;
      if (this.#isClipped) said = saying(UNREAD, message);
      this.#unread += bytesOf(said);
    }
    this.#outbox.put(said);
  }

  end(): void {
    this.#outbox.end();
  }

  async *read(): AsyncGenerator<StatusResponse> {
    for await (const message of this.#outbox) {
      this.#unread -= bytesOf(message);
      if (this.#unread === 0) this.#isClipped = false;
      yield message;
    }
  }
}

/** Of what commands wrote. */
const bytesOf = ({ logs }: StatusResponse): number => logs.reduce((sum, { msg }) => sum + msg.length, 0);

/** The same step says this instead. */
const saying = (msg: Uint8Array, { logs }: StatusResponse): StatusResponse =>
  create(StatusResponseSchema, { logs: logs.slice(0, 1).map((log) => ({ ...log, msg })) });

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
