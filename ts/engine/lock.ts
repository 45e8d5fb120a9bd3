/**
 * One daemon per data-root and per exec-root. Node has no flock, but SQLite takes POSIX locks: an exclusive transaction
 * that stays open on an empty database is a lock file, which the kernel releases when its process ends, however it ends.
 */
import { join } from 'node:path';
import SqliteConnection from 'better-sqlite3';
import { CaissonError } from '../errdefs.ts';

export interface RootLock {
  release(): void;
}

/** Fails at once, without waiting, when another process holds it; nothing else in the directory is touched. */
export function lockRoot(root: string): RootLock {
  const connection = new SqliteConnection(join(root, 'lock.db'), { timeout: 0 });
  try {
    connection.pragma('journal_mode = MEMORY');
    connection.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    connection.close();
    if (error instanceof SqliteConnection.SqliteError && error.code.startsWith('SQLITE_BUSY'))
      throw new CaissonError('Conflict', `${root} is already in use by another caisson daemon`, {
        code: 'ROOT_IN_USE',
        hint: 'stop that daemon, or give this one its own --data-root and --exec-root',
        cause: error,
      });
    throw error;
  }
  return { release: () => connection.close() };
}
