import type { Migration } from '../migrations.ts';

/**
 * A layer need not keep the blob that it came in: what is known is where to fetch it again. `digest` is a blob that unpacks
 * to the layer, `repository` one that had it (`docker.io/library/busybox`).
 */
const sql = `
ALTER TABLE layer ADD COLUMN keeps_blob INTEGER NOT NULL DEFAULT 1;
CREATE TABLE layer_source (
  chain_id TEXT NOT NULL REFERENCES layer (chain_id) ON DELETE CASCADE,
  digest TEXT NOT NULL,
  repository TEXT NOT NULL,
  PRIMARY KEY (chain_id, digest, repository)
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_source_digest ON layer_source (digest);
`;

export const layerSources: Migration = { version: 7, name: 'layer-sources', sql };
