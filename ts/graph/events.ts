import type { Database, Statement } from './db.ts';

export interface EventRow {
  /** Ascending for ever; never used twice. */
  seq: number;
  /** Nanoseconds since the epoch; never less than the event before. */
  timeNs: bigint;
  /** `container`, `image`, `network`, `volume`, `daemon`. */
  type: string;
  action: string;
  actorId: string;
  attributes: Record<string, string>;
}

export type NewEvent = Omit<EventRow, 'seq' | 'timeNs'>;

type Stored = Omit<EventRow, 'seq' | 'attributes'> & { seq: bigint; attributes: string };

/** Events kept for replay. */
const KEEP = 10_000;
const PRUNE_EVERY = 256;

/** Wall clock in nanoseconds; the part below a millisecond comes from the monotonic clock. */
function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n);
}

export class EventStore {
  readonly #db: Database;
  readonly #keep: number;
  readonly #insert: Statement<[bigint, string, string, string, string], never>;
  readonly #between: Statement<[bigint, bigint, number], Stored>;
  readonly #prune: Statement<[number], never>;
  readonly #listeners = new Set<(event: EventRow) => void>();
  #seq: number;
  #lastNs: bigint;

  constructor(db: Database, keep: number = KEEP) {
    this.#db = db;
    this.#keep = keep;
    this.#insert = db.prepare('INSERT INTO event (time_ns, type, action, actor_id, attributes) VALUES (?, ?, ?, ?, ?)');
    this.#between = db.prepare(
      `SELECT seq, time_ns AS timeNs, type, action, actor_id AS actorId, attributes FROM event
       WHERE time_ns >= ? AND time_ns <= ? ORDER BY seq LIMIT ?`,
      'bigint',
    );
    this.#prune = db.prepare('DELETE FROM event WHERE seq <= ?');
    const last = db
      .prepare<[], { seq: bigint; timeNs: bigint }>(
        'SELECT seq, time_ns AS timeNs FROM event ORDER BY seq DESC LIMIT 1',
        'bigint',
      )
      .get();
    this.#seq = Number(last?.seq ?? 0n);
    this.#lastNs = last?.timeNs ?? 0n;
  }

  /** Writes the event within the caller's transaction, if any; listeners hear of it after the commit. */
  append(event: NewEvent): void {
    const now = nowNs();
    const timeNs = now > this.#lastNs ? now : this.#lastNs + 1n;
    this.#lastNs = timeNs;
    const result = this.#insert.run(timeNs, event.type, event.action, event.actorId, JSON.stringify(event.attributes));
    const seq = Number(result.lastInsertRowid);
    if (seq % PRUNE_EVERY === 0) this.#prune.run(seq - this.#keep);
    this.#db.afterCommit(() => {
      this.#seq = seq;
      for (const listener of this.#listeners) listener({ ...event, seq, timeNs });
    });
  }

  /** Events of a time span that are still kept, the oldest first. */
  between(sinceNs: bigint, untilNs: bigint, most = -1): EventRow[] {
    return this.#between.all(sinceNs, untilNs, most).map((row) => ({
      ...row,
      seq: Number(row.seq),
      attributes: JSON.parse(row.attributes) as Record<string, string>,
    }));
  }

  /** Number of the newest committed event. */
  get lastSeq(): number {
    return this.#seq;
  }

  /** The time of the newest event; that of the next one is later. */
  get lastNs(): bigint {
    return this.#lastNs;
  }

  /** How many hear of events as they happen. */
  get followers(): number {
    return this.#listeners.size;
  }

  /** Every event committed from now on; call what is returned to end it. A listener must not throw. */
  listen(listener: (event: EventRow) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
