/**
 * Numbered migrations, forward only. `PRAGMA user_version` is the number of the last one applied. A released migration
 * is never edited; a change is a new file `migrations/NNN-what.ts`, listed here.
 */
import type { Database as Connection } from 'better-sqlite3';
import { CaissonError } from '../errdefs.ts';
import { initial } from './migrations/001-initial.ts';
import { networks } from './migrations/002-networks.ts';
import { containerLinks } from './migrations/003-container-links.ts';
import { ports } from './migrations/004-ports.ts';
import { imageUse } from './migrations/005-image-use.ts';
import { imageMounts } from './migrations/006-image-mounts.ts';
import { layerSources } from './migrations/007-layer-sources.ts';
import { volumeMounts } from './migrations/008-volume-mounts.ts';
import { networkIpam } from './migrations/009-network-ipam.ts';
import { buildSteps } from './migrations/010-build-steps.ts';
import { noneEndpoints } from './migrations/011-none-endpoints.ts';
import { leadingFamilies } from './migrations/012-leading-families.ts';
import { buildRecords } from './migrations/013-build-records.ts';
import { stepParents } from './migrations/014-step-parents.ts';

export interface Migration {
  version: number;
  name: string;
  sql: string;
}

export const MIGRATIONS: readonly Migration[] = [
  initial,
  networks,
  containerLinks,
  ports,
  imageUse,
  imageMounts,
  layerSources,
  volumeMounts,
  networkIpam,
  buildSteps,
  noneEndpoints,
  leadingFamilies,
  buildRecords,
  stepParents,
];

/** Brings the database to the newest version in one transaction; refuses a database that a newer caisson has written. */
export function migrate(connection: Connection, migrations: readonly Migration[] = MIGRATIONS): void {
  const known = migrations.at(-1)?.version ?? 0;
  const found = connection.pragma('user_version', { simple: true }) as number;
  if (found > known) {
    throw new CaissonError(
      'System',
      `${connection.name} has schema version ${found}, but this caisson knows versions up to ${known}`,
      { code: 'SCHEMA_TOO_NEW', hint: 'Start the caisson version that wrote it, or a newer one.' },
    );
  }
  if (found === known) return;
  connection
    .transaction(() => {
      for (const migration of migrations) {
        if (migration.version <= found) continue;
        connection.exec(migration.sql);
        connection.pragma(`user_version = ${migration.version}`);
      }
    })
    .immediate();
}
