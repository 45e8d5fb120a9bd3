/**
 * Worker thread: one checkpoint of the write-ahead log on a connection of its own, then the end. PASSIVE neither waits
 * for the writer nor makes it wait. The main thread's connection is always open while this runs, so closing here never
 * is the last close (which would delete the log).
 */
import { workerData } from 'node:worker_threads';
import SqliteConnection from 'better-sqlite3';

const connection = new SqliteConnection((workerData as { path: string }).path);
connection.pragma('wal_checkpoint(PASSIVE)');
connection.close();
