import type { Migration } from '../migrations.ts';

/*
 * The graph:
 *
 *   blob                       files of the content store, by digest
 *   layer ── parent ─► layer   unpacked layers by chain ID; cache_id names the directory
 *   image ─► image_layer ─► layer        base layer at position 0
 *     │  └─► image_blob ─► blob          manifest, index, config (and layers, where kept): what keeps a blob alive
 *   reference ─► image         tags and digests, normalised names
 *   container ─► layer         chain_id: top of its lower layers, also when the image has gone
 *     ├─ endpoint ─► network   one row per attachment; the address is unique in its network while it has one
 *     ├─ port                  a published port, unique on the host
 *     ├─ container_volume ─► volume
 *     └─ exec
 *   lease ── lease_resource    keeps blobs and layers of an operation under way from the garbage collector
 *   event                      what `docker events` replays
 *   job ── claim               operations under way; a claim is a lock or a name taken
 *   meta                       single values
 *
 * Booleans are 0 or 1; columns that end in _ms are milliseconds since the epoch; `created`, `started_at` and
 * `finished_at` are RFC 3339 with nanoseconds as the API shows them; JSON is TEXT.
 */
const sql = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
  digest TEXT PRIMARY KEY,
  size_bytes INTEGER NOT NULL,
  media_type TEXT NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE layer (
  chain_id TEXT PRIMARY KEY,
  diff_id TEXT NOT NULL,
  parent TEXT REFERENCES layer (chain_id),
  cache_id TEXT NOT NULL UNIQUE,
  size_bytes INTEGER NOT NULL,
  blob_digest TEXT,
  blob_size_bytes INTEGER,
  blob_media_type TEXT,
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_parent ON layer (parent);
CREATE INDEX layer_blob ON layer (blob_digest);

CREATE TABLE image (
  id TEXT PRIMARY KEY,
  config TEXT NOT NULL,
  manifest_digest TEXT,
  size_bytes INTEGER NOT NULL,
  parent TEXT,
  created_ms INTEGER NOT NULL,
  tagged_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE image_layer (
  image_id TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  chain_id TEXT NOT NULL REFERENCES layer (chain_id),
  PRIMARY KEY (image_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layer_chain ON image_layer (chain_id);

CREATE TABLE image_blob (
  image_id TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
  digest TEXT NOT NULL REFERENCES blob (digest),
  PRIMARY KEY (image_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_blob_digest ON image_blob (digest);

CREATE TABLE reference (
  name TEXT PRIMARY KEY,
  repository TEXT NOT NULL,
  tag TEXT,
  digest TEXT,
  image_id TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
  CHECK ((tag IS NULL) <> (digest IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX reference_image ON reference (image_id);

CREATE TABLE container (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  image_id TEXT NOT NULL,
  image_name TEXT NOT NULL,
  chain_id TEXT REFERENCES layer (chain_id),
  created TEXT NOT NULL,
  config TEXT NOT NULL,
  host_config TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '{}',
  status TEXT NOT NULL CHECK (status IN ('created','running','paused','restarting','removing','exited','dead')),
  pid INTEGER NOT NULL DEFAULT 0,
  pid_start INTEGER NOT NULL DEFAULT 0,
  shim_pid INTEGER NOT NULL DEFAULT 0,
  shim_start INTEGER NOT NULL DEFAULT 0,
  boot_id TEXT NOT NULL DEFAULT '',
  exit_code INTEGER NOT NULL DEFAULT 0,
  error TEXT NOT NULL DEFAULT '',
  oom_killed INTEGER NOT NULL DEFAULT 0,
  started_at TEXT NOT NULL DEFAULT '0001-01-01T00:00:00Z',
  finished_at TEXT NOT NULL DEFAULT '0001-01-01T00:00:00Z',
  restart_count INTEGER NOT NULL DEFAULT 0,
  manually_stopped INTEGER NOT NULL DEFAULT 0,
  health TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX container_image ON container (image_id);
CREATE INDEX container_chain ON container (chain_id);
CREATE INDEX container_status ON container (status);

CREATE TABLE network (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  driver TEXT NOT NULL,
  bridge TEXT UNIQUE,
  subnet TEXT,
  gateway TEXT,
  ip_range TEXT,
  internal INTEGER NOT NULL DEFAULT 0,
  attachable INTEGER NOT NULL DEFAULT 0,
  options TEXT NOT NULL DEFAULT '{}',
  labels TEXT NOT NULL DEFAULT '{}',
  detail TEXT NOT NULL DEFAULT '{}',
  created TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoint (
  id TEXT PRIMARY KEY,
  container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  network_id TEXT NOT NULL REFERENCES network (id),
  interface TEXT NOT NULL,
  host_name TEXT UNIQUE,
  mac TEXT,
  address TEXT,
  prefix_length INTEGER,
  gateway TEXT,
  aliases TEXT NOT NULL DEFAULT '[]',
  config TEXT NOT NULL DEFAULT '{}',
  UNIQUE (container_id, network_id),
  UNIQUE (network_id, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE port (
  proto TEXT NOT NULL,
  host_ip TEXT NOT NULL,
  host_port INTEGER NOT NULL,
  container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  container_ip TEXT NOT NULL,
  container_port INTEGER NOT NULL,
  PRIMARY KEY (proto, host_ip, host_port)
) STRICT, WITHOUT ROWID;
CREATE INDEX port_container ON port (container_id);

CREATE TABLE volume (
  name TEXT PRIMARY KEY,
  driver TEXT NOT NULL,
  mountpoint TEXT NOT NULL,
  anonymous INTEGER NOT NULL,
  options TEXT NOT NULL DEFAULT '{}',
  labels TEXT NOT NULL DEFAULT '{}',
  created TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE container_volume (
  container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  destination TEXT NOT NULL,
  volume_name TEXT NOT NULL REFERENCES volume (name),
  PRIMARY KEY (container_id, destination)
) STRICT, WITHOUT ROWID;
CREATE INDEX container_volume_name ON container_volume (volume_name);

CREATE TABLE exec (
  id TEXT PRIMARY KEY,
  container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  config TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('created','running','exited')),
  pid INTEGER NOT NULL DEFAULT 0,
  exit_code INTEGER,
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX exec_container ON exec (container_id);

CREATE TABLE lease (
  id TEXT PRIMARY KEY,
  purpose TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE lease_resource (
  lease_id TEXT NOT NULL REFERENCES lease (id) ON DELETE CASCADE,
  kind TEXT NOT NULL CHECK (kind IN ('blob','layer')),
  key TEXT NOT NULL,
  PRIMARY KEY (lease_id, kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_resource_key ON lease_resource (kind, key);

CREATE TABLE event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  time_ns INTEGER NOT NULL,
  type TEXT NOT NULL,
  action TEXT NOT NULL,
  actor_id TEXT NOT NULL,
  attributes TEXT NOT NULL
) STRICT;

CREATE TABLE job (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  plan TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT '{}',
  step INTEGER NOT NULL DEFAULT 0,
  direction TEXT NOT NULL DEFAULT 'do' CHECK (direction IN ('do','undo')),
  boot_id TEXT NOT NULL,
  error TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE claim (
  resource TEXT PRIMARY KEY,
  job_id TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_job ON claim (job_id);
`;

export const initial: Migration = { version: 1, name: 'initial', sql };
