import type { Migration } from '../migrations.ts';

/** Builds that are over, and what their records refer to by digest (logs, provenance). */
const sql = `
CREATE TABLE build_record (
  ref TEXT PRIMARY KEY,
  created_ms INTEGER NOT NULL,
  pinned INTEGER NOT NULL DEFAULT 0,
  record BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE build_blob (
  digest TEXT NOT NULL,
  ref TEXT NOT NULL REFERENCES build_record (ref) ON DELETE CASCADE,
  data BLOB NOT NULL,
  PRIMARY KEY (ref, digest)
) STRICT;
CREATE INDEX build_blob_digest ON build_blob (digest);
`;

export const buildRecords: Migration = { version: 13, name: 'build-records', sql };
