/** Finds an image by what a user calls it: a reference, an id or the beginning of one. */
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow, ReferenceRow } from '../../graph/images.ts';
import type { ImageConfig } from '../../oci.ts';
import {
  familiarRepository,
  familiarString,
  parseReference,
  type Reference,
  referenceString,
  repositoryOf,
  withDefaultTag,
} from '../../reference.ts';
import { noSuchImage } from '../api/messages.ts';
import { parseConfig } from './config.ts';

/** An image as a container needs it. */
export interface UsableImage {
  /** `sha256:…` */
  id: string;
  config: ImageConfig;
  /** chainId of its top layer; null when it has none. */
  chainId: string | null;
}

export interface Found {
  image: ImageRow;
  /** The reference it was found by; undefined when by id. */
  reference: ReferenceRow | undefined;
}

export class ImageNames {
  readonly #graph: Graph;

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  /** Kind NotFound with `No such image: NAME:TAG`. By its whole id one of the cache of builds too, for the builds themselves. */
  find(name: string): UsableImage {
    const byId = /^sha256:[0-9a-f]{64}$/.test(name) ? this.#graph.images.get(name) : undefined;
    const image = byId ?? this.resolve(name).image;
    return {
      id: image.id,
      config: parseConfig(image.config),
      chainId: this.#graph.images.layers(image.id).at(-1) ?? null,
    };
  }

  /** Docker's order: a full id, then a reference, then the beginning of an id. */
  resolve(name: string): Found {
    const images = this.#graph.images;
    const isId = /^(sha256:)?[0-9a-f]{64}$/.test(name);
    if (isId) {
      const image = images.get(name.startsWith('sha256:') ? name : `sha256:${name}`);
      if (image === undefined || images.isHidden(image.id)) throw notFound(name);
      return { image, reference: undefined };
    }
    const parsed = tryParse(name);
    if (parsed !== undefined) {
      const reference = this.reference(parsed);
      const image = reference && images.get(reference.imageId);
      if (image !== undefined) return { image, reference };
    }
    const [first, second] = images.findByPrefix(name);
    if (second !== undefined)
      throw new CaissonError('InvalidParameter', `multiple IDs found with provided prefix: ${name}`);
    const image = first === undefined ? undefined : images.get(first);
    if (image !== undefined) return { image, reference: undefined };
    if (parsed === undefined) parseReference(name);
    throw notFound(parsed === undefined ? name : familiarString(withDefaultTag(parsed)));
  }

  /** A digest names the image whatever tag stands beside it. */
  reference(reference: Reference): ReferenceRow | undefined {
    const { digest } = reference;
    const key =
      digest === undefined ? withDefaultTag(reference) : { domain: reference.domain, path: reference.path, digest };
    return this.#graph.images.reference(referenceString(key));
  }

  /** Tags and digests of an image as users see them. */
  tagsOf(imageId: string): { repoTags: string[]; repoDigests: string[] } {
    const rows = this.#graph.images.referencesOf(imageId);
    return {
      repoTags: rows.filter((row) => row.tag !== null).map(familiarRow),
      repoDigests: rows.filter((row) => row.digest !== null).map(familiarRow),
    };
  }
}

export const familiarRow = (row: ReferenceRow): string =>
  `${familiarRepository(row.repository)}${row.tag === null ? `@${row.digest}` : `:${row.tag}`}`;

export function referenceRow(reference: Reference, imageId: string): ReferenceRow {
  const { domain, path, digest } = reference;
  const named = digest === undefined ? withDefaultTag(reference) : { domain, path, digest };
  return {
    name: referenceString(named),
    repository: repositoryOf(reference),
    tag: named.tag ?? null,
    digest: digest ?? null,
    imageId,
  };
}

const notFound = (name: string): CaissonError =>
  new CaissonError('NotFound', noSuchImage(name), { code: 'IMAGE_NOT_FOUND' });

function tryParse(name: string): Reference | undefined {
  try {
    return parseReference(name);
  } catch {
    return undefined;
  }
}
