import { CaissonError } from '../errdefs.ts';
import type { Database, Statement } from './db.ts';

export interface ExecRow {
  /** 64 hex digits. */
  id: string;
  containerId: string;
  /** JSON, the engine's. */
  config: string;
  status: 'created' | 'running' | 'exited';
  pid: number;
  exitCode: number | null;
  createdMs: number;
}

const COLUMNS = 'id, container_id AS containerId, config, status, pid, exit_code AS exitCode, created_ms AS createdMs';

export class ExecStore {
  readonly #insert: Statement<[ExecRow], never>;
  readonly #get: Statement<[string], ExecRow>;
  readonly #of: Statement<[string], ExecRow>;
  readonly #update: Statement<[ExecRow], never>;
  readonly #deleteUnstarted: Statement<[string], never>;
  readonly #deleteExited: Statement<[number], never>;

  constructor(db: Database) {
    this.#insert = db.prepare(
      'INSERT INTO exec VALUES (@id, @containerId, @config, @status, @pid, @exitCode, @createdMs)',
    );
    this.#get = db.prepare(`SELECT ${COLUMNS} FROM exec WHERE id = ?`);
    this.#of = db.prepare(`SELECT ${COLUMNS} FROM exec WHERE container_id = ?`);
    this.#update = db.prepare('UPDATE exec SET status = @status, pid = @pid, exit_code = @exitCode WHERE id = @id');
    this.#deleteUnstarted = db.prepare("DELETE FROM exec WHERE status = 'created' AND container_id = ?");
    this.#deleteExited = db.prepare("DELETE FROM exec WHERE status = 'exited' AND created_ms < ?");
  }

  insert(exec: ExecRow): void {
    this.#insert.run(exec);
  }

  get(id: string): ExecRow | undefined {
    return this.#get.get(id);
  }

  /** Kind NotFound with Docker's text. */
  resolve(id: string): ExecRow {
    const exec = this.#get.get(id);
    if (exec === undefined) {
      throw new CaissonError('NotFound', `No such exec instance: ${id}`, { code: 'EXEC_NOT_FOUND' });
    }
    return exec;
  }

  of(containerId: string): ExecRow[] {
    // sorted here: SQLite takes longer to make its sorter ready than for all the rest
    return this.#of.all(containerId).sort((a, b) => a.createdMs - b.createdMs || (a.id < b.id ? -1 : 1));
  }

  /** Changes only the fields given. */
  update(id: string, patch: Partial<Pick<ExecRow, 'status' | 'pid' | 'exitCode'>>): void {
    this.#update.run({ ...this.resolve(id), ...patch });
  }

  /** The container has stopped: an exec is for the run that it was created in. */
  deleteUnstarted(containerId: string): void {
    this.#deleteUnstarted.run(containerId);
  }

  /** Exited ones made before that moment. */
  deleteExited(beforeMs: number): void {
    this.#deleteExited.run(beforeMs);
  }
}
