/** `docker images` and the filters of `docker image prune`. */
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow } from '../../graph/images.ts';
import type { ImageConfig } from '../../oci.ts';
import { familiarRepository } from '../../reference.ts';
import { untilNs } from '../api/pruneFilters.ts';
import { boolFilter, type Filters, labelsMatch } from '../api/query.ts';
import { createdNs } from '../api/timestamps.ts';
import { parseConfig } from './config.ts';
import { familiarRow, type ImageNames } from './names.ts';
import { type ImageSummary, sharedSizes, summary } from './views.ts';

export const IMAGE_FILTERS = ['before', 'dangling', 'label', 'reference', 'since', 'until'] as const;

export interface ListOptions {
  /** With images that others were built on. */
  all: boolean;
  filters: Filters;
  sharedSize: boolean;
}

export function listImages(graph: Graph, names: ImageNames, options: ListOptions): ImageSummary[] {
  const accepts = imageFilter(graph, names, options.filters);
  const shared = options.sharedSize ? sharedSizes(graph) : undefined;
  const found: ImageSummary[] = [];
  const hidden = graph.images.hidden();
  for (const image of graph.images.all()) {
    if (hidden.has(image.id)) continue;
    const config = parseConfig(image.config);
    if (!accepts(image, config)) continue;
    const item = summary(graph, names, image, config);
    const dangling = item.RepoTags.length === 0 && item.RepoDigests.length === 0;
    if (!options.all && dangling && graph.images.children(image.id).length > 0) continue;
    narrow(item, options.filters.get('reference'));
    if (shared !== undefined) item.SharedSize = shared.get(image.id) ?? 0;
    found.push(item);
  }
  return found.sort((a, b) => b.Created - a.Created);
}

type Accepts = (image: ImageRow, config: ImageConfig) => boolean;

function imageFilter(graph: Graph, names: ImageNames, filters: Filters): Accepts {
  const dangling = boolFilter(filters, 'dangling');
  const bound = (key: string): bigint[] =>
    (filters.get(key) ?? []).map((name) => createdNs(parseConfig(names.resolve(name).image.config).created));
  const before = bound('before');
  const since = bound('since');
  const until = (filters.get('until') ?? []).map(untilNs);
  const labels = filters.get('label') ?? [];
  const patterns = filters.get('reference') ?? [];
  return (image, config) => {
    const created = createdNs(config.created);
    const references = graph.images.referencesOf(image.id);
    return (
      (dangling === undefined || dangling === references.every((row) => row.tag === null)) &&
      before.every((bound) => created < bound) &&
      since.every((bound) => created > bound) &&
      until.every((bound) => created < bound) &&
      labelsMatch(config.config?.Labels ?? {}, labels) &&
      (patterns.length === 0 ||
        references.some((row) => matchesReference(familiarRow(row), familiarRepository(row.repository), patterns)))
    );
  };
}

/** With a reference filter only the names that match are shown. */
function narrow(item: ImageSummary, patterns: readonly string[] | undefined): void {
  if (patterns === undefined || patterns.length === 0) return;
  const keep = (name: string): boolean => matchesReference(name, name.replace(/(@[^@]*|:[^:/]*)$/, ''), patterns);
  item.RepoTags = item.RepoTags.filter(keep);
  item.RepoDigests = item.RepoDigests.filter(keep);
}

export const matchesReference = (full: string, repository: string, patterns: readonly string[]): boolean =>
  patterns.some((pattern) => {
    const glob = globRegExp(pattern);
    return glob.test(full) || glob.test(repository);
  });

/** Go's path.Match: `*` and `?` stop at slashes, `[…]` is a class. */
function globRegExp(pattern: string): RegExp {
  let source = '';
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern[i] as string;
    if (char === '*') source += '[^/]*';
    else if (char === '?') source += '[^/]';
    else if (char === '[') {
      const end = pattern.indexOf(']', i + 1);
      if (end < 0) throw new CaissonError('InvalidParameter', `invalid filter 'reference=${pattern}': unclosed [`);
      const body = pattern.slice(i + 1, end).replace(/[\\[\]]/g, '\\$&');
      source += `[${body}]`;
      i = end;
    } else source += char.replace(/[.+^${}()|\\/]/g, '\\$&');
  }
  try {
    return new RegExp(`^${source}$`);
  } catch {
    throw new CaissonError('InvalidParameter', `invalid filter 'reference=${pattern}'`);
  }
}
