import type { Database, Statement } from './db.ts';

/** A committed, unpacked layer. The row is written after its directory is in place. */
export interface LayerRow {
  /** Names the layer with all below it; equal to `diffId` for a base layer. */
  chainId: string;
  /** Digest of the uncompressed archive. */
  diffId: string;
  /** chainId of the layer below. */
  parent: string | null;
  /** Names the directory `<data>/overlay/<cacheId>`; chosen at random, so that a half-made one never is in the way. */
  cacheId: string;
  /** Sum of the regular files' sizes of this layer alone. */
  sizeBytes: number;
  /** The blob that it was unpacked from, or that it was first pushed as; null for a layer that was never a blob. Only with
   * `keepsBlob` does the layer keep it. */
  blobDigest: string | null;
  blobSizeBytes: number | null;
  blobMediaType: string | null;
  createdMs: number;
  keepsBlob: 0 | 1;
}

const COLUMNS =
  'chain_id AS chainId, diff_id AS diffId, parent, cache_id AS cacheId, size_bytes AS sizeBytes, ' +
  'blob_digest AS blobDigest, blob_size_bytes AS blobSizeBytes, blob_media_type AS blobMediaType, ' +
  'created_ms AS createdMs, keeps_blob AS keepsBlob';

export class LayerStore {
  readonly #insert: Statement<[LayerRow], never>;
  readonly #get: Statement<[string], LayerRow>;
  readonly #all: Statement<[], LayerRow>;
  readonly #hasCache: Statement<[string], unknown>;
  readonly #chain: Statement<[string], LayerRow>;
  readonly #move: Statement<[string, string], never>;
  readonly #place: Statement<[string | null, string, string], never>;
  readonly #delete: Statement<[string], never>;
  readonly #wentAs: Statement<[string, number, string, string], never>;
  readonly #cameFrom: Statement<[string, string, string], never>;
  readonly #sources: Statement<[string], { repository: string }>;

  constructor(db: Database) {
    this.#insert = db.prepare(
      `INSERT INTO layer VALUES (@chainId, @diffId, @parent, @cacheId, @sizeBytes, @blobDigest, @blobSizeBytes,
       @blobMediaType, @createdMs, @keepsBlob) ON CONFLICT (chain_id) DO NOTHING`,
    );
    this.#get = db.prepare(`SELECT ${COLUMNS} FROM layer WHERE chain_id = ?`);
    this.#all = db.prepare(`SELECT ${COLUMNS} FROM layer ORDER BY chain_id`);
    this.#hasCache = db.prepare('SELECT 1 FROM layer WHERE cache_id = ?');
    this.#chain = db.prepare(`
      WITH RECURSIVE chain (id, depth) AS (
        VALUES (?, 0)
        UNION ALL
        SELECT layer.parent, depth + 1 FROM chain JOIN layer ON layer.chain_id = chain.id
        WHERE layer.parent IS NOT NULL
      )
      SELECT ${COLUMNS} FROM chain JOIN layer ON layer.chain_id = chain.id ORDER BY depth`);
    this.#move = db.prepare('UPDATE layer SET cache_id = ? WHERE chain_id = ?');
    this.#place = db.prepare('UPDATE layer SET parent = ?, diff_id = ? WHERE chain_id = ?');
    this.#delete = db.prepare('DELETE FROM layer WHERE chain_id = ?');
    this.#wentAs = db.prepare(
      `UPDATE layer SET blob_digest = ?, blob_size_bytes = ?, blob_media_type = ?
       WHERE chain_id = ? AND blob_digest IS NULL`,
    );
    this.#cameFrom = db.prepare('INSERT INTO layer_source VALUES (?, ?, ?) ON CONFLICT DO NOTHING');
    this.#sources = db.prepare('SELECT DISTINCT repository FROM layer_source WHERE digest = ? ORDER BY repository');
  }

  /**
   * True when the row was written; false when this layer already was there: then the caller's directory is one too many
   * and is removed (two pulls unpacked the same layer).
   */
  insert(layer: LayerRow): boolean {
    return this.#insert.run(layer).changes === 1;
  }

  get(chainId: string): LayerRow | undefined {
    return this.#get.get(chainId);
  }

  /** Whether a directory is a layer's. */
  hasCache(cacheId: string): boolean {
    return this.#hasCache.get(cacheId) !== undefined;
  }

  all(): LayerRow[] {
    return this.#all.all();
  }

  /** The layer and all below it, the top one first (the order of overlay's lower directories). */
  chain(chainId: string): LayerRow[] {
    return this.#chain.all(chainId);
  }

  /** It was unpacked anew: its directory is another one from now on. */
  move(chainId: string, cacheId: string): void {
    this.#move.run(cacheId, chainId);
  }

  /** What its chainID says of it, written again. */
  place(chainId: string, { parent, diffId }: Pick<LayerRow, 'parent' | 'diffId'>): void {
    this.#place.run(parent, diffId, chainId);
  }

  /** It was pushed as this blob: another push need not make it again to know its digest. */
  wentAs(chainId: string, { digest, size, mediaType }: { digest: string; size: number; mediaType: string }): void {
    this.#wentAs.run(digest, size, mediaType, chainId);
  }

  /** A repository has a blob that unpacks to this layer. */
  cameFrom(chainId: string, digest: string, repository: string): void {
    this.#cameFrom.run(chainId, digest, repository);
  }

  /** Repositories that had the blob of a layer here. */
  sources(digest: string): string[] {
    return this.#sources.all(digest).map((row) => row.repository);
  }

  /** Fails while an image, a container or a layer above refers to it. */
  delete(chainId: string): void {
    this.#delete.run(chainId);
  }
}
