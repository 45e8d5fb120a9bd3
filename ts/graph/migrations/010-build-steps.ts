import type { Migration } from '../migrations.ts';

/** Images that BuildKit's builds made on the way: their cache, which users do not see among their images. */
const sql = `
CREATE TABLE build_step (
  image_id TEXT PRIMARY KEY REFERENCES image (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
`;

export const buildSteps: Migration = { version: 10, name: 'build-steps', sql };
