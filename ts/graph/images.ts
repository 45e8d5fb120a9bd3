import type { Database, Statement } from './db.ts';
import { isHexPrefix, PrefixLookup } from './lookup.ts';

export interface ImageRow {
  /** Digest of the config: `sha256:…`. */
  id: string;
  /** The config's exact bytes, JSON. */
  config: string;
  /** The platform's manifest that the image came with; null for one that was built, committed or imported. */
  manifestDigest: string | null;
  /** Sum of its layers' sizes. */
  sizeBytes: number;
  /** Image id of the parent, for an image committed or built here. */
  parent: string | null;
  /** When the row was made here (the image's own date stands in its config). */
  createdMs: number;
  /** When a name last was set. */
  taggedMs: number | null;
}

/** A name of an image, normalised: `docker.io/library/busybox:latest` or `docker.io/library/busybox@sha256:…`. */
export interface ReferenceRow {
  name: string;
  /** `docker.io/library/busybox`. */
  repository: string;
  /** Exactly one of tag and digest is set. */
  tag: string | null;
  /** What the registry resolved the name to: an index or a manifest. */
  digest: string | null;
  imageId: string;
}

export interface NewImage {
  image: ImageRow;
  /** chainIds, the base layer first. */
  layers: string[];
  /** Digests of blobs to keep with the image: manifest, index, config. Each has a blob row. */
  blobs: string[];
}

const IMAGE =
  'id, config, manifest_digest AS manifestDigest, size_bytes AS sizeBytes, parent, created_ms AS createdMs, tagged_ms AS taggedMs';
const REFERENCE = 'name, repository, tag, digest, image_id AS imageId';

/** Those that users see. */
const SHOWN =
  '(SELECT id FROM image WHERE NOT EXISTS (SELECT 1 FROM build_step WHERE image_id = image.id AND hidden = 1))';

export class ImageStore {
  readonly #db: Database;
  readonly #prefix: PrefixLookup;
  readonly #insert: Statement<[ImageRow], never>;
  readonly #insertLayer: Statement<[string, number, string], never>;
  readonly #insertBlob: Statement<[string, string], never>;
  readonly #get: Statement<[string], ImageRow>;
  readonly #all: Statement<[], ImageRow>;
  readonly #byUse: Statement<[], ImageRow>;
  readonly #layers: Statement<[string], { chainId: string }>;
  readonly #delete: Statement<[string], never>;
  readonly #children: Statement<[string], { id: string }>;
  readonly #hide: Statement<[string, string | null], never>;
  readonly #stepsOn: Statement<[{ parent: string }], { id: string }>;
  readonly #firstSteps: Statement<[], { id: string }>;
  readonly #show: Statement<[string], never>;
  readonly #hideAgain: Statement<[string], never>;
  readonly #isHidden: Statement<[string], { id: string }>;
  readonly #hidden: Statement<[], { id: string }>;
  readonly #setReference: Statement<[ReferenceRow], never>;
  readonly #tagged: Statement<[number, string], never>;
  readonly #setParent: Statement<[string, string], never>;
  readonly #reference: Statement<[string], ReferenceRow>;
  readonly #references: Statement<[], ReferenceRow>;
  readonly #referencesOf: Statement<[string], ReferenceRow>;
  readonly #deleteReference: Statement<[string], never>;
  readonly #withLayer: Statement<[string], { id: string }>;
  readonly #unlink: Statement<[string], never>;
  readonly #withBlob: Statement<[string, string], { id: string }>;
  readonly #blobs: Statement<[string], { digest: string }>;

  constructor(db: Database) {
    this.#db = db;
    this.#prefix = new PrefixLookup(db, SHOWN, 'id');
    this.#insert = db.prepare(`
      INSERT INTO image VALUES (@id, @config, @manifestDigest, @sizeBytes, @parent, @createdMs, @taggedMs)
      ON CONFLICT (id) DO UPDATE SET manifest_digest = coalesce(excluded.manifest_digest, manifest_digest),
        config = excluded.config`);
    this.#insertLayer = db.prepare('INSERT OR REPLACE INTO image_layer VALUES (?, ?, ?)');
    this.#insertBlob = db.prepare('INSERT INTO image_blob VALUES (?, ?) ON CONFLICT DO NOTHING');
    this.#get = db.prepare(`SELECT ${IMAGE} FROM image WHERE id = ?`);
    this.#all = db.prepare(`SELECT ${IMAGE} FROM image ORDER BY created_ms DESC, id`);
    this.#byUse = db.prepare(`
      SELECT ${IMAGE} FROM image LEFT JOIN image_use ON image_id = id
      ORDER BY max(coalesce(used_ms, 0), coalesce(tagged_ms, 0), created_ms), id`);
    this.#layers = db.prepare('SELECT chain_id AS chainId FROM image_layer WHERE image_id = ? ORDER BY position');
    this.#delete = db.prepare('DELETE FROM image WHERE id = ?');
    this.#children = db.prepare('SELECT id FROM image WHERE parent = ?');
    this.#hide = db.prepare('INSERT INTO build_step (image_id, parent) VALUES (?, ?) ON CONFLICT DO NOTHING');
    this.#show = db.prepare('UPDATE build_step SET hidden = 0 WHERE image_id = ?');
    this.#hideAgain = db.prepare('UPDATE build_step SET hidden = 1 WHERE image_id = ?');
    this.#isHidden = db.prepare('SELECT image_id AS id FROM build_step WHERE image_id = ? AND hidden = 1');
    this.#hidden = db.prepare('SELECT image_id AS id FROM build_step WHERE hidden = 1');
    this.#stepsOn = db.prepare(`
      SELECT id FROM image WHERE parent = @parent UNION SELECT image_id FROM build_step WHERE parent = @parent`);
    this.#firstSteps = db.prepare(`
      SELECT id FROM image LEFT JOIN build_step ON image_id = id
      WHERE image.parent IS NULL AND build_step.parent IS NULL AND manifest_digest IS NULL`);
    this.#setReference = db.prepare(`
      INSERT INTO reference VALUES (@name, @repository, @tag, @digest, @imageId)
      ON CONFLICT (name) DO UPDATE SET image_id = excluded.image_id`);
    this.#tagged = db.prepare('UPDATE image SET tagged_ms = ? WHERE id = ?');
    this.#setParent = db.prepare('UPDATE image SET parent = ? WHERE id = ?');
    this.#reference = db.prepare(`SELECT ${REFERENCE} FROM reference WHERE name = ?`);
    this.#references = db.prepare(`SELECT ${REFERENCE} FROM reference ORDER BY name`);
    this.#referencesOf = db.prepare(`SELECT ${REFERENCE} FROM reference WHERE image_id = ? ORDER BY name`);
    this.#blobs = db.prepare('SELECT digest FROM image_blob WHERE image_id = ? ORDER BY digest');
    this.#withLayer = db.prepare('SELECT image_id AS id FROM image_layer WHERE chain_id = ? ORDER BY image_id');
    this.#unlink = db.prepare('DELETE FROM image_layer WHERE image_id = ?');
    this.#withBlob = db.prepare(`
      SELECT image_id AS id FROM image_blob WHERE digest = ?
      UNION SELECT image_id FROM image_layer JOIN layer USING (chain_id) WHERE blob_digest = ?`);
    this.#deleteReference = db.prepare('DELETE FROM reference WHERE name = ?');
  }

  /**
   * Layers and blobs have their rows already. An image already there gains what is new (a manifest, blobs), and what its id
   * promises: its config and its layers.
   */
  insert({ image, layers, blobs }: NewImage): void {
    this.#db.transaction(() => {
      this.#insert.run(image);
      layers.forEach((chainId, position) => {
        this.#insertLayer.run(image.id, position, chainId);
      });
      for (const digest of blobs) this.#insertBlob.run(image.id, digest);
    });
  }

  /** Says anew which layers it has, the base layer first. */
  relink(id: string, layers: readonly string[]): void {
    this.#db.transaction(() => {
      this.#unlink.run(id);
      for (const [position, chainId] of layers.entries()) this.#insertLayer.run(id, position, chainId);
    });
  }

  get(id: string): ImageRow | undefined {
    return this.#get.get(id);
  }

  /** The newest first. */
  all(): ImageRow[] {
    return this.#all.all();
  }

  /** The one that was pulled, named or run longest ago first. */
  byUse(): ImageRow[] {
    return this.#byUse.all();
  }

  /** Ids (at most two) that begin so; `prefix` with or without `sha256:`. Two mean that it is ambiguous. */
  findByPrefix(prefix: string): string[] {
    const hex = prefix.startsWith('sha256:') ? prefix.slice(7) : prefix;
    return isHexPrefix(hex) ? this.#prefix.find(`sha256:${hex}`) : [];
  }

  /** chainIds, the base layer first. */
  layers(id: string): string[] {
    return this.#layers.all(id).map((row) => row.chainId);
  }

  /** Ids of the images that steps of builds made of it, whether users see it as their parent or not; null: of nothing. */
  stepsOn(id: string | null): string[] {
    return (id === null ? this.#firstSteps.all() : this.#stepsOn.all({ parent: id })).map((row) => row.id);
  }

  /** Ids of the images whose parent it is. */
  children(id: string): string[] {
    return this.#children.all(id).map((row) => row.id);
  }

  /** It is the cache of builds, made of `parent`, and not among the images that users see until it is shown or named. */
  hide(id: string, parent: string | null): void {
    this.#hide.run(id, parent);
  }

  /** It is an image as any other. */
  show(id: string): void {
    this.#show.run(id);
  }

  /** False for an image that is none of those. */
  hideAgain(id: string): boolean {
    return this.#hideAgain.run(id).changes > 0;
  }

  isHidden(id: string): boolean {
    return this.#isHidden.get(id) !== undefined;
  }

  /** Ids of those that are the cache of builds. */
  hidden(): Set<string> {
    return new Set(this.#hidden.all().map((row) => row.id));
  }

  /** Digests of the blobs kept with it. */
  blobs(id: string): string[] {
    return this.#blobs.all(id).map((row) => row.digest);
  }

  /** Ids of the images that a layer belongs to. */
  withLayer(chainId: string): string[] {
    return this.#withLayer.all(chainId).map((row) => row.id);
  }

  /** Ids of the images that a blob belongs to. */
  withBlob(digest: string): string[] {
    return this.#withBlob.all(digest, digest).map((row) => row.id);
  }

  /** Takes its references along; layers and blobs are left to the garbage collector. */
  delete(id: string): void {
    this.#delete.run(id);
  }

  setParent(id: string, parent: string): void {
    this.#setParent.run(parent, id);
  }

  /** Sets a name, or moves it from another image. `nowMs`: absent where the user has not given the name now. */
  setReference(reference: ReferenceRow, nowMs?: number): void {
    this.#setReference.run(reference);
    this.#show.run(reference.imageId);
    if (nowMs !== undefined) this.#tagged.run(nowMs, reference.imageId);
  }

  reference(name: string): ReferenceRow | undefined {
    return this.#reference.get(name);
  }

  references(): ReferenceRow[] {
    return this.#references.all();
  }

  referencesOf(imageId: string): ReferenceRow[] {
    return this.#referencesOf.all(imageId);
  }

  /** True when the name was there. */
  deleteReference(name: string): boolean {
    return this.#deleteReference.run(name).changes === 1;
  }
}
