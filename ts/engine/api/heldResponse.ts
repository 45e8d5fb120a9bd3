/** An answer that goes out only when somebody has agreed to it. */
import { ServerResponse } from 'node:http';
import { sendError } from './errors.ts';

export interface Answer {
  status: number;
  headers: Record<string, string>;
  /** What there is of it so far: of a long or endless one the beginning, of a stream nothing. */
  body: Buffer;
}

/** Rejects to have its error sent instead. */
export type Review = (answer: Answer) => Promise<void>;

/** An answer is shown to the reviewer when it is complete, when it is flushed, or when so much of it has come. */
const SHOWN_BYTES = 64 * 1024;

interface Hold {
  review: Review;
  chunks: Buffer[];
  bytes: number;
  underReview: boolean;
  ended: boolean;
}

export class HeldResponse extends ServerResponse {
  #hold: Hold | undefined;
  #refused = false;

  hold(review: Review): void {
    this.#hold = { review, chunks: [], bytes: 0, underReview: false, ended: false };
  }

  /** The connection is given away: its head is written by others, and nobody can take it back. */
  givenAway(): void {
    const hold = this.#hold;
    this.#hold = undefined;
    hold?.review({ status: 200, headers: {}, body: Buffer.alloc(0) }).catch(() => undefined);
  }

  override writeHead(...args: unknown[]): this {
    if (!this.#hold) return Reflect.apply(super.writeHead, this, args) as this;
    this.statusCode = args[0] as number;
    const headers = args.at(-1);
    if (typeof headers === 'object' && headers !== null) {
      for (const [name, value] of Object.entries(headers)) this.setHeader(name, value as string | string[]);
    }
    return this;
  }

  override flushHeaders(): void {
    if (this.#hold) void this.#decide(this.#hold);
    else super.flushHeaders();
  }

  override write(chunk: unknown, ...rest: unknown[]): boolean {
    if (this.#refused) return true;
    if (!this.#hold) return Reflect.apply(super.write, this, [chunk, ...rest]) as boolean;
    this.#take(this.#hold, chunk, rest);
    if (this.#hold.bytes > SHOWN_BYTES) void this.#decide(this.#hold);
    return !this.#hold.underReview;
  }

  override end(chunk?: unknown, ...rest: unknown[]): this {
    if (this.#refused) return this;
    if (!this.#hold) return Reflect.apply(super.end, this, [chunk, ...rest]) as this;
    if (typeof chunk === 'function') rest.push(chunk);
    else if (chunk !== undefined && chunk !== null) this.#take(this.#hold, chunk, []);
    const told = rest.find((one) => typeof one === 'function') as (() => void) | undefined;
    if (told) this.once('finish', told);
    this.#hold.ended = true;
    void this.#decide(this.#hold);
    return this;
  }

  #take(hold: Hold, chunk: unknown, [encoding, ...rest]: unknown[]): void {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding as BufferEncoding) : (chunk as Buffer);
    hold.chunks.push(bytes);
    hold.bytes += bytes.length;
    for (const told of [encoding, ...rest]) if (typeof told === 'function') told();
  }

  async #decide(hold: Hold): Promise<void> {
    if (hold.underReview) return;
    hold.underReview = true;
    const headers = Object.entries(this.getHeaders()).map(([name, value]) => [canonical(name), String(value)]);
    try {
      await hold.review({
        status: this.statusCode,
        headers: Object.fromEntries(headers),
        body: Buffer.concat(hold.chunks),
      });
    } catch (error) {
      this.#hold = undefined;
      this.removeHeader('Transfer-Encoding');
      sendError(this, error);
      this.#refused = true;
      return;
    }
    this.#hold = undefined;
    super.flushHeaders();
    for (const chunk of hold.chunks) super.write(chunk);
    if (hold.ended) super.end();
    else this.emit('drain');
  }
}

/** As Go writes names of headers. */
export const canonical = (name: string): string => name.replace(/(^|-)([a-z])/g, (part) => part.toUpperCase());
