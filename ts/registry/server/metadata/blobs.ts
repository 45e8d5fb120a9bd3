/** Which blobs there are, and which repositories show them. */
import type { RegistryDatabase, Statement } from './database.ts';
import type { Repositories } from './repositories.ts';

interface Link {
  sizeBytes: number;
  uses: number;
  idleSinceMs: number;
}

/** A blob that is asked for just before a push may lose its last use next: its time begins anew. */
const TOUCH_AFTER_MS = 60_000;

export class Blobs {
  readonly #db: RegistryDatabase;
  readonly #repositories: Repositories;
  readonly #link: Statement<[string, string], Link>;
  readonly #known: Statement<[string], { sizeBytes: number }>;
  readonly #showing: Statement<[string], { name: string }>;
  readonly #insert: Statement<[string, number], unknown>;
  readonly #insertLink: Statement<[{ repository: number; digest: string; nowMs: number }], unknown>;
  readonly #deleteLink: Statement<[number, string], unknown>;
  readonly #touch: Statement<[number, number, string], unknown>;
  readonly #expected: Statement<[string, string], { sizeBytes: number }>;
  readonly #totals: Statement<[], { count: number; bytes: number | null }>;

  constructor(db: RegistryDatabase, repositories: Repositories) {
    this.#db = db;
    this.#repositories = repositories;
    this.#link = db.prepare(`
      SELECT blob.size_bytes AS sizeBytes, link.uses, link.idle_since_ms AS idleSinceMs
      FROM repository JOIN repository_blob AS link ON link.repository_id = repository.id JOIN blob ON blob.digest = link.digest
      WHERE repository.name = ? AND link.digest = ?`);
    this.#known = db.prepare('SELECT size_bytes AS sizeBytes FROM blob WHERE digest = ?');
    this.#showing = db.prepare(`
      SELECT repository.name FROM repository_blob AS link JOIN repository ON repository.id = link.repository_id
      WHERE link.digest = ?`);
    this.#insert = db.prepare('INSERT INTO blob (digest, size_bytes) VALUES (?, ?) ON CONFLICT DO NOTHING');
    this.#insertLink = db.prepare(`
      INSERT INTO repository_blob (repository_id, digest, uses, idle_since_ms)
      VALUES (:repository, :digest,
        (SELECT count(*) FROM reference WHERE repository_id = :repository AND digest = :digest AND kind = 'blob'), :nowMs)
      ON CONFLICT DO UPDATE SET idle_since_ms = :nowMs`);
    this.#deleteLink = db.prepare('DELETE FROM repository_blob WHERE repository_id = ? AND digest = ?');
    this.#touch = db.prepare('UPDATE repository_blob SET idle_since_ms = ? WHERE repository_id = ? AND digest = ?');
    this.#expected = db.prepare(`
      SELECT reference.size_bytes AS sizeBytes FROM repository JOIN reference ON reference.repository_id = repository.id
      WHERE repository.name = ? AND reference.digest = ? AND reference.kind = 'blob' LIMIT 1`);
    this.#totals = db.prepare('SELECT count(*) AS count, sum(size_bytes) AS bytes FROM blob');
  }

  /** Size of a blob that the repository shows. */
  size(repository: string, digest: string): number | undefined {
    return this.#link.get(repository, digest)?.sizeBytes;
  }

  /** As `size`, for a client that may count on finding it a moment later. */
  sizeKept(repository: string, digest: string, nowMs: number): number | undefined {
    const found = this.#link.get(repository, digest);
    if (found !== undefined && found.uses === 0 && nowMs - found.idleSinceMs > TOUCH_AFTER_MS) {
      const id = this.#repositories.id(repository);
      if (id !== undefined) this.#touch.run(nowMs, id, digest);
    }
    return found?.sizeBytes;
  }

  /** In whatever repository. */
  isKnown(digest: string): boolean {
    return this.#known.get(digest) !== undefined;
  }

  repositoriesOf(digest: string): string[] {
    return this.#showing.all(digest).map(({ name }) => name);
  }

  /** What a manifest of the repository says of a blob that has not come yet. */
  expectedSize(repository: string, digest: string): number | undefined {
    return this.#expected.get(repository, digest)?.sizeBytes;
  }

  /** The file is committed: from here the repository shows it. */
  add(repository: string, digest: string, sizeBytes: number, nowMs: number): void {
    this.#db.transaction(() => {
      this.#insert.run(digest, sizeBytes);
      this.#insertLink.run({ repository: this.#repositories.ensure(repository), digest, nowMs });
    });
  }

  /** False when `from` does not show it (any more). */
  mount(from: string, repository: string, digest: string, nowMs: number): boolean {
    return this.#db.transaction(() => {
      if (this.size(from, digest) === undefined) return false;
      this.#insertLink.run({ repository: this.#repositories.ensure(repository), digest, nowMs });
      return true;
    });
  }

  /** `used`: manifests of the repository name it, and it stays. */
  remove(repository: string, digest: string): 'removed' | 'unknown' | 'used' {
    return this.#db.transaction(() => {
      const found = this.#link.get(repository, digest);
      const id = this.#repositories.id(repository);
      if (found === undefined || id === undefined) return 'unknown';
      if (found.uses > 0) return 'used';
      this.#deleteLink.run(id, digest);
      return 'removed';
    });
  }

  totals(): { count: number; bytes: number } {
    const { count, bytes } = this.#totals.get() ?? { count: 0, bytes: 0 };
    return { count, bytes: bytes ?? 0 };
  }
}
