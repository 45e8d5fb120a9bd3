/**
 * Archives that `docker save` wrote before 1.10: a directory for each layer, whose `json` is an image of its own and names
 * its parent. What is one config today is made of that chain, as dockerd does.
 *
 * ```text
 * repositories           {repository: {tag: id}}
 * <id>/json              created, author, config, parent, …
 * <id>/layer.tar
 * ```
 */
import type { ImageConfig } from '../../oci.ts';
import { parseDocument } from '../../registry/json.ts';
import { type Bundle, invalid } from './bundles.ts';

const MAX_DEPTH = 499;
/** Of the old image, and not of a config. */
const LEFT_OUT = new Set(['id', 'parent', 'parent_id', 'layer_id', 'throwaway', 'Size']);

type V1Image = Record<string, unknown>;

/** `diffIdOf`: of a layer of the archive, by its path. */
export function legacyBundles(
  documents: ReadonlyMap<string, Buffer>,
  diffIdOf: (path: string) => string | undefined,
): Bundle[] {
  const names = Map.groupBy(tagged(documents), ({ id }) => id);
  return [...names].map(([id, of]) => {
    const chain = chainOf(id, documents);
    const layerPaths = chain.map((image) => `${image['id']}/layer.tar`);
    const diffIds = layerPaths.map((path) => {
      const diffId = diffIdOf(path);
      if (diffId === undefined) throw invalid(`the layer ${path} is missing`);
      return diffId;
    });
    const config = Buffer.from(JSON.stringify(configOf(chain, diffIds)));
    return { names: of.map(({ name }) => name), config, layerPaths, manifest: undefined };
  });
}

function tagged(documents: ReadonlyMap<string, Buffer>): { name: string; id: string }[] {
  const repositories = Object.entries(object(documents, 'repositories'));
  return repositories.flatMap(([repository, tags]) => {
    if (tags === null || typeof tags !== 'object') throw invalid(`repositories: ${repository} has no tags`);
    return Object.entries(tags).map(([tag, id]) => ({ name: `${repository}:${tag}`, id: String(id) }));
  });
}

/** The base first. */
function chainOf(id: string, documents: ReadonlyMap<string, Buffer>): V1Image[] {
  const chain: V1Image[] = [];
  for (let at: unknown = id; typeof at === 'string' && at !== ''; at = chain[0]?.['parent']) {
    if (chain.length === MAX_DEPTH) throw invalid(`${id} has more than ${MAX_DEPTH} parents`);
    chain.unshift({ ...object(documents, `${at}/json`), id: at });
  }
  return chain;
}

function configOf(chain: V1Image[], diffIds: string[]): object {
  const last = Object.entries(chain.at(-1) ?? {}).filter(([key]) => !LEFT_OUT.has(key));
  const history = chain.map(({ created, author, comment, container_config: made }) => {
    const command = (made as { Cmd?: unknown } | undefined)?.Cmd;
    const text = (value: unknown): value is string => typeof value === 'string' && value !== '';
    return {
      ...(text(created) && { created }),
      ...(Array.isArray(command) && { created_by: command.join(' ') }),
      ...(text(author) && { author }),
      ...(text(comment) && { comment }),
    };
  });
  const rootfs: ImageConfig['rootfs'] = { type: 'layers', diff_ids: diffIds };
  const entries: [string, unknown][] = [...last, ['history', history], ['rootfs', rootfs]];
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function object(documents: ReadonlyMap<string, Buffer>, path: string): Record<string, unknown> {
  const bytes = documents.get(path);
  if (bytes === undefined) throw invalid(`${path} is missing`);
  return parseDocument(bytes, (reason) => invalid(`${path}: ${reason}`));
}
