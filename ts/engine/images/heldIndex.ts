/** An index that an image came with, and whose images are all here: a push gives it on as it came. */
import type { ContentStore } from '../../graph/content-store.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageRow } from '../../graph/images.ts';
import { type Descriptor, type ImageIndex, MEDIA_TYPES } from '../../oci.ts';

export interface HeldIndex {
  descriptor: Descriptor;
  bytes: Buffer;
  /** One for each of its manifests, in its order. */
  images: ImageRow[];
}

const INDEXES: readonly string[] = [MEDIA_TYPES.ociIndex, MEDIA_TYPES.dockerList];

/** Under the lease. Of several the first by digest; undefined where there is none. */
export async function heldIndex(
  { graph, content }: { graph: Graph; content: ContentStore },
  image: ImageRow,
  lease: string,
): Promise<HeldIndex | undefined> {
  for (const digest of graph.images.blobs(image.id)) {
    graph.leases.add(lease, 'blob', digest);
    const blob = graph.blobs.get(digest);
    if (blob === undefined || !INDEXES.includes(blob.mediaType)) continue;
    const byManifest = new Map(graph.images.all().map((row) => [row.manifestDigest, row]));
    const bytes = await content.read(digest);
    const { manifests } = JSON.parse(bytes.toString()) as ImageIndex;
    const images = manifests.flatMap((manifest) => byManifest.get(manifest.digest) ?? []);
    if (images.length < manifests.length || !images.some(({ id }) => id === image.id)) continue;
    return { descriptor: { mediaType: blob.mediaType, digest, size: bytes.length }, bytes, images };
  }
  return undefined;
}
