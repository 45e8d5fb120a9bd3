import type { Database, Statement } from './db.ts';

export interface BuildRecordRow {
  /** A name that its client made up. */
  ref: string;
  createdMs: number;
  /** Kept until it is deleted by name. */
  pinned: boolean;
  /** As BuildKit encodes it, but for `pinned`. */
  record: Uint8Array;
}

/** What a record refers to. */
export interface BuildBlob {
  /** `sha256:…` */
  digest: string;
  data: Uint8Array;
}

type Stored = Omit<BuildRecordRow, 'pinned'> & { pinned: number };

const RECORD = 'ref, created_ms AS createdMs, pinned, record';

const load = (stored: Stored): BuildRecordRow => ({ ...stored, pinned: stored.pinned !== 0 });

export class BuildRecordStore {
  readonly #db: Database;
  readonly #insert: Statement<[string, number, Uint8Array], never>;
  readonly #insertBlob: Statement<[string, string, Uint8Array], never>;
  readonly #get: Statement<[string], Stored>;
  readonly #all: Statement<[], Stored>;
  readonly #blob: Statement<[string], { data: Uint8Array }>;
  readonly #pin: Statement<[number, string], never>;
  readonly #delete: Statement<[string], never>;

  constructor(db: Database) {
    this.#db = db;
    this.#insert = db.prepare('INSERT OR REPLACE INTO build_record (ref, created_ms, record) VALUES (?, ?, ?)');
    this.#insertBlob = db.prepare('INSERT OR IGNORE INTO build_blob (digest, ref, data) VALUES (?, ?, ?)');
    this.#get = db.prepare(`SELECT ${RECORD} FROM build_record WHERE ref = ?`);
    this.#all = db.prepare(`SELECT ${RECORD} FROM build_record ORDER BY created_ms DESC, ref`);
    this.#blob = db.prepare('SELECT data FROM build_blob WHERE digest = ? LIMIT 1');
    this.#pin = db.prepare('UPDATE build_record SET pinned = ? WHERE ref = ?');
    this.#delete = db.prepare('DELETE FROM build_record WHERE ref = ?');
  }

  insert({ ref, createdMs, record }: Omit<BuildRecordRow, 'pinned'>, blobs: readonly BuildBlob[]): void {
    this.#db.transaction(() => {
      this.#insert.run(ref, createdMs, record);
      for (const { digest, data } of blobs) this.#insertBlob.run(digest, ref, data);
    });
  }

  get(ref: string): BuildRecordRow | undefined {
    const stored = this.#get.get(ref);
    return stored && load(stored);
  }

  /** The newest first. */
  all(): BuildRecordRow[] {
    return this.#all.all().map(load);
  }

  blob(digest: string): Uint8Array | undefined {
    return this.#blob.get(digest)?.data;
  }

  pin(ref: string, pinned: boolean): void {
    this.#pin.run(pinned ? 1 : 0, ref);
  }

  delete(ref: string): void {
    this.#delete.run(ref);
  }
}
