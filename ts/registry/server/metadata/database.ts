/**
 * The registry's one SQLite database. Its connection holds the file exclusively for as long as the process lives: that is
 * also the lock of the root, which the kernel releases however the process ends.
 *
 * A commit survives the death of the process at once, and a power cut after `await durable()`: one fdatasync of the
 * write-ahead log, off the JS thread, for all who have committed before it began. (With `synchronous = FULL` each commit
 * would sync by itself and hold up every client meanwhile.)
 */
import { closeSync, existsSync, fdatasync, openSync } from 'node:fs';
import { join } from 'node:path';
import SqliteConnection, { type Database as Connection } from 'better-sqlite3';
import { CaissonError } from '../../../errdefs.ts';
import { SCHEMA } from './schema.ts';

export interface Statement<Params extends unknown[], Row> {
  run(...params: Params): { changes: number; lastInsertRowid: number | bigint };
  get(...params: Params): Row | undefined;
  all(...params: Params): Row[];
}

export class RegistryDatabase {
  readonly #connection: Connection;
  readonly #run: { immediate: (fn: () => unknown) => unknown };
  readonly #walFd: number;
  #closed = false;
  #syncing: Promise<void> | undefined;
  #nextSync: Promise<void> | undefined;

  /** Kind Conflict when another process serves this root. */
  constructor(root: string) {
    const path = join(root, 'registry.db');
    if (!existsSync(path)) closeSync(openSync(path, 'wx', 0o600));
    this.#connection = new SqliteConnection(path, { timeout: 0 });
    try {
      // Before WAL: with one exclusive connection no shared memory file is needed.
      this.#connection.pragma('locking_mode = EXCLUSIVE');
      this.#connection.pragma('journal_mode = WAL');
      this.#connection.pragma('synchronous = NORMAL');
      this.#connection.pragma('foreign_keys = ON');
      this.#connection.pragma('cache_size = -16384');
      this.#migrate(path);
      this.#walFd = openSync(`${path}-wal`, 'r');
    } catch (error) {
      this.#connection.close();
      if (error instanceof SqliteConnection.SqliteError && error.code.startsWith('SQLITE_BUSY'))
        throw new CaissonError('Conflict', `${root} is already served by another caisson registry`, {
          code: 'ROOT_IN_USE',
          hint: 'stop that one, or give this one a --root of its own',
          cause: error,
        });
      throw error;
    }
    const run = this.#connection.transaction((fn: () => unknown) => fn());
    this.#run = { immediate: (fn) => run.immediate(fn) };
  }

  prepare<Params extends unknown[], Row = unknown>(sql: string): Statement<Params, Row> {
    return this.#connection.prepare<Params, Row>(sql) as unknown as Statement<Params, Row>;
  }

  /** One write transaction; inside another one a part of that. */
  transaction<T>(fn: () => T): T {
    return this.#run.immediate(fn) as T;
  }

  /** Resolves when all that was committed before the call survives a power cut. */
  durable(): Promise<void> {
    if (this.#syncing === undefined) {
      this.#syncing = this.#sync();
      return this.#syncing;
    }
    // The one that is running may have begun before the caller's commit.
    this.#nextSync ??= this.#syncing
      .catch(() => undefined)
      .then(() => {
        this.#nextSync = undefined;
        this.#syncing = this.#sync();
        return this.#syncing;
      });
    return this.#nextSync;
  }

  /** Gives the memory of cached pages back. */
  shrink(): void {
    this.#connection.pragma('shrink_memory');
  }

  /** What is wrong with the pages, keys and counts; empty when sound. */
  errors(): string[] {
    const found = (this.#connection.pragma('integrity_check') as { integrity_check: string }[])
      .map((row) => row.integrity_check)
      .filter((line) => line !== 'ok');
    const keys = this.#connection.pragma('foreign_key_check') as { table: string; parent: string }[];
    const counts = this.prepare<[], { what: string }>(`
      SELECT 'links of ' || digest AS what FROM blob
        WHERE links <> (SELECT count(*) FROM repository_blob WHERE repository_blob.digest = blob.digest)
      UNION ALL
      SELECT 'uses of ' || digest || ' in ' || repository_id FROM repository_blob AS link
        WHERE uses <> (SELECT count(*) FROM reference WHERE reference.repository_id = link.repository_id
                         AND reference.digest = link.digest AND reference.kind = 'blob')`);
    return [
      ...found,
      ...keys.map((row) => `${row.table}: row without its ${row.parent}`),
      ...counts.all().map((row) => `wrong count: ${row.what}`),
    ];
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled([this.#syncing, this.#nextSync]);
    this.#connection.close();
    closeSync(this.#walFd);
  }

  #sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.#walFd, (error) => {
        this.#syncing = undefined;
        if (error === null) resolve();
        else
          reject(new CaissonError('DataLoss', `syncing the registry's database: ${error.message}`, { cause: error }));
      });
    });
  }

  #migrate(path: string): void {
    // An exclusive lock is taken by the first write only.
    this.#connection.exec('BEGIN EXCLUSIVE');
    try {
      const version = this.#connection.pragma('user_version', { simple: true }) as number;
      if (version > SCHEMA.length)
        throw new CaissonError(
          'System',
          `${path} has schema version ${version}, but this caisson knows up to ${SCHEMA.length}`,
          {
            code: 'SCHEMA_TOO_NEW',
            hint: 'start the caisson version that wrote it, or a newer one',
          },
        );
      for (const sql of SCHEMA.slice(version)) this.#connection.exec(sql);
      this.#connection.pragma(`user_version = ${SCHEMA.length}`);
      this.#connection.exec('COMMIT');
    } catch (error) {
      if (this.#connection.inTransaction) this.#connection.exec('ROLLBACK');
      throw error;
    }
  }
}
