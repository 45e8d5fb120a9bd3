/** Manifests with their tags and references: what is written here together is read together. */
import type { ManifestDocument } from '../document.ts';
import { RegistryError } from '../errors.ts';
import type { RegistryDatabase, Statement } from './database.ts';
import type { Repositories } from './repositories.ts';

export interface ManifestHead {
  digest: string;
  mediaType: string;
  sizeBytes: number;
}

export interface StoredManifest extends ManifestHead {
  bytes: Buffer;
}

export interface Referrer extends ManifestHead {
  artifactType: string | null;
  annotations: string | null;
}

export interface PutOptions {
  tags: readonly string[];
  nowMs: number;
  /** A manifest of an upstream comes before its blobs. */
  blobsMayBeMissing?: boolean;
  /** Refused, with 412, unless the tag names this manifest; `null`: unless there is no such tag. */
  onlyIfTagIs?: string | null;
}

/** A row that was written so lately is not written again. */
const TOUCH_AFTER_MS = 60_000;
const HEAD = 'manifest.digest, manifest.media_type AS mediaType, manifest.size_bytes AS sizeBytes';

export class Manifests {
  readonly #db: RegistryDatabase;
  readonly #repositories: Repositories;
  readonly #byDigest: Statement<[string, string], StoredManifest>;
  readonly #byTag: Statement<[string, string], StoredManifest>;
  readonly #headByDigest: Statement<[string, string], ManifestHead>;
  readonly #headByTag: Statement<[string, string], ManifestHead>;
  readonly #otherType: Statement<[string, string], { mediaType: string }>;
  readonly #idOf: Statement<[number, string], { id: number }>;
  readonly #hasBlob: Statement<[number, string], unknown>;
  readonly #insert: Statement<unknown[], unknown>;
  readonly #insertReference: Statement<[number | bigint, number, string, string, number], unknown>;
  readonly #setTag: Statement<[number, string, number | bigint, number], unknown>;
  readonly #delete: Statement<[number, string], unknown>;
  readonly #deleteTag: Statement<[number, string], unknown>;
  readonly #tags: Statement<[number, string, number], { name: string }>;
  readonly #referrers: Statement<[number, string, string, string | null, number], Referrer>;
  readonly #touch: Statement<[number, number, string, number], unknown>;

  constructor(db: RegistryDatabase, repositories: Repositories) {
    this.#db = db;
    this.#repositories = repositories;
    const named = 'FROM repository JOIN manifest ON manifest.repository_id = repository.id';
    const tagged = `FROM repository JOIN tag ON tag.repository_id = repository.id JOIN manifest ON manifest.id = tag.manifest_id`;
    this.#byDigest = db.prepare(`SELECT ${HEAD}, bytes ${named} WHERE repository.name = ? AND manifest.digest = ?`);
    this.#byTag = db.prepare(`SELECT ${HEAD}, bytes ${tagged} WHERE repository.name = ? AND tag.name = ?`);
    this.#headByDigest = db.prepare(`SELECT ${HEAD} ${named} WHERE repository.name = ? AND manifest.digest = ?`);
    this.#headByTag = db.prepare(`SELECT ${HEAD} ${tagged} WHERE repository.name = ? AND tag.name = ?`);
    this.#otherType = db.prepare(
      'SELECT media_type AS mediaType FROM manifest WHERE digest = ? AND media_type <> ? LIMIT 1',
    );
    this.#idOf = db.prepare('SELECT id FROM manifest WHERE repository_id = ? AND digest = ?');
    this.#hasBlob = db.prepare('SELECT 1 FROM repository_blob WHERE repository_id = ? AND digest = ?');
    this.#insert = db.prepare(`
      INSERT INTO manifest (repository_id, digest, media_type, size_bytes, subject, artifact_type, annotations, idle_since_ms, bytes)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
    this.#insertReference = db.prepare(
      'INSERT INTO reference (manifest_id, repository_id, kind, digest, size_bytes) VALUES (?, ?, ?, ?, ?)',
    );
    this.#setTag = db.prepare(`
      INSERT INTO tag (repository_id, name, manifest_id, updated_ms) VALUES (?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET manifest_id = excluded.manifest_id, updated_ms = excluded.updated_ms`);
    this.#delete = db.prepare('DELETE FROM manifest WHERE repository_id = ? AND digest = ?');
    this.#deleteTag = db.prepare('DELETE FROM tag WHERE repository_id = ? AND name = ?');
    this.#tags = db.prepare('SELECT name FROM tag WHERE repository_id = ? AND name > ? ORDER BY name LIMIT ?');
    this.#referrers = db.prepare(`
      SELECT ${HEAD}, artifact_type AS artifactType, annotations FROM manifest
      WHERE repository_id = ? AND subject = ? AND digest > ? AND artifact_type IS coalesce(?, artifact_type)
      ORDER BY digest LIMIT ?`);
    this.#touch = db.prepare(
      'UPDATE manifest SET idle_since_ms = ? WHERE repository_id = ? AND digest = ? AND idle_since_ms < ?',
    );
  }

  get(repository: string, reference: string): StoredManifest | undefined {
    return (reference.includes(':') ? this.#byDigest : this.#byTag).get(repository, reference);
  }

  head(repository: string, reference: string): ManifestHead | undefined {
    return (reference.includes(':') ? this.#headByDigest : this.#headByTag).get(repository, reference);
  }

  /** Somebody has asked for it: the time after which nobody has begins anew. */
  touch(repository: string, digest: string, nowMs: number): void {
    const id = this.#repositories.id(repository);
    if (id !== undefined) this.#touch.run(nowMs, id, digest, nowMs - TOUCH_AFTER_MS);
  }

  /** All or nothing. MANIFEST_BLOB_UNKNOWN names every blob that the repository lacks. */
  put(repository: string, document: ManifestDocument, options: PutOptions): void {
    this.#db.transaction(() => {
      const other = this.#otherType.get(document.digest, document.mediaType);
      if (other !== undefined)
        throw new RegistryError(
          'MANIFEST_INVALID',
          `invalid manifest: ${document.digest} is known as ${other.mediaType}, not ${document.mediaType}`,
        );
      const id = this.#repositories.ensure(repository);
      this.#checkCondition(repository, options);
      if (options.blobsMayBeMissing !== true) this.#checkBlobs(id, document);
      const manifest = this.#idOf.get(id, document.digest)?.id ?? this.#add(id, document, options.nowMs);
      for (const tag of options.tags) this.#setTag.run(id, tag, manifest, options.nowMs);
      if (options.tags.length === 0) this.#touch.run(options.nowMs, id, document.digest, options.nowMs);
    });
  }

  /** With the tags that name it. False when it is not there. */
  delete(repository: string, digest: string): boolean {
    return this.#db.transaction(() => {
      const id = this.#repositories.id(repository);
      return id !== undefined && this.#delete.run(id, digest).changes > 0;
    });
  }

  deleteTag(repository: string, tag: string): boolean {
    return this.#db.transaction(() => {
      const id = this.#repositories.id(repository);
      return id !== undefined && this.#deleteTag.run(id, tag).changes > 0;
    });
  }

  /** In ASCII order, after `last`. Undefined when there is no such repository. */
  tags(repository: string, last: string, limit: number): string[] | undefined {
    const id = this.#repositories.id(repository);
    return id === undefined ? undefined : this.#tags.all(id, last, limit).map(({ name }) => name);
  }

  /** In the order of their digests, after `last`. */
  referrers(
    repository: string,
    subject: string,
    filter: { artifactType: string | null; last: string; limit: number },
  ): Referrer[] {
    const id = this.#repositories.id(repository);
    return id === undefined ? [] : this.#referrers.all(id, subject, filter.last, filter.artifactType, filter.limit);
  }

  #add(repository: number, document: ManifestDocument, nowMs: number): number | bigint {
    const { lastInsertRowid } = this.#insert.run(
      repository,
      document.digest,
      document.mediaType,
      document.bytes.length,
      document.subject ?? null,
      document.artifactType ?? null,
      document.annotations === undefined ? null : JSON.stringify(document.annotations),
      nowMs,
      document.bytes,
    );
    for (const { kind, digest, sizeBytes } of document.references)
      this.#insertReference.run(lastInsertRowid, repository, kind, digest, sizeBytes);
    return lastInsertRowid;
  }

  /** Children of an index may come later or never (a platform that was left out); blobs may not. */
  #checkBlobs(repository: number, { references }: ManifestDocument): void {
    const missing = references.filter(
      ({ kind, digest, foreign }) => kind === 'blob' && !foreign && this.#hasBlob.get(repository, digest) === undefined,
    );
    if (missing.length === 0) return;
    const all = missing.map(({ digest }) => ({
      message: `the manifest names the blob ${digest}, which this repository does not have`,
      detail: { digest },
    }));
    throw new RegistryError('MANIFEST_BLOB_UNKNOWN', all[0]?.message ?? '', { all });
  }

  #checkCondition(repository: string, { tags: [tag], onlyIfTagIs }: PutOptions): void {
    if (onlyIfTagIs === undefined || tag === undefined) return;
    const found = this.#headByTag.get(repository, tag)?.digest ?? null;
    if (onlyIfTagIs === '*' ? found !== null : found === onlyIfTagIs) return;
    throw new RegistryError(
      'DENIED',
      `the tag ${tag} names ${found ?? 'nothing'}, which is not what the request asks for`,
      {
        status: 412,
      },
    );
  }
}
