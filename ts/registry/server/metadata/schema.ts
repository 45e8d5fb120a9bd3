/**
 * What the registry knows of its blobs, in `<root>/registry.db`. Triggers keep the counts, so that garbage is found by
 * looking at what counts 0, not by walking all that lives:
 *
 *   manifest ──< reference >── repository_blob (uses: references of this repository) ──> blob (links: repositories)
 *
 * A blob without links goes; a link without uses goes after a grace time, in which a push may still name it.
 * A released schema is never edited: a change is a further entry.
 */
export const SCHEMA: readonly string[] = [
  `
CREATE TABLE repository (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

-- A row promises a whole file.
CREATE TABLE blob (
  digest TEXT PRIMARY KEY,
  size_bytes INTEGER NOT NULL,
  links INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_unlinked ON blob (digest) WHERE links = 0;

-- The blobs that a repository shows.
CREATE TABLE repository_blob (
  repository_id INTEGER NOT NULL REFERENCES repository (id),
  digest TEXT NOT NULL REFERENCES blob (digest),
  uses INTEGER NOT NULL,
  idle_since_ms INTEGER NOT NULL,
  PRIMARY KEY (repository_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blob_digest ON repository_blob (digest);
CREATE INDEX repository_blob_idle ON repository_blob (idle_since_ms) WHERE uses = 0;

CREATE TABLE manifest (
  id INTEGER PRIMARY KEY,
  repository_id INTEGER NOT NULL REFERENCES repository (id),
  digest TEXT NOT NULL,
  media_type TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  subject TEXT,
  artifact_type TEXT,
  annotations TEXT,
  -- since when no tag names it; or when it was last asked for, in a repository of an upstream
  idle_since_ms INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  UNIQUE (repository_id, digest)
) STRICT;
CREATE INDEX manifest_digest ON manifest (digest);
CREATE INDEX manifest_subject ON manifest (repository_id, subject, digest) WHERE subject IS NOT NULL;

CREATE TABLE reference (
  manifest_id INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
  repository_id INTEGER NOT NULL REFERENCES repository (id),
  kind TEXT NOT NULL CHECK (kind IN ('blob', 'manifest')),
  digest TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  PRIMARY KEY (manifest_id, kind, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX reference_digest ON reference (repository_id, digest, kind);

CREATE TABLE tag (
  repository_id INTEGER NOT NULL REFERENCES repository (id),
  name TEXT NOT NULL,
  manifest_id INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
  updated_ms INTEGER NOT NULL,
  PRIMARY KEY (repository_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_manifest ON tag (manifest_id);

CREATE TABLE upload (
  id TEXT PRIMARY KEY,
  repository TEXT NOT NULL,
  algorithm TEXT NOT NULL,
  started_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER link_made AFTER INSERT ON repository_blob BEGIN
  UPDATE blob SET links = links + 1 WHERE digest = NEW.digest;
END;
CREATE TRIGGER link_gone AFTER DELETE ON repository_blob BEGIN
  UPDATE blob SET links = links - 1 WHERE digest = OLD.digest;
END;
CREATE TRIGGER reference_made AFTER INSERT ON reference WHEN NEW.kind = 'blob' BEGIN
  UPDATE repository_blob SET uses = uses + 1 WHERE repository_id = NEW.repository_id AND digest = NEW.digest;
END;
CREATE TRIGGER reference_gone AFTER DELETE ON reference WHEN OLD.kind = 'blob' BEGIN
  UPDATE repository_blob SET uses = uses - 1, idle_since_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)
  WHERE repository_id = OLD.repository_id AND digest = OLD.digest;
END;
CREATE TRIGGER tag_gone AFTER DELETE ON tag BEGIN
  UPDATE manifest SET idle_since_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) WHERE id = OLD.manifest_id;
END;
CREATE TRIGGER tag_moved AFTER UPDATE OF manifest_id ON tag WHEN OLD.manifest_id <> NEW.manifest_id BEGIN
  UPDATE manifest SET idle_since_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) WHERE id = OLD.manifest_id;
END;
`,
];
