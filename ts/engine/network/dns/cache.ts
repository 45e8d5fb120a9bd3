/** Answers of other servers, kept for as long as they say themselves; shared by all containers that ask the same servers. */

const MAX_ENTRIES = 2000;
const MAX_POSITIVE_S = 300;
/** A name that is not there may be there soon. */
const MAX_NEGATIVE_S = 30;
const NO_ERROR = 0;
const NO_SUCH_NAME = 3;
const OPT = 41;

interface Entry {
  answer: Buffer;
  storedAtMs: number;
  lifeS: number;
  /** Offsets of the lives in the message. */
  lives: number[];
}

export class AnswerCache {
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** With the query's id, and the time that is left. */
  get(query: Buffer, servers: readonly string[]): Buffer | undefined {
    const key = keyOf(query, servers);
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    const ageS = Math.floor((this.#now() - entry.storedAtMs) / 1000);
    if (ageS >= entry.lifeS) {
      this.#entries.delete(key);
      return undefined;
    }
    const answer = Buffer.from(entry.answer);
    query.copy(answer, 0, 0, 2);
    for (const at of entry.lives) answer.writeUInt32BE(Math.max(0, answer.readUInt32BE(at) - ageS), at);
    return answer;
  }

  put(query: Buffer, servers: readonly string[], answer: Buffer): void {
    const lives = livesOf(answer);
    if (!lives || lives.length === 0) return;
    const shortest = Math.min(...lives.map((at) => answer.readUInt32BE(at)));
    const isPositive = answer.readUInt16BE(6) > 0;
    const lifeS = Math.min(shortest, isPositive ? MAX_POSITIVE_S : MAX_NEGATIVE_S);
    if (lifeS === 0) return;
    if (this.#entries.size >= MAX_ENTRIES) {
      for (const oldest of this.#entries.keys()) {
        this.#entries.delete(oldest);
        break;
      }
    }
    this.#entries.set(keyOf(query, servers), { answer: Buffer.from(answer), storedAtMs: this.#now(), lifeS, lives });
  }
}

/** All of the question but its id: flags and options of EDNS change the answer. */
const keyOf = (query: Buffer, servers: readonly string[]): string => `${servers.join()} ${query.toString('latin1', 2)}`;

/** Where the lives of a complete answer's records stand; undefined for what is not to be kept. */
function livesOf(answer: Buffer): number[] | undefined {
  try {
    const flags = answer.readUInt16BE(2);
    const isTruncated = (flags & 0x0200) !== 0;
    if (isTruncated || ![NO_ERROR, NO_SUCH_NAME].includes(flags & 0x0f)) return undefined;
    let at = 12;
    for (let count = answer.readUInt16BE(4); count > 0; count--) at = behindName(answer, at) + 4;
    const lives: number[] = [];
    const records = answer.readUInt16BE(6) + answer.readUInt16BE(8) + answer.readUInt16BE(10);
    for (let count = records; count > 0; count--) {
      at = behindName(answer, at);
      if (answer.readUInt16BE(at) !== OPT) lives.push(at + 4);
      at += 10 + answer.readUInt16BE(at + 8);
    }
    return at <= answer.length ? lives : undefined;
  } catch {
    // cut off
    return undefined;
  }
}

function behindName(message: Buffer, start: number): number {
  let at = start;
  for (;;) {
    const length = message.readUInt8(at);
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
    at += length + 1;
  }
}
