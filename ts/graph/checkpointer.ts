/**
 * Worker thread: folds the write-ahead log on a connection of its own, then ends. PASSIVE neither waits for the writer nor
 * makes it wait, but the log starts over only when a checkpoint has caught up with the writer: under steady writing it
 * never would, so a log that has become large is finished with the write lock held, which is short for the frames that
 * are left. The main thread's connection is open while this runs, so closing here never is the last close (which would
 * delete the log).
 */
import { workerData } from 'node:worker_threads';
import SqliteConnection from 'better-sqlite3';

const { path, largeLogPages } = workerData as { path: string; largeLogPages: number };
const connection = new SqliteConnection(path);
const [result] = connection.pragma('wal_checkpoint(PASSIVE)') as { log: number; checkpointed: number }[];
if (result !== undefined && result.log > largeLogPages && result.checkpointed < result.log) {
  connection.pragma('wal_checkpoint(RESTART)');
}
connection.close();
