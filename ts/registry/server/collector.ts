/**
 * The garbage collector. It runs beside pushes and pulls and never stops them: each round is one short transaction on what
 * counts nothing, and the files of the rows that went follow when that is durable, unless they were pushed again. A file
 * that a crash has left without a row is found by a walk at start.
 *
 * Retention goes first: tags beyond the number that a rule keeps, then manifests that no tag and no index names for
 * longer than the rule allows. A signature stays as long as what it signs.
 */
import type { Logger } from '../../log.ts';
import { matches } from './auth/rights.ts';
import type { RegistryConfig, RetentionRule } from './config.ts';
import type { Blobs } from './metadata/blobs.ts';
import type { RegistryDatabase, Statement } from './metadata/database.ts';
import type { Repositories } from './metadata/repositories.ts';
import type { Pins } from './pins.ts';
import type { BlobStorage } from './storage.ts';
import type { Uploads } from './uploads.ts';

export interface Collected {
  tags: number;
  manifests: number;
  links: number;
  blobs: number;
  uploads: number;
}

export interface CollectorOptions {
  config: RegistryConfig;
  log: Logger;
  db: RegistryDatabase;
  storage: BlobStorage;
  repositories: Repositories;
  blobs: Blobs;
  uploads: Uploads;
  pins: Pins;
}

export class Collector {
  readonly #parts: CollectorOptions;
  readonly #names: Statement<[], { id: number; name: string }>;
  readonly #surplusTags: Statement<[number, number], unknown>;
  readonly #idleManifests: Statement<[number, number], unknown>;
  readonly #staleMirrored: Statement<[string, number], unknown>;
  readonly #idleLinks: Statement<[number], unknown>;
  readonly #unlinked: Statement<[], { digest: string }>;
  readonly #deleteBlob: Statement<[string], unknown>;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #closed = false;
  /** Since the start, for the metrics. */
  readonly total: Collected = { tags: 0, manifests: 0, links: 0, blobs: 0, uploads: 0 };

  constructor(parts: CollectorOptions) {
    this.#parts = parts;
    const { db } = parts;
    this.#names = db.prepare('SELECT id, name FROM repository');
    this.#surplusTags = db.prepare(`
      DELETE FROM tag WHERE (repository_id, name) IN (
        SELECT repository_id, name FROM tag WHERE repository_id = ? ORDER BY updated_ms DESC, name DESC LIMIT -1 OFFSET ?)`);
    this.#idleManifests = db.prepare(`
      DELETE FROM manifest WHERE repository_id = ? AND idle_since_ms < ?
        AND NOT EXISTS (SELECT 1 FROM tag WHERE tag.manifest_id = manifest.id)
        AND NOT EXISTS (SELECT 1 FROM reference WHERE reference.repository_id = manifest.repository_id
                          AND reference.digest = manifest.digest AND reference.kind = 'manifest')
        AND NOT EXISTS (SELECT 1 FROM manifest AS subject WHERE subject.repository_id = manifest.repository_id
                          AND subject.digest = manifest.subject)`);
    this.#staleMirrored = db.prepare(`
      DELETE FROM manifest WHERE repository_id IN (SELECT id FROM repository WHERE name GLOB ?) AND idle_since_ms < ?`);
    this.#idleLinks = db.prepare('DELETE FROM repository_blob WHERE uses = 0 AND idle_since_ms < ?');
    this.#unlinked = db.prepare('SELECT digest FROM blob WHERE links = 0');
    this.#deleteBlob = db.prepare('DELETE FROM blob WHERE digest = ?');
  }

  /** From now on, every `collectEveryMs`; what a crash has left is cleaned first. */
  start(): void {
    this.#enqueue(() => this.cleanOrphans());
    this.#timer = setInterval(() => this.#enqueue(() => this.collect(Date.now())), this.#parts.config.collectEveryMs);
    this.#timer.unref();
  }

  /** Resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#running;
  }

  /** One round, as of that time. */
  async collect(nowMs: number): Promise<Collected> {
    const { config, db, storage, repositories, blobs, uploads, pins, log } = this.#parts;
    const collected: Collected = { tags: 0, manifests: 0, links: 0, blobs: 0, uploads: 0 };
    const unlinked = db.transaction(() => {
      this.#applyRules(config.retention, nowMs, collected);
      if (config.upstreamTtlMs > 0)
        for (const { host } of config.upstreams)
          collected.manifests += this.#staleMirrored.run(
            host === '*' ? '*[.:]*/*' : `${host}/*`,
            nowMs - config.upstreamTtlMs,
          ).changes;
      collected.links = this.#idleLinks.run(nowMs - config.blobGraceMs).changes;
      const gone = this.#deleteUnlinked();
      repositories.deleteEmpty();
      return gone;
    });
    // A row that came back after a power cut would find no file.
    if (unlinked.length > 0) await db.durable();
    for (const digest of unlinked) {
      // Pushed again meanwhile, or about to be: the file is wanted.
      if (blobs.isKnown(digest) || pins.isHeld(digest)) continue;
      storage.retire(digest);
      collected.blobs++;
    }
    collected.uploads = await uploads.expire(nowMs - config.uploadTtlMs);
    if (collected.blobs > 0) await storage.sweep();
    for (const key of Object.keys(collected) as (keyof Collected)[]) this.total[key] += collected[key];
    if (Object.values(collected).some((count) => count > 0)) log.info({ collected }, 'garbage collected');
    return collected;
  }

  /** Files without a row: from a crash between the two. */
  async cleanOrphans(): Promise<number> {
    const { storage, blobs, pins } = this.#parts;
    let orphans = 0;
    for await (const digest of storage.blobs()) {
      if (this.#closed) return orphans;
      if (blobs.isKnown(digest) || pins.isHeld(digest)) continue;
      storage.retire(digest);
      orphans++;
    }
    await storage.sweep();
    return orphans;
  }

  #applyRules(rules: readonly RetentionRule[], nowMs: number, collected: Collected): void {
    if (rules.length === 0) return;
    for (const { id, name } of this.#names.all()) {
      // The first rule that names a repository is its rule.
      const rule = rules.find(({ repositories }) => repositories.some((pattern) => matches(pattern, name)));
      if (rule?.keepTags !== undefined) collected.tags += this.#surplusTags.run(id, rule.keepTags).changes;
      if (rule?.untaggedTtlMs === undefined) continue;
      // An index that goes frees its manifests, and a manifest its signatures.
      for (let gone = -1; gone !== 0; collected.manifests += gone)
        gone = this.#idleManifests.run(id, nowMs - rule.untaggedTtlMs).changes;
    }
  }

  #deleteUnlinked(): string[] {
    const digests = this.#unlinked.all().flatMap(({ digest }) => (this.#parts.pins.isHeld(digest) ? [] : [digest]));
    for (const digest of digests) this.#deleteBlob.run(digest);
    return digests;
  }

  #enqueue(work: () => Promise<unknown>): void {
    this.#running = this.#running.then(async () => {
      if (this.#closed) return;
      await work().catch((error: unknown) => this.#parts.log.error({ err: error }, 'garbage collection failed'));
    });
  }
}
