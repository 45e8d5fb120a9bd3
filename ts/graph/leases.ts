import type { Database, Statement } from './db.ts';

/** Keeps blobs and layers from the garbage collector while an operation is about to use them. */
export interface LeaseRow {
  id: string;
  /** For people: `pull docker.io/library/busybox:latest`. */
  purpose: string;
  /** Leases of another boot are void. */
  bootId: string;
  createdMs: number;
  /** Void after this moment; null: until it is deleted. */
  expiresMs: number | null;
}

export class LeaseStore {
  readonly #insert: Statement<[LeaseRow], never>;
  readonly #add: Statement<[string, 'blob' | 'layer', string], never>;
  readonly #delete: Statement<[string], never>;
  readonly #deleteVoid: Statement<[string, number], never>;
  readonly #all: Statement<[], LeaseRow>;

  constructor(db: Database) {
    this.#insert = db.prepare('INSERT INTO lease VALUES (@id, @purpose, @bootId, @createdMs, @expiresMs)');
    this.#add = db.prepare('INSERT INTO lease_resource VALUES (?, ?, ?) ON CONFLICT DO NOTHING');
    this.#delete = db.prepare('DELETE FROM lease WHERE id = ?');
    this.#deleteVoid = db.prepare('DELETE FROM lease WHERE boot_id <> ? OR expires_ms < ?');
    this.#all = db.prepare(
      `SELECT id, purpose, boot_id AS bootId, created_ms AS createdMs, expires_ms AS expiresMs FROM lease
       ORDER BY created_ms, id`,
    );
  }

  insert(lease: LeaseRow): void {
    this.#insert.run(lease);
  }

  /** The blob or layer may come later: name it before you look whether it is there, then it cannot vanish in between. */
  add(leaseId: string, kind: 'blob' | 'layer', key: string): void {
    this.#add.run(leaseId, kind, key);
  }

  delete(id: string): void {
    this.#delete.run(id);
  }

  /** Leases of other boots and expired ones. */
  deleteVoid(bootId: string, nowMs: number): void {
    this.#deleteVoid.run(bootId, nowMs);
  }

  all(): LeaseRow[] {
    return this.#all.all();
  }
}
