import { CaissonError } from '../errdefs.ts';
import { type Database, isTaken, isUnmet, type Statement } from './db.ts';
import { isHexPrefix, PrefixLookup } from './lookup.ts';

export type ContainerStatus = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';

/** What changes while a container lives. */
export interface ContainerState {
  status: ContainerStatus;
  /** Of init; 0 when there is none. A pid is only meant together with its start time and `bootId`. */
  pid: number;
  pidStart: number;
  shimPid: number;
  shimStart: number;
  /** Boot in which the pids were true. */
  bootId: string;
  exitCode: number;
  error: string;
  oomKilled: boolean;
  /** RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z`: never. */
  startedAt: string;
  finishedAt: string;
  restartCount: number;
  /** Stopped by a user: `unless-stopped` does not start it again. */
  manuallyStopped: boolean;
  /** JSON of the health check's state; null without one. */
  health: string | null;
}

/** What is chosen at create. The JSON columns are the engine's: the graph does not look into them. */
export interface ContainerDefinition {
  /** 64 hex digits. */
  id: string;
  /** Without the leading slash. */
  name: string;
  imageId: string;
  /** As the user named the image. */
  imageName: string;
  /** Top of its lower layers; null for an image without layers. */
  chainId: string | null;
  created: string;
  config: string;
  hostConfig: string;
  detail: string;
}

export type ContainerRow = ContainerDefinition & ContainerState;

export const NEVER = '0001-01-01T00:00:00Z';

export const CREATED_STATE: ContainerState = {
  status: 'created',
  pid: 0,
  pidStart: 0,
  shimPid: 0,
  shimStart: 0,
  bootId: '',
  exitCode: 0,
  error: '',
  oomKilled: false,
  startedAt: NEVER,
  finishedAt: NEVER,
  restartCount: 0,
  manuallyStopped: false,
  health: null,
};

/** As SQLite holds it: booleans as 0 and 1. */
type Stored = Omit<ContainerRow, 'oomKilled' | 'manuallyStopped'> & { oomKilled: number; manuallyStopped: number };

const COLUMNS =
  'id, name, image_id AS imageId, image_name AS imageName, chain_id AS chainId, created, config, ' +
  'host_config AS hostConfig, detail, status, pid, pid_start AS pidStart, shim_pid AS shimPid, shim_start AS shimStart, ' +
  'boot_id AS bootId, exit_code AS exitCode, error, oom_killed AS oomKilled, started_at AS startedAt, ' +
  'finished_at AS finishedAt, restart_count AS restartCount, manually_stopped AS manuallyStopped, health';

const load = (row: Stored): ContainerRow => ({
  ...row,
  oomKilled: row.oomKilled === 1,
  manuallyStopped: row.manuallyStopped === 1,
});

const store = (row: ContainerRow): Stored => ({
  ...row,
  oomKilled: row.oomKilled ? 1 : 0,
  manuallyStopped: row.manuallyStopped ? 1 : 0,
});

export class ContainerStore {
  readonly #prefix: PrefixLookup;
  readonly #insert: Statement<[Stored], never>;
  readonly #get: Statement<[string], Stored>;
  readonly #byName: Statement<[string], Stored>;
  readonly #byLink: Statement<[string, string], Stored>;
  readonly #all: Statement<[], Stored>;
  readonly #ids: Statement<[], { id: string }>;
  readonly #byImage: Statement<[{ id: string }], { id: string }>;
  readonly #mountImage: Statement<[string, string, string], never>;
  readonly #updateState: Statement<[Stored], never>;
  readonly #updateDefinition: Statement<[Stored], never>;
  readonly #rename: Statement<[string, string], never>;
  readonly #delete: Statement<[string], never>;

  constructor(db: Database) {
    this.#prefix = new PrefixLookup(db, 'container', 'id');
    this.#insert = db.prepare(`
      INSERT INTO container VALUES (@id, @name, @imageId, @imageName, @chainId, @created, @config, @hostConfig, @detail,
        @status, @pid, @pidStart, @shimPid, @shimStart, @bootId, @exitCode, @error, @oomKilled, @startedAt, @finishedAt,
        @restartCount, @manuallyStopped, @health)`);
    this.#get = db.prepare(`SELECT ${COLUMNS} FROM container WHERE id = ?`);
    this.#byName = db.prepare(`SELECT ${COLUMNS} FROM container WHERE name = ?`);
    this.#byLink = db.prepare(`
      SELECT ${COLUMNS} FROM container WHERE id =
        (SELECT target_id FROM container_link JOIN container AS owner ON owner.id = owner_id WHERE owner.name = ? AND alias = ?)`);
    this.#all = db.prepare(`SELECT ${COLUMNS} FROM container ORDER BY created DESC, id`);
    this.#ids = db.prepare('SELECT id FROM container ORDER BY created DESC, id');
    this.#byImage = db.prepare(`
      SELECT id FROM container WHERE image_id = @id
      UNION SELECT container_id FROM image_mount WHERE image_id = @id ORDER BY id`);
    this.#mountImage = db.prepare('INSERT OR IGNORE INTO image_mount VALUES (?, ?, ?)');
    this.#updateState = db.prepare(`
      UPDATE container SET status = @status, pid = @pid, pid_start = @pidStart, shim_pid = @shimPid,
        shim_start = @shimStart, boot_id = @bootId, exit_code = @exitCode, error = @error, oom_killed = @oomKilled,
        started_at = @startedAt, finished_at = @finishedAt, restart_count = @restartCount,
        manually_stopped = @manuallyStopped, health = @health
      WHERE id = @id`);
    this.#updateDefinition = db.prepare(
      'UPDATE container SET config = @config, host_config = @hostConfig, detail = @detail WHERE id = @id',
    );
    this.#rename = db.prepare('UPDATE container SET name = ? WHERE id = ?');
    this.#delete = db.prepare('DELETE FROM container WHERE id = ?');
  }

  /** Kind Conflict, with Docker's text, when the name is taken; NotFound when its image's layers have been removed. */
  insert(definition: ContainerDefinition, state: ContainerState = CREATED_STATE): void {
    try {
      this.#unlessTaken(definition.name, () => this.#insert.run(store({ ...definition, ...state })));
    } catch (error) {
      if (!isUnmet(error)) throw error;
      throw new CaissonError('NotFound', `No such image: ${definition.imageName}`, { code: 'IMAGE_NOT_FOUND' });
    }
  }

  get(id: string): ContainerRow | undefined {
    const row = this.#get.get(id);
    return row === undefined ? undefined : load(row);
  }

  /**
   * By full id, then by name (with or without the leading slash) or that of a link (`owner/alias`), then by prefix of the
   * id: Docker's order. Kind NotFound
   * or InvalidParameter (several) with Docker's texts.
   */
  resolve(idOrName: string): ContainerRow {
    if (idOrName === '') throw new CaissonError('InvalidParameter', 'no container name or ID supplied');
    const name = idOrName.startsWith('/') ? idOrName.slice(1) : idOrName;
    const [owner = '', alias] = name.split('/');
    const row =
      this.#get.get(idOrName) ?? (alias === undefined ? this.#byName.get(name) : this.#byLink.get(owner, alias));
    if (row !== undefined) return load(row);
    const [first, second] = isHexPrefix(idOrName) ? this.#prefix.find(idOrName) : [];
    if (second !== undefined) {
      throw new CaissonError('InvalidParameter', `multiple IDs found with provided prefix: ${idOrName}`);
    }
    const found = first === undefined ? undefined : this.#get.get(first);
    if (found === undefined) {
      throw new CaissonError('NotFound', `No such container: ${idOrName}`, { code: 'CONTAINER_NOT_FOUND' });
    }
    return load(found);
  }

  byName(name: string): ContainerRow | undefined {
    const row = this.#byName.get(name);
    return row === undefined ? undefined : load(row);
  }

  /** The newest first. */
  all(): ContainerRow[] {
    return this.#all.all().map(load);
  }

  /** The newest first. */
  ids(): string[] {
    return this.#ids.all().map(({ id }) => id);
  }

  /** Ids of the containers made from an image, or that mount it. */
  usingImage(imageId: string): string[] {
    return this.#byImage.all({ id: imageId }).map((row) => row.id);
  }

  /** The image and its layers are kept for as long as the container is there. */
  mountImage(id: string, imageId: string, chainId: string): void {
    this.#mountImage.run(id, imageId, chainId);
  }

  /** Changes only the fields given; returns the row as it now is. Kind NotFound when the container has gone. */
  updateState(id: string, patch: Partial<ContainerState>): ContainerRow {
    const row = { ...this.#existing(id), ...patch };
    this.#updateState.run(store(row));
    return row;
  }

  updateDefinition(id: string, patch: Partial<Pick<ContainerDefinition, 'config' | 'hostConfig' | 'detail'>>): void {
    this.#updateDefinition.run(store({ ...this.#existing(id), ...patch }));
  }

  /** Kind Conflict when the name is taken. */
  rename(id: string, name: string): void {
    this.#unlessTaken(name, () => this.#rename.run(name, id));
  }

  /** Takes its endpoints, ports, execs and volume references along. */
  delete(id: string): void {
    this.#delete.run(id);
  }

  #existing(id: string): ContainerRow {
    const row = this.get(id);
    if (row === undefined) {
      throw new CaissonError('NotFound', `No such container: ${id}`, { code: 'CONTAINER_NOT_FOUND' });
    }
    return row;
  }

  #unlessTaken(name: string, write: () => void): void {
    try {
      write();
    } catch (error) {
      const holder = isTaken(error, 'container.name') ? this.#byName.get(name) : undefined;
      if (holder === undefined) throw error;
      throw new CaissonError(
        'Conflict',
        `Conflict. The container name "/${name}" is already in use by container "${holder.id}". You have to remove (or rename) that container to be able to reuse that name.`,
        { code: 'NAME_IN_USE' },
      );
    }
  }
}
