import { Duplex } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { type BytesMessage, BytesMessageSchema } from './proto/control_pb.ts';

/** Messages that may wait to be read. */
const MAX_WAITING = 64;

/** The sending side of a stream: what is put in is read in that order, until it is ended. */
export class Outbox<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #isEnded = false;
  #wake: () => void = () => undefined;
  #read: () => void = () => undefined;

  put(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  /** Resolves when no more than that many wait to be read. */
  async drained(most: number): Promise<void> {
    while (this.#items.length > most && !this.#isEnded)
      await new Promise<void>((resolve) => {
        this.#read = resolve;
      });
  }

  /** For one reader. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    try {
      for (;;) {
        const item = this.#items.shift();
        this.#read();
        if (item !== undefined) yield item;
        else if (this.#isEnded) return;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      // nobody reads any more
      this.end();
      this.#read();
    }
  }
}

/** The two directions of a connection that messages carry. */
export function duplexOf(read: AsyncIterator<Uint8Array>, outbox: Outbox<BytesMessage>): Duplex {
  return new Duplex({
    read() {
      read.next().then(
        ({ value, done }) => this.push(done === true ? null : value),
        (error: Error) => this.destroy(error),
      );
    },
    write(data: Buffer, _encoding, done) {
      outbox.put(create(BytesMessageSchema, { data }));
      void outbox.drained(MAX_WAITING).then(() => done());
    },
    final(done) {
      outbox.end();
      done();
    },
    destroy(error, done) {
      outbox.end();
      done(error);
    },
  });
}
