/** The manifest of an image here: the one that it came with, or one made of what is kept. */

import { sha256Of } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow } from '../../graph/images.ts';
import { type Descriptor, type ImageManifest, MEDIA_TYPES } from '../../oci.ts';
import { shortId } from './progress.ts';

export interface StoredManifest {
  descriptor: Descriptor;
  bytes: Buffer;
  /** In the config's exact bytes. */
  config: { descriptor: Descriptor; bytes: Buffer };
  /** Each is in the content store; the base layer first. */
  layers: Descriptor[];
  /** Of the uncompressed layers, in the same order. */
  diffIds: string[];
}

/**
 * The same bytes each time for the same image. All that it names is put under the lease before it is looked for. Kind
 * DataLoss when a layer's blob is not kept.
 */
export async function storedManifest(
  { graph, content }: { graph: Graph; content: ContentStore },
  image: ImageRow,
  lease: string,
): Promise<StoredManifest> {
  const rows = graph.images.layers(image.id).map((chainId) => {
    graph.leases.add(lease, 'layer', chainId);
    const row = graph.layers.get(chainId);
    if (row === undefined) throw new CaissonError('DataLoss', `layer ${chainId} of ${image.id} is not in the store`);
    return row;
  });
  const diffIds = rows.map((row) => row.diffId);
  const config = Buffer.from(image.config);
  const came = await cameWith(graph, content, image, lease);
  if (came !== undefined)
    return {
      ...came,
      config: { descriptor: came.manifest.config, bytes: config },
      layers: came.manifest.layers,
      diffIds,
    };
  const layers = rows.map(({ diffId, blobDigest, blobSizeBytes, blobMediaType }): Descriptor => {
    if (blobDigest !== null) graph.leases.add(lease, 'blob', blobDigest);
    if (blobDigest === null || blobSizeBytes === null || blobMediaType === null || !content.has(blobDigest))
      throw new CaissonError('DataLoss', `the blob of layer ${diffId} of image ${shortId(image.id)} is not kept`, {
        code: 'LAYER_NOT_KEPT',
        hint: 'pull or load the image again',
      });
    return { mediaType: ociType(blobMediaType), digest: blobDigest, size: blobSizeBytes };
  });
  const configDescriptor = { mediaType: MEDIA_TYPES.ociConfig, digest: image.id, size: config.length };
  const manifest: ImageManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: configDescriptor,
    layers,
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  const descriptor = { mediaType: MEDIA_TYPES.ociManifest, digest: sha256Of(bytes), size: bytes.length };
  return { descriptor, bytes, config: { descriptor: configDescriptor, bytes: config }, layers, diffIds };
}

/** The manifest that was pulled or loaded, if it and all that it names are kept. */
async function cameWith(
  graph: Graph,
  content: ContentStore,
  { manifestDigest }: ImageRow,
  lease: string,
): Promise<{ descriptor: Descriptor; bytes: Buffer; manifest: ImageManifest } | undefined> {
  if (manifestDigest === null) return undefined;
  graph.leases.add(lease, 'blob', manifestDigest);
  const row = graph.blobs.get(manifestDigest);
  if (row === undefined) return undefined;
  const bytes = await content.read(manifestDigest);
  const manifest = JSON.parse(bytes.toString()) as ImageManifest;
  for (const { digest } of manifest.layers) graph.leases.add(lease, 'blob', digest);
  if (!manifest.layers.every(({ digest }) => content.has(digest))) return undefined;
  return { descriptor: { mediaType: row.mediaType, digest: manifestDigest, size: bytes.length }, bytes, manifest };
}

/** An OCI manifest names layers by OCI's types; the bytes are the same. */
const ociType = (mediaType: string): string =>
  mediaType.endsWith('zstd') ? MEDIA_TYPES.ociLayerZstd : MEDIA_TYPES.ociLayerGzip;
