import type { Database, Statement } from './db.ts';

/** A committed file of the content store. The row is written after the file is in place, removed before it goes. */
export interface BlobRow {
  digest: string;
  sizeBytes: number;
  mediaType: string;
  createdMs: number;
}

const COLUMNS = 'digest, size_bytes AS sizeBytes, media_type AS mediaType, created_ms AS createdMs';

export class BlobStore {
  readonly #insert: Statement<[BlobRow], never>;
  readonly #get: Statement<[string], BlobRow>;
  readonly #all: Statement<[], BlobRow>;
  readonly #delete: Statement<[string], never>;
  readonly #release: Statement<[string], never>;

  constructor(db: Database) {
    this.#insert = db.prepare(
      'INSERT INTO blob VALUES (@digest, @sizeBytes, @mediaType, @createdMs) ON CONFLICT (digest) DO NOTHING',
    );
    this.#get = db.prepare(`SELECT ${COLUMNS} FROM blob WHERE digest = ?`);
    this.#all = db.prepare(`SELECT ${COLUMNS} FROM blob ORDER BY digest`);
    this.#delete = db.prepare('DELETE FROM blob WHERE digest = ?');
    this.#release = db.prepare('DELETE FROM image_blob WHERE digest = ?');
  }

  /** A digest already there is left as it is: same digest, same bytes. */
  insert(blob: BlobRow): void {
    this.#insert.run(blob);
  }

  get(digest: string): BlobRow | undefined {
    return this.#get.get(digest);
  }

  all(): BlobRow[] {
    return this.#all.all();
  }

  delete(digest: string): void {
    this.#delete.run(digest);
  }

  /** Deletes it although images refer to it: its bytes are lost, and the next pull brings them. */
  giveUp(digest: string): void {
    this.#release.run(digest);
    this.#delete.run(digest);
  }
}
