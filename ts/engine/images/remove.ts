/** `docker rmi` and `docker image prune`: which names and images go, and what stands in the way. */
import { CaissonError } from '../../errdefs.ts';
import type { GarbageCollector } from '../../graph/gc.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow, ReferenceRow } from '../../graph/images.ts';
import type { Partials } from '../../graph/partials.ts';
import { familiarRepository, parseReference, repositoryOf } from '../../reference.ts';
import { labelsAllow, madeUntil } from '../api/pruneFilters.ts';
import { boolFilter, type Filters } from '../api/query.ts';
import { parseConfig } from './config.ts';
import { imageEvent } from './events.ts';
import { familiarRow, type ImageNames } from './names.ts';
import { shortId } from './progress.ts';

export type Removed = { Untagged: string } | { Deleted: string };

export const PRUNE_FILTERS = ['dangling', 'label', 'label!', 'until'] as const;

export class ImageRemover {
  readonly #graph: Graph;
  readonly #names: ImageNames;
  readonly #gc: GarbageCollector;
  readonly #partials: Partials;

  constructor(graph: Graph, names: ImageNames, gc: GarbageCollector, partials: Partials) {
    this.#graph = graph;
    this.#names = names;
    this.#gc = gc;
    this.#partials = partials;
  }

  /** `keepParents`: an image without a name that the removed one was made of stays. */
  async remove(name: string, { force, keepParents }: { force: boolean; keepParents: boolean }): Promise<Removed[]> {
    const removed: Removed[] = [];
    const garbage = this.#graph.db.transaction(() => {
      const { image, reference } = this.#names.resolve(name);
      if (reference !== undefined) this.#removeByName(image, reference, name, force, removed);
      else this.#removeById(image, force, removed);
      if (!keepParents && this.#graph.images.get(image.id) === undefined) this.#removeParents(image, removed);
      const collected = this.#gc.collect();
      for (const layer of collected.layers) removed.push({ Deleted: layer.chainId });
      return collected;
    });
    await this.#graph.db.durable();
    await this.#gc.sweep(garbage);
    return removed;
  }

  async prune(filters: Filters): Promise<{ ImagesDeleted: Removed[] | null; SpaceReclaimed: number }> {
    const danglingOnly = boolFilter(filters, 'dangling') ?? true;
    const isOld = madeUntil(filters);
    const removed: Removed[] = [];
    const garbage = this.#graph.db.transaction(() => {
      const hidden = this.#graph.images.hidden();
      for (const image of this.#graph.images.all()) {
        if (hidden.has(image.id)) continue;
        const references = this.#graph.images.referencesOf(image.id);
        if (danglingOnly && references.some((row) => row.tag !== null)) continue;
        const { created, config } = parseConfig(image.config);
        if (!isOld(created) || !labelsAllow(config?.Labels ?? {}, filters)) continue;
        if (this.#graph.containers.usingImage(image.id).length > 0) {
          this.#untagSpare(references, removed);
          continue;
        }
        if (this.#graph.images.children(image.id).length > 0) continue;
        for (const row of references) this.#untag(row, removed);
        this.#forget(image, removed);
      }
      const collected = this.#gc.collect();
      for (const layer of collected.layers) removed.push({ Deleted: layer.chainId });
      return collected;
    });
    await this.#graph.db.durable();
    await this.#gc.sweep(garbage);
    const reclaimed = garbage.reclaimedBytes + this.#partials.prune();
    return { ImagesDeleted: removed.length > 0 ? removed : null, SpaceReclaimed: reclaimed };
  }

  /** These of the cache of builds, as far as nothing is made of them. Resolves with the ids of those that went, and what they took. */
  async pruneBuildSteps(wanted: ReadonlySet<string>): Promise<{ ids: string[]; bytes: number }> {
    const removed: Removed[] = [];
    const ids: string[] = [];
    const garbage = this.#graph.db.transaction(() => {
      const { images, containers } = this.#graph;
      const hidden = images.hidden();
      // the newest first: what is made of others goes before them
      for (const image of images.all()) {
        if (!wanted.has(image.id) || !hidden.has(image.id)) continue;
        if (images.stepsOn(image.id).length > 0 || containers.usingImage(image.id).length > 0) continue;
        this.#delete(image, removed);
        ids.push(image.id);
      }
      return this.#gc.collect();
    });
    await this.#graph.db.durable();
    await this.#gc.sweep(garbage);
    return { ids, bytes: garbage.reclaimedBytes };
  }

  /** All names of an image, and the image; whether it may go has been looked at. Inside a transaction. */
  take(image: ImageRow): void {
    const removed: Removed[] = [];
    for (const row of this.#graph.images.referencesOf(image.id)) this.#untag(row, removed);
    this.#delete(image, removed);
  }

  /** Of an image in use all names but the last one go, in the order of names, with digests that no tag stands beside. */
  #untagSpare(references: readonly ReferenceRow[], removed: Removed[]): void {
    let left = references;
    for (const row of references) {
      const isOne = left.filter(({ tag }) => tag !== null).length <= 1;
      if (isOne && left.every(({ repository }) => repository === left[0]?.repository)) return;
      if (!left.includes(row)) continue;
      left = this.#untagWithDigests(row, left, removed);
    }
  }

  /** A name goes. Digests of the same repository came with its tag and go with the last one. Returns what is left. */
  #untagWithDigests(
    reference: ReferenceRow,
    all: readonly ReferenceRow[],
    removed: Removed[],
  ): readonly ReferenceRow[] {
    const rest = namesWithout(reference, all);
    for (const row of all) if (!rest.includes(row)) this.#untag(row, removed);
    return rest;
  }

  /** A name goes; the image goes with its last one. */
  #removeByName(image: ImageRow, reference: ReferenceRow, name: string, force: boolean, removed: Removed[]): void {
    const all = this.#graph.images.referencesOf(image.id);
    const rest = namesWithout(reference, all);
    if (rest.length === 0) {
      const users = this.#graph.containers.usingImage(image.id);
      const [user] = users;
      if (user !== undefined && !force)
        throw new CaissonError(
          'Conflict',
          `conflict: unable to remove repository reference "${name}" (must force) - container ${user.slice(0, 12)} is using its referenced image ${shortId(image.id)}`,
          { code: 'IMAGE_IN_USE' },
        );
    }
    this.#untagWithDigests(reference, all, removed);
    if (rest.length > 0) return;
    // Forced while a container uses it: the name is gone, the image stays for the container.
    if (this.#graph.containers.usingImage(image.id).length > 0 || this.#graph.images.children(image.id).length > 0)
      return;
    this.#forget(image, removed);
  }

  #removeById(image: ImageRow, force: boolean, removed: Removed[]): void {
    const references = this.#graph.images.referencesOf(image.id);
    this.#refuse(image, references, force);
    for (const row of references) this.#untag(row, removed);
    this.#forget(image, removed);
  }

  /** What stands in the way, in Docker's order; half of it can be forced. */
  #refuse({ id }: ImageRow, references: readonly ReferenceRow[], force: boolean): void {
    const refuse = (how: 'cannot be forced' | 'must be forced', why: string, code: string): never => {
      throw new CaissonError('Conflict', `conflict: unable to delete ${shortId(id)} (${how}) - ${why}`, { code });
    };
    const users = this.#graph.containers.usingImage(id);
    const isRunning = (user: string): boolean =>
      ['running', 'paused', 'restarting'].includes(this.#graph.containers.get(user)?.status ?? '');
    if (this.#graph.images.children(id).length > 0)
      refuse('cannot be forced', 'image has dependent child images', 'IMAGE_HAS_CHILDREN');
    const running = users.find(isRunning);
    if (running !== undefined)
      refuse('cannot be forced', `image is being used by running container ${running.slice(0, 12)}`, 'IMAGE_IN_USE');
    if (force) return;
    const repositories = new Set(references.map((row) => row.repository));
    if (repositories.size > 1 || references.filter((row) => row.tag !== null).length > 1)
      refuse('must be forced', 'image is referenced in multiple repositories', 'IMAGE_HAS_SEVERAL_NAMES');
    const [stopped] = users;
    if (stopped !== undefined)
      refuse('must be forced', `image is being used by stopped container ${stopped.slice(0, 12)}`, 'IMAGE_IN_USE');
  }

  /** What the removed image was made of, as far as nothing else needs it. */
  #removeParents({ parent }: ImageRow, removed: Removed[]): void {
    const { images, containers } = this.#graph;
    for (let id = parent; id !== null; ) {
      const image = images.get(id);
      const isNeeded = [images.referencesOf(id), images.children(id), containers.usingImage(id)].some(
        (of) => of.length > 0,
      );
      if (image === undefined || isNeeded || images.hidden().has(id)) return;
      this.#delete(image, removed);
      id = image.parent;
    }
  }

  /** Users see it no longer. What BuildKit's builds made stays in their cache, as with Docker. */
  #forget(image: ImageRow, removed: Removed[]): void {
    if (!this.#graph.images.hideAgain(image.id)) this.#graph.images.delete(image.id);
    removed.push({ Deleted: image.id });
    imageEvent(this.#graph, 'delete', image.id);
  }

  #untag(row: ReferenceRow, removed: Removed[]): void {
    this.#graph.images.deleteReference(row.name);
    removed.push({ Untagged: familiarRow(row) });
    imageEvent(this.#graph, 'untag', row.imageId);
  }

  #delete(image: ImageRow, removed: Removed[]): void {
    this.#graph.images.delete(image.id);
    removed.push({ Deleted: image.id });
    imageEvent(this.#graph, 'delete', image.id);
  }
}

/** The names that stay when one of them goes: with the last tag of a repository its digests go. */
function namesWithout(reference: ReferenceRow, all: readonly ReferenceRow[]): ReferenceRow[] {
  const others = all.filter((row) => row.name !== reference.name);
  const isOfIt = (row: ReferenceRow): boolean => row.repository === reference.repository;
  if (others.some((row) => row.tag !== null && isOfIt(row))) return others;
  return others.filter((row) => row.tag !== null || !isOfIt(row));
}

/** The name of a new tag: neither digest nor id. */
export function parseTag(repository: string, tag: string): ReturnType<typeof parseReference> {
  const reference = parseReference(tag === '' ? repository : `${repository}:${tag}`);
  // What stands before a colon could be either.
  if (familiarRepository(repositoryOf(reference)) === 'sha256')
    throw new CaissonError('InvalidParameter', 'refusing to create an ambiguous tag using digest algorithm as name');
  if (reference.digest !== undefined)
    throw new CaissonError('InvalidParameter', 'refusing to create a tag with a digest reference');
  return reference;
}
