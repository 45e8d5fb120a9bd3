import type { Migration } from '../migrations.ts';

/**
 * Images of BuildKit's builds have no parent that users see, as with Docker: what one was built on can be removed. What the
 * cache goes by is in `build_step`, which they stay in when they are shown.
 */
const sql = `
ALTER TABLE build_step ADD COLUMN parent TEXT;
ALTER TABLE build_step ADD COLUMN hidden INTEGER NOT NULL DEFAULT 1;
INSERT INTO build_step (image_id, hidden) SELECT id, 0 FROM image
  WHERE parent IN (SELECT image_id FROM build_step) AND id NOT IN (SELECT image_id FROM build_step);
UPDATE build_step SET parent = (SELECT parent FROM image WHERE id = image_id);
UPDATE image SET parent = NULL WHERE id IN (SELECT image_id FROM build_step);
CREATE INDEX build_step_parent ON build_step (parent);
`;

export const stepParents: Migration = { version: 14, name: 'step-parents', sql };
