/** Names of repositories. A repository exists from its first upload on, until nothing of it is left. */
import type { RegistryDatabase, Statement } from './database.ts';

export class Repositories {
  readonly #id: Statement<[string], { id: number }>;
  readonly #insert: Statement<[string], unknown>;
  readonly #list: Statement<[string, number], { name: string }>;
  readonly #deleteEmpty: Statement<[], unknown>;

  constructor(db: RegistryDatabase) {
    this.#id = db.prepare('SELECT id FROM repository WHERE name = ?');
    this.#insert = db.prepare('INSERT INTO repository (name) VALUES (?) ON CONFLICT DO NOTHING');
    this.#list = db.prepare(`
      SELECT name FROM repository WHERE name > ?
        AND EXISTS (SELECT 1 FROM manifest WHERE manifest.repository_id = repository.id)
      ORDER BY name LIMIT ?`);
    this.#deleteEmpty = db.prepare(`
      DELETE FROM repository
      WHERE NOT EXISTS (SELECT 1 FROM manifest WHERE repository_id = repository.id)
        AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_id = repository.id)`);
  }

  id(name: string): number | undefined {
    return this.#id.get(name)?.id;
  }

  ensure(name: string): number {
    this.#insert.run(name);
    return (this.#id.get(name) as { id: number }).id;
  }

  /** Those with a manifest, in the order of their names, after `last`. */
  list(last: string, limit: number): string[] {
    return this.#list.all(last, limit).map(({ name }) => name);
  }

  deleteEmpty(): void {
    this.#deleteEmpty.run();
  }
}
