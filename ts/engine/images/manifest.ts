/** The manifest of an image here: the one that it came with, or one made of what is kept. */

import { sha256Of } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow } from '../../graph/images.ts';
import type { LayerRow } from '../../graph/layers.ts';
import { type Descriptor, type ImageManifest, MEDIA_TYPES } from '../../oci.ts';
import type { LayerBlobs } from './layerBlobs.ts';

export interface StoredManifest {
  descriptor: Descriptor;
  bytes: Buffer;
  /** In the config's exact bytes. */
  config: { descriptor: Descriptor; bytes: Buffer };
  /** Each is in the content store, can be fetched or made (layerBlobs.ts); the base layer first. */
  layers: Descriptor[];
  /** In the same order. */
  rows: LayerRow[];
}

export interface ManifestParts {
  graph: Graph;
  content: ContentStore;
  blobs: LayerBlobs;
}

export interface ManifestChoice {
  /** Of an image that came without a manifest, or whose blobs are not to be had: named as the archives that they are where
   * these can be made again, whatever else there is, or compressed into the content store where there is no blob. */
  others: 'compressed' | 'archives';
  /** What can be fetched does not count. */
  anew?: boolean;
}

/**
 * The same bytes each time for the same image. All that it names is put under the lease before it is looked for. Kind
 * DataLoss when a layer's blob is nowhere.
 */
export async function storedManifest(
  parts: ManifestParts,
  image: ImageRow,
  lease: string,
  { others, anew = false }: ManifestChoice,
): Promise<StoredManifest> {
  const { graph, content, blobs } = parts;
  const isThere = (digest: string): boolean => (anew ? content.has(digest) : blobs.isKnown(digest));
  const rows = graph.images.layers(image.id).map((chainId) => {
    graph.leases.add(lease, 'layer', chainId);
    const row = graph.layers.get(chainId);
    if (row === undefined) throw new CaissonError('DataLoss', `layer ${chainId} of ${image.id} is not in the store`);
    return row;
  });
  const config = Buffer.from(image.config);
  const came = await cameWith(parts, image, lease, isThere);
  if (came !== undefined)
    return {
      ...came,
      config: { descriptor: came.manifest.config, bytes: config },
      layers: came.manifest.layers,
      rows,
    };
  // Of all these the keys have one order: the manifest's bytes depend on it.
  const layers = await Promise.all(
    rows.map(async (row): Promise<Descriptor> => {
      const { blobDigest, blobSizeBytes, blobMediaType } = row;
      if (blobDigest !== null) graph.leases.add(lease, 'blob', blobDigest);
      if (others === 'archives' && (await blobs.hasRecipe(row))) return blobs.describe(row);
      if (blobDigest !== null && blobSizeBytes !== null && blobMediaType !== null && isThere(blobDigest))
        return { mediaType: ociType(blobMediaType), digest: blobDigest, size: blobSizeBytes };
      return others === 'archives' ? blobs.describe(row) : blobs.recreate(row, lease);
    }),
  );
  const configDescriptor = { mediaType: MEDIA_TYPES.ociConfig, digest: image.id, size: config.length };
  const manifest: ImageManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: configDescriptor,
    layers,
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  const descriptor = { mediaType: MEDIA_TYPES.ociManifest, digest: sha256Of(bytes), size: bytes.length };
  return { descriptor, bytes, config: { descriptor: configDescriptor, bytes: config }, layers, rows };
}

/** The manifest that was pulled or loaded, if it is kept and all that it names is there. */
async function cameWith(
  { graph, content }: ManifestParts,
  { manifestDigest }: ImageRow,
  lease: string,
  isThere: (digest: string) => boolean,
): Promise<{ descriptor: Descriptor; bytes: Buffer; manifest: ImageManifest } | undefined> {
  if (manifestDigest === null) return undefined;
  graph.leases.add(lease, 'blob', manifestDigest);
  const row = graph.blobs.get(manifestDigest);
  if (row === undefined) return undefined;
  const bytes = await content.read(manifestDigest);
  const manifest = JSON.parse(bytes.toString()) as ImageManifest;
  for (const { digest } of manifest.layers) graph.leases.add(lease, 'blob', digest);
  if (!manifest.layers.every(({ digest }) => isThere(digest))) return undefined;
  return { descriptor: { mediaType: row.mediaType, digest: manifestDigest, size: bytes.length }, bytes, manifest };
}

/** An OCI manifest names layers by OCI's types; the bytes are the same. */
const ociType = (mediaType: string): string => {
  if (mediaType.endsWith('zstd')) return MEDIA_TYPES.ociLayerZstd;
  return mediaType.endsWith('gzip') ? MEDIA_TYPES.ociLayerGzip : MEDIA_TYPES.ociLayer;
};
