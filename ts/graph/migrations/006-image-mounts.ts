import type { Migration } from '../migrations.ts';

/** Images that a container mounts, beside the one that it is made from. */
const sql = `
CREATE TABLE image_mount (
  container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  image_id TEXT NOT NULL,
  chain_id TEXT NOT NULL REFERENCES layer (chain_id),
  PRIMARY KEY (container_id, image_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_mount_image ON image_mount (image_id);
CREATE INDEX image_mount_chain ON image_mount (chain_id);
`;

export const imageMounts: Migration = { version: 6, name: 'image-mounts', sql };
