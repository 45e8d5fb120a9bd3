/** What a registry has in its root, compared with what its rows say, while nobody serves it. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { createLogger } from '../../ts/log.ts';
import { defaultConfig } from '../../ts/registry/server/config.ts';
import { Registry } from '../../ts/registry/server/registry.ts';
import { digestOf } from './servedRegistry.ts';

/** Rejects when rows and files are not each other's, when anything dangles, or when after a collection more is on the disk than lives. */
export async function auditRegistry(root: string): Promise<void> {
  const registry = new Registry({ ...defaultConfig(), root, blobGraceMs: 0, uploadTtlMs: 0 }, createLogger('silent'));
  try {
    expect(registry.db.errors()).toEqual([]);
    const rows = registry.db
      .prepare<[], { digest: string; size: number }>('SELECT digest, size_bytes AS size FROM blob')
      .all();
    for (const { digest, size } of rows) {
      expect(registry.storage.has(digest), `file of ${digest}`).toBe(true);
      const bytes = await registry.storage.readWhole(digest);
      expect([bytes.length, digestOf(bytes)]).toEqual([size, digest]);
    }
    const dangling = registry.db.prepare<[], { digest: string }>(`
      SELECT reference.digest FROM reference WHERE kind = 'blob' AND NOT EXISTS (
        SELECT 1 FROM repository_blob AS link WHERE link.repository_id = reference.repository_id AND link.digest = reference.digest)`);
    expect(dangling.all()).toEqual([]);
    // once it has collected, the disk holds what lives and nothing else
    await registry.collector.cleanOrphans();
    await registry.collector.collect(Date.now() + 60_000);
    const live = registry.db
      .prepare<[], { bytes: number }>('SELECT coalesce(sum(size_bytes), 0) AS bytes FROM blob')
      .get();
    expect(bytesIn(join(root, 'blobs'))).toBe(live?.bytes);
    for (const empty of ['uploads', 'retired']) expect(readdirSync(join(root, empty))).toEqual([]);
  } finally {
    await registry.close();
  }
}

const bytesIn = (dir: string): number =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
