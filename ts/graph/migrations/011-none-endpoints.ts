import type { Migration } from '../migrations.ts';

/** Being on the network `none` is an endpoint as any other, which a container can give up. */
const sql = `
INSERT INTO endpoint (id, container_id, network_id, network_name, interface)
SELECT lower(hex(randomblob(32))), container.id, network.id, network.name, 'eth0'
FROM container JOIN network ON network.name = 'none'
WHERE json_extract(container.host_config, '$.NetworkMode') = 'none';
`;

export const noneEndpoints: Migration = { version: 11, name: 'none-endpoints', sql };
