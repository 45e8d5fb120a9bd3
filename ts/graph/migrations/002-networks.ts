import type { Migration } from '../migrations.ts';

/*
 * Networks of both families, and endpoints that outlive their network: a container that is stopped may keep one on a
 * network that was removed meanwhile, and says so when it is started. `network_name` is what the user called it;
 * `leads_out` marks the endpoint that has the default route.
 */
const sql = `
ALTER TABLE network ADD COLUMN subnet6 TEXT;
ALTER TABLE network ADD COLUMN gateway6 TEXT;
ALTER TABLE network ADD COLUMN ip_range6 TEXT;

CREATE TABLE endpoint_new (
  id TEXT PRIMARY KEY,
  container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  network_id TEXT NOT NULL,
  network_name TEXT NOT NULL,
  interface TEXT NOT NULL,
  host_name TEXT UNIQUE,
  mac TEXT,
  address TEXT,
  prefix_length INTEGER,
  gateway TEXT,
  address6 TEXT,
  prefix_length6 INTEGER,
  gateway6 TEXT,
  leads_out INTEGER NOT NULL DEFAULT 0,
  aliases TEXT NOT NULL DEFAULT '[]',
  config TEXT NOT NULL DEFAULT '{}',
  UNIQUE (container_id, network_name),
  UNIQUE (network_id, address),
  UNIQUE (network_id, address6)
) STRICT, WITHOUT ROWID;
INSERT INTO endpoint_new (id, container_id, network_id, network_name, interface, host_name, mac, address, prefix_length,
    gateway, leads_out, aliases, config)
  SELECT endpoint.id, container_id, network_id, network.name, interface, host_name, mac, address, prefix_length,
    endpoint.gateway, address IS NOT NULL, aliases, config
  FROM endpoint JOIN network ON network.id = network_id;
DROP TABLE endpoint;
ALTER TABLE endpoint_new RENAME TO endpoint;
CREATE INDEX endpoint_network ON endpoint (network_id);
`;

export const networks: Migration = { version: 2, name: 'networks', sql };
