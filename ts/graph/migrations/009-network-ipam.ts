import type { Migration } from '../migrations.ts';

/** `ipamConfig` of a network's detail holds the subnets that its user has given; that there are some was `fixed` alone. */
const sql = `
UPDATE network SET detail = json_set(json_remove(detail, '$.fixed'), '$.ipamConfig', (
  SELECT json(json_group_array(json_object('Subnet', given.subnet, 'IPRange', given.ip_range, 'Gateway', given.gateway)))
  FROM (
    SELECT network.subnet, network.ip_range, network.gateway
    UNION ALL SELECT network.subnet6, network.ip_range6, network.gateway6
  ) AS given WHERE given.subnet IS NOT NULL
)) WHERE json_extract(detail, '$.fixed') = 1;
`;

export const networkIpam: Migration = { version: 9, name: 'network-ipam', sql };
