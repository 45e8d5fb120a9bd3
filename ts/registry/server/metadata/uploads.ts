/** Sessions of uploads; their bytes and offsets are the storage's. */
import type { RegistryDatabase, Statement } from './database.ts';

export interface UploadRow {
  id: string;
  repository: string;
  algorithm: string;
  startedMs: number;
}

export class UploadSessions {
  readonly #insert: Statement<[string, string, string, number], unknown>;
  readonly #get: Statement<[string], UploadRow>;
  readonly #delete: Statement<[string], unknown>;
  readonly #all: Statement<[], UploadRow>;

  constructor(db: RegistryDatabase) {
    const columns = 'id, repository, algorithm, started_ms AS startedMs';
    this.#insert = db.prepare('INSERT INTO upload (id, repository, algorithm, started_ms) VALUES (?, ?, ?, ?)');
    this.#get = db.prepare(`SELECT ${columns} FROM upload WHERE id = ?`);
    this.#delete = db.prepare('DELETE FROM upload WHERE id = ?');
    this.#all = db.prepare(`SELECT ${columns} FROM upload`);
  }

  add({ id, repository, algorithm, startedMs }: UploadRow): void {
    this.#insert.run(id, repository, algorithm, startedMs);
  }

  get(id: string): UploadRow | undefined {
    return this.#get.get(id);
  }

  delete(id: string): void {
    this.#delete.run(id);
  }

  all(): UploadRow[] {
    return this.#all.all();
  }
}
