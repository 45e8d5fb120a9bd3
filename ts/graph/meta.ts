import type { Database, Statement } from './db.ts';

/** Single values of an engine, for example its id. */
export class MetaStore {
  readonly #get: Statement<[string], { value: string }>;
  readonly #set: Statement<[string, string], never>;

  constructor(db: Database) {
    this.#get = db.prepare('SELECT value FROM meta WHERE key = ?');
    this.#set = db.prepare('INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value');
  }

  get(key: string): string | undefined {
    return this.#get.get(key)?.value;
  }

  set(key: string, value: string): void {
    this.#set.run(key, value);
  }
}
