import { CaissonError } from '../errdefs.ts';
import type { Database, Statement } from './db.ts';

export interface VolumeRow {
  name: string;
  driver: string;
  /** Directory that holds its files. */
  mountpoint: string;
  /** Made for a container without a name given: removed with it by `rm -v` and `--rm`. */
  anonymous: boolean;
  /** JSON objects. */
  options: string;
  labels: string;
  created: string;
}

type Stored = Omit<VolumeRow, 'anonymous'> & { anonymous: number };

const COLUMNS = 'name, driver, mountpoint, anonymous, options, labels, created';

const load = (row: Stored): VolumeRow => ({ ...row, anonymous: row.anonymous === 1 });

export const noSuchVolume = (name: string): CaissonError =>
  new CaissonError('NotFound', `get ${name}: no such volume`, { code: 'VOLUME_NOT_FOUND' });

export class VolumeStore {
  readonly #insert: Statement<[Stored], never>;
  readonly #get: Statement<[string], Stored>;
  readonly #all: Statement<[], Stored>;
  readonly #delete: Statement<[string], never>;
  readonly #attach: Statement<[string, string, string], never>;
  readonly #users: Statement<[string], { id: string }>;
  readonly #usedBy: Statement<[string], { destination: string; volumeName: string }>;
  readonly #unused: Statement<[], Stored>;

  constructor(db: Database) {
    this.#insert = db.prepare(`
      INSERT INTO volume VALUES (@name, @driver, @mountpoint, @anonymous, @options, @labels, @created)
      ON CONFLICT (name) DO NOTHING`);
    this.#get = db.prepare(`SELECT ${COLUMNS} FROM volume WHERE name = ?`);
    this.#all = db.prepare(`SELECT ${COLUMNS} FROM volume ORDER BY name`);
    this.#delete = db.prepare('DELETE FROM volume WHERE name = ?');
    this.#attach = db.prepare('INSERT INTO container_volume VALUES (?, ?, ?)');
    this.#users = db.prepare(
      'SELECT DISTINCT container_id AS id FROM container_volume WHERE volume_name = ? ORDER BY container_id',
    );
    this.#usedBy = db.prepare(
      'SELECT destination, volume_name AS volumeName FROM container_volume WHERE container_id = ? ORDER BY destination',
    );
    this.#unused = db.prepare(`
      SELECT ${COLUMNS} FROM volume
      WHERE NOT EXISTS (SELECT 1 FROM container_volume WHERE volume_name = volume.name) ORDER BY name`);
  }

  /** True when it was made; false when a volume of that name was there, which is left as it is. */
  insert(volume: VolumeRow): boolean {
    return this.#insert.run({ ...volume, anonymous: volume.anonymous ? 1 : 0 }).changes === 1;
  }

  get(name: string): VolumeRow | undefined {
    const row = this.#get.get(name);
    return row === undefined ? undefined : load(row);
  }

  /** Kind NotFound with Docker's text. */
  resolve(name: string): VolumeRow {
    const volume = this.get(name);
    if (volume === undefined) throw noSuchVolume(name);
    return volume;
  }

  all(): VolumeRow[] {
    return this.#all.all().map(load);
  }

  /** Volumes that no container mounts. */
  unused(): VolumeRow[] {
    return this.#unused.all().map(load);
  }

  /** Kind Conflict, with Docker's text, while a container (running or not) mounts it. */
  delete(name: string): void {
    this.checkUnused(name);
    this.#delete.run(name);
  }

  /** The same, and nothing else. */
  checkUnused(name: string): void {
    const users = this.users(name);
    if (users.length > 0) {
      throw new CaissonError('Conflict', `remove ${name}: volume is in use - [${users.join(', ')}]`, {
        code: 'VOLUME_IN_USE',
      });
    }
  }

  attach(containerId: string, destination: string, volumeName: string): void {
    this.#attach.run(containerId, destination, volumeName);
  }

  /** Ids of the containers that mount it. */
  users(name: string): string[] {
    return this.#users.all(name).map((row) => row.id);
  }

  usedBy(containerId: string): { destination: string; volumeName: string }[] {
    return this.#usedBy.all(containerId);
  }
}
