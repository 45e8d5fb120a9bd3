import type { Migration } from '../migrations.ts';

/*
 * Links of the default bridge: `alias` is what the owner calls the target, `/owner/alias` another name of the target.
 * They point at containers and not at names, so that a rename of either end keeps them. Before, they stood in the owner's
 * HostConfig by name.
 */
const sql = `
CREATE TABLE container_link (
  owner_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  alias TEXT NOT NULL,
  target_id TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
  PRIMARY KEY (owner_id, alias)
) STRICT, WITHOUT ROWID;
CREATE INDEX container_link_target ON container_link (target_id);

INSERT OR IGNORE INTO container_link
  SELECT owner.id,
    CASE instr(link.value, ':') WHEN 0 THEN link.value ELSE substr(link.value, instr(link.value, ':') + 1) END,
    target.id
  FROM container AS owner, json_each(owner.host_config, '$.Links') AS link
  JOIN container AS target
    ON target.name = CASE instr(link.value, ':') WHEN 0 THEN link.value ELSE substr(link.value, 1, instr(link.value, ':') - 1) END
  WHERE json_extract(owner.host_config, '$.NetworkMode') IN ('', 'default', 'bridge');
UPDATE container SET host_config = json_set(host_config, '$.Links', json('null'))
  WHERE json_extract(host_config, '$.NetworkMode') IN ('', 'default', 'bridge');
`;

export const containerLinks: Migration = { version: 3, name: 'container links', sql };
