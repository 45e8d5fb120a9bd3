import type { Migration } from '../migrations.ts';

/**
 * What volume plugins have been asked to mount, under the `id` of this one use. A row is there before the plugin is asked
 * (`path` is empty then) and until it has unmounted, whatever becomes of the container.
 */
const sql = `
CREATE TABLE volume_mount (
  id TEXT PRIMARY KEY,
  container_id TEXT NOT NULL,
  driver TEXT NOT NULL,
  volume_name TEXT NOT NULL,
  path TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_mount_container ON volume_mount (container_id);
`;

export const volumeMounts: Migration = { version: 8, name: 'volume-mounts', sql };
