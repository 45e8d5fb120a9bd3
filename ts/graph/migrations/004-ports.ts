import type { Migration } from '../migrations.ts';

/**
 * Ports of routed networks take none of the host's (`host_port` 0), so that only the others are unique. `direct`: reached
 * at the container's own address as well.
 */
const sql = `
CREATE TABLE port_new (
  proto TEXT NOT NULL,
  host_ip TEXT NOT NULL,
  host_port INTEGER NOT NULL,
  container_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  container_ip TEXT NOT NULL,
  container_port INTEGER NOT NULL,
  direct INTEGER NOT NULL,
  PRIMARY KEY (container_id, container_port, proto, host_ip, host_port)
) STRICT, WITHOUT ROWID;
INSERT INTO port_new SELECT *, 0 FROM port;
DROP TABLE port;
ALTER TABLE port_new RENAME TO port;
CREATE UNIQUE INDEX port_host ON port (proto, host_ip, host_port) WHERE host_port > 0;
`;

export const ports: Migration = { version: 4, name: 'ports', sql };
