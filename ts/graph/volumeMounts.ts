import type { Database, Statement } from './db.ts';

/** A use of a plugin's volume. */
export interface VolumeMountRow {
  /** As the plugin knows it. */
  id: string;
  containerId: string;
  driver: string;
  volumeName: string;
  /** Directory on the host; empty while the plugin has not answered. */
  path: string;
}

export class VolumeMountStore {
  readonly #insert: Statement<[VolumeMountRow], never>;
  readonly #setPath: Statement<[string, string], never>;
  readonly #all: Statement<[], VolumeMountRow>;
  readonly #of: Statement<[string], VolumeMountRow>;
  readonly #delete: Statement<[string], never>;

  constructor(db: Database) {
    const columns = 'id, container_id AS containerId, driver, volume_name AS volumeName, path';
    this.#insert = db.prepare('INSERT INTO volume_mount VALUES (@id, @containerId, @driver, @volumeName, @path)');
    this.#setPath = db.prepare('UPDATE volume_mount SET path = ? WHERE id = ?');
    this.#all = db.prepare(`SELECT ${columns} FROM volume_mount ORDER BY id`);
    this.#of = db.prepare(`SELECT ${columns} FROM volume_mount WHERE container_id = ? ORDER BY id`);
    this.#delete = db.prepare('DELETE FROM volume_mount WHERE id = ?');
  }

  insert(mount: VolumeMountRow): void {
    this.#insert.run(mount);
  }

  setPath(id: string, path: string): void {
    this.#setPath.run(path, id);
  }

  all(): VolumeMountRow[] {
    return this.#all.all();
  }

  of(containerId: string): VolumeMountRow[] {
    return this.#of.all(containerId);
  }

  delete(id: string): void {
    this.#delete.run(id);
  }
}
