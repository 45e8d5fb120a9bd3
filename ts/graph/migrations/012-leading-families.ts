import type { Migration } from '../migrations.ts';

/** `leads_out` says in which families an endpoint has the default route: 1 for IPv4, 2 for IPv6, 3 for both. */
const sql = `
UPDATE endpoint SET leads_out = (gateway IS NOT NULL) | ((gateway6 IS NOT NULL) << 1) WHERE leads_out = 1;
`;

export const leadingFamilies: Migration = { version: 12, name: 'leading-families', sql };
