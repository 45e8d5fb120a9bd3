import type { Database, Statement } from './db.ts';

export interface LinkRow {
  ownerId: string;
  alias: string;
  targetId: string;
}

/** A link by the names of its ends, as it is now. */
export interface NamedLink {
  targetId: string;
  owner: string;
  alias: string;
}

export class LinkStore {
  readonly #insert: Statement<[LinkRow], never>;
  readonly #delete: Statement<[string, string], never>;
  readonly #of: Statement<[string], { alias: string; targetId: string }>;
  readonly #to: Statement<[string], { ownerId: string }>;
  readonly #named: Statement<[], NamedLink>;

  constructor(db: Database) {
    this.#insert = db.prepare('INSERT INTO container_link VALUES (@ownerId, @alias, @targetId)');
    this.#delete = db.prepare('DELETE FROM container_link WHERE owner_id = ? AND alias = ?');
    this.#of = db.prepare('SELECT alias, target_id AS targetId FROM container_link WHERE owner_id = ? ORDER BY alias');
    this.#to = db.prepare('SELECT DISTINCT owner_id AS ownerId FROM container_link WHERE target_id = ?');
    // CROSS: links are few; to have the order for nothing, SQLite would read all containers
    this.#named = db.prepare(`
      SELECT target_id AS targetId, owner.name AS owner, alias FROM container_link
      CROSS JOIN container AS owner ON owner.id = owner_id ORDER BY owner.name, alias`);
  }

  insert(link: LinkRow): void {
    this.#insert.run(link);
  }

  /** True when there was one. */
  delete(ownerId: string, alias: string): boolean {
    return this.#delete.run(ownerId, alias).changes === 1;
  }

  /** Whom a container is linked to. */
  of(ownerId: string): { alias: string; targetId: string }[] {
    return this.#of.all(ownerId);
  }

  /** Who is linked to a container. */
  to(targetId: string): string[] {
    return this.#to.all(targetId).map(({ ownerId }) => ownerId);
  }

  /** Every link. */
  named(): NamedLink[] {
    return this.#named.all();
  }
}
