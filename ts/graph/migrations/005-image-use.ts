import type { Migration } from '../migrations.ts';

/** When a container of an image last came or went: what a storage budget removes first. Nobody can forget to write it. */
const NOW = "INSERT INTO image_use SELECT id, CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM image WHERE id =";
const THEN = 'ON CONFLICT (image_id) DO UPDATE SET used_ms = excluded.used_ms';
const sql = `
CREATE TABLE image_use (
  image_id TEXT PRIMARY KEY REFERENCES image (id) ON DELETE CASCADE,
  used_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER image_used AFTER INSERT ON container BEGIN ${NOW} NEW.image_id ${THEN}; END;
CREATE TRIGGER image_left AFTER DELETE ON container BEGIN ${NOW} OLD.image_id ${THEN}; END;
`;

export const imageUse: Migration = { version: 5, name: 'image-use', sql };
