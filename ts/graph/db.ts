/**
 * The one SQLite database of an engine: `<data>/graph.db` with its `-wal` and `-shm`.
 *
 * One writer connection, used synchronously on the JS thread. A commit survives the death of the process at once; it
 * survives a power cut after `await durable()`. The write-ahead log is folded into the database by a worker thread, so a
 * commit never pays for a checkpoint.
 *
 * POSIX locks belong to the process, and closing *any* descriptor of a file drops them all: nothing but SQLite may open
 * and close `graph.db` or `graph.db-shm`. The `-wal` file carries no locks; it is opened once for fdatasync.
 */
import { closeSync, existsSync, fdatasync, fsyncSync, openSync, statSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import SqliteConnection, { type Database as Connection } from 'better-sqlite3';
import { CaissonError } from '../errdefs.ts';
import { type Migration, migrate } from './migrations.ts';

/** A prepared statement whose parameters and rows are typed by the caller. */
export interface Statement<Params extends unknown[], Row> {
  run(...params: Params): { changes: number; lastInsertRowid: number | bigint };
  get(...params: Params): Row | undefined;
  all(...params: Params): Row[];
  iterate(...params: Params): IterableIterator<Row>;
}

export interface DatabaseOptions {
  /** For tests of the migrations. */
  migrations?: readonly Migration[];
  /** Number of commits after which the worker folds the log into the database. */
  checkpointAfterCommits?: number;
}

/** About 5 pages a commit: the log stays below some 20 MB. */
const CHECKPOINT_COMMITS = 1000;
/** A log found larger than this at opening is folded soon. */
const CHECKPOINT_AT_OPEN_BYTES = 4 * 1024 * 1024;

/** 40 MB: twice what a fold finds when it keeps up. */
const LARGE_LOG_PAGES = 10_000;

export class Database {
  readonly path: string;
  readonly #connection: Connection;
  readonly #begin: SqliteConnection.Statement;
  readonly #commit: SqliteConnection.Statement;
  readonly #run: { immediate: (fn: () => unknown) => unknown };
  readonly #walFd: number;
  readonly #checkpointAfter: number;
  #afterCommit: (() => void)[] = [];
  #commits = 0;
  #checkpointing: Promise<void> | undefined;
  #syncing: Promise<void> | undefined;
  #nextSync: Promise<void> | undefined;
  #closed = false;

  constructor(path: string, options: DatabaseOptions = {}) {
    this.path = path;
    this.#checkpointAfter = options.checkpointAfterCommits ?? CHECKPOINT_COMMITS;
    // Private from its first moment on; SQLite gives -wal and -shm the same mode.
    if (!existsSync(path)) closeSync(openSync(path, 'wx', 0o600));
    const connection = new SqliteConnection(path);
    this.#connection = connection;
    try {
      connection.pragma('journal_mode = WAL');
      connection.pragma('synchronous = NORMAL');
      connection.pragma('wal_autocheckpoint = 0');
      connection.pragma('journal_size_limit = 33554432');
      connection.pragma('foreign_keys = ON');
      connection.pragma('temp_store = MEMORY');
      migrate(connection, options.migrations);
      // Migrating has read the database: the log file exists from here until the last connection closes.
      this.#walFd = openSync(`${path}-wal`, 'r');
    } catch (error) {
      connection.close();
      throw asDatabaseError(error, path);
    }
    syncDirectory(dirname(path));
    if (statSync(`${path}-wal`).size > CHECKPOINT_AT_OPEN_BYTES) this.#commits = this.#checkpointAfter;
    const run = connection.transaction((fn: () => unknown) => fn());
    this.#begin = connection.prepare('BEGIN');
    this.#commit = connection.prepare('COMMIT');
    this.#run = { immediate: (fn) => run.immediate(fn) };
  }

  /** Prepares once; keep the statement. Integers are numbers; with `bigint` they are bigints. */
  prepare<Params extends unknown[], Row = unknown>(sql: string, integers: 'number' | 'bigint' = 'number') {
    const statement = this.#connection.prepare<Params, Row>(sql);
    if (integers === 'bigint') statement.safeIntegers(true);
    const typed = statement as unknown as Statement<Params, Row>;
    const run = typed.run.bind(statement);
    typed.run = (...params) => {
      const result = run(...params);
      // Outside a transaction the statement was one of its own.
      if (!this.#connection.inTransaction) this.#committed();
      return result;
    };
    return typed;
  }

  /**
   * Runs `fn` (synchronous) in one write transaction and commits; a throw rolls back. Inside another transaction it is a
   * savepoint of that one. Survives SIGKILL when it returns; a power cut only after `durable()`.
   */
  transaction<T>(fn: () => T): T {
    const callbacks = this.#afterCommit.length;
    let result: T;
    try {
      result = this.#run.immediate(fn) as T;
    } catch (error) {
      this.#afterCommit.length = callbacks;
      throw asDatabaseError(error, this.path);
    }
    if (!this.#connection.inTransaction) this.#committed();
    return result;
  }

  /** `fn` (synchronous) reads several times and writes nothing: SQLite takes and gives its locks once. */
  read<T>(fn: () => T): T {
    if (this.#connection.inTransaction) return fn();
    this.#begin.run();
    try {
      return fn();
    } finally {
      this.#commit.run();
    }
  }

  /** Calls `fn` once the outermost transaction has committed, or never if it is rolled back; at once when there is none. */
  afterCommit(fn: () => void): void {
    if (this.#connection.inTransaction) this.#afterCommit.push(fn);
    else fn();
  }

  /**
   * Calls `fn` with that column of every row of the table that is inserted, changed or deleted from now on, by a foreign
   * key too. It is called inside the transaction, which may still be rolled back: `fn` must not use the database.
   */
  watch(table: string, column: string, fn: (value: string) => void): void {
    const name = `watch_${table}`;
    this.#connection.function(name, (value: string) => {
      fn(value);
      return null;
    });
    for (const [event, row] of [
      ['INSERT', 'NEW'],
      ['UPDATE', 'NEW'],
      ['DELETE', 'OLD'],
    ]) {
      this.#connection.exec(
        `CREATE TEMP TRIGGER ${name}_${event} AFTER ${event} ON main.${table} BEGIN SELECT ${name}(${row}.${column}); END`,
      );
    }
  }

  /**
   * Resolves when every transaction committed before the call survives a power cut. One fdatasync serves all who wait:
   * a caller that comes while one is running shares the next.
   */
  durable(): Promise<void> {
    if (this.#syncing === undefined) {
      this.#syncing = this.#fdatasync();
      return this.#syncing;
    }
    this.#nextSync ??= this.#syncing
      .catch(() => undefined)
      .then(() => {
        this.#nextSync = undefined;
        this.#syncing = this.#fdatasync();
        return this.#syncing;
      });
    return this.#nextSync;
  }

  /** Folds the write-ahead log into the database on a worker thread. */
  checkpoint(): Promise<void> {
    this.#checkpointing ??= this.#startCheckpoint();
    return this.#checkpointing;
  }

  /** What SQLite finds wrong: pages, indexes and foreign keys. Empty when sound. Reads the whole database. */
  integrityErrors(): string[] {
    const found = (this.#connection.pragma('integrity_check') as { integrity_check: string }[])
      .map((row) => row.integrity_check)
      .filter((line) => line !== 'ok');
    const keys = this.#connection.pragma('foreign_key_check') as { table: string; parent: string; rowid: unknown }[];
    return [...found, ...keys.map((row) => `${row.table}: row without its ${row.parent}`)];
  }

  schemaVersion(): number {
    return this.#connection.pragma('user_version', { simple: true }) as number;
  }

  /** Waits for what is under way, then closes; the last close folds the log. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled([this.#checkpointing, this.#syncing, this.#nextSync]);
    this.#connection.close();
    closeSync(this.#walFd);
  }

  #committed(): void {
    this.#commits++;
    if (this.#commits >= this.#checkpointAfter && this.#checkpointing === undefined && !this.#closed) {
      // A failed checkpoint loses nothing: the log grows and the next one is tried after as many commits.
      this.checkpoint().catch(() => undefined);
    }
    if (this.#afterCommit.length === 0) return;
    const callbacks = this.#afterCommit;
    this.#afterCommit = [];
    for (const callback of callbacks) callback();
  }

  #fdatasync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.#walFd, (error) => {
        this.#syncing = undefined;
        if (error === null) resolve();
        else reject(new CaissonError('DataLoss', `syncing ${this.path}-wal: ${error.message}`, { cause: error }));
      });
    });
  }

  #startCheckpoint(): Promise<void> {
    this.#commits = 0;
    const script = new URL(`./checkpointer${extname(import.meta.url)}`, import.meta.url);
    return new Promise<void>((resolve, reject) => {
      const worker = new Worker(script, { workerData: { path: this.path, largeLogPages: LARGE_LOG_PAGES } });
      worker.once('error', reject);
      worker.once('exit', () => resolve());
    }).finally(() => {
      this.#checkpointing = undefined;
    });
  }
}

/** Makes the directory's entries (a file made or renamed in it) survive a power cut. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** True when a statement failed because that column's value is taken, for example `container.name`. */
export function isTaken(error: unknown, column: string): boolean {
  return (
    error instanceof SqliteConnection.SqliteError &&
    (error.code === 'SQLITE_CONSTRAINT_UNIQUE' || error.code === 'SQLITE_CONSTRAINT_PRIMARYKEY') &&
    error.message.split(': ')[1]?.split(', ').includes(column) === true
  );
}

/** True when a statement failed because a row that it refers to is not there. */
export const isUnmet = (error: unknown): boolean =>
  error instanceof SqliteConnection.SqliteError && error.code === 'SQLITE_CONSTRAINT_FOREIGNKEY';

function asDatabaseError(error: unknown, path: string): unknown {
  if (!(error instanceof SqliteConnection.SqliteError)) return error;
  if (error.code.startsWith('SQLITE_CONSTRAINT')) return error;
  const kind = error.code === 'SQLITE_CORRUPT' || error.code === 'SQLITE_NOTADB' ? 'DataLoss' : 'System';
  const reason = error.code === 'SQLITE_FULL' ? 'no space left on device' : error.message;
  return new CaissonError(kind, `database ${path}: ${reason}`, { code: error.code, cause: error });
}
