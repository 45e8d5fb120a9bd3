/**
 * The signatures of an image in its repository: cosign's under the tag `sha256-<hex>.sig`, and what refers to the image
 * (OCI 1.1, or the fallback tag) with a signature of cosign's or a sigstore bundle. They may be of anybody.
 */
import { CaissonError, isKind } from '../../../errdefs.ts';
import type { Descriptor } from '../../../oci.ts';
import type { Repository } from '../../../registry/client/repository.ts';
import { type Json, parseDescriptor, parseDocument } from '../../../registry/json.ts';

export type Evidence = { /** For messages. */ where: string } & (
  | { kind: 'cosign'; payload: Buffer; annotations: Record<string, string> }
  | { kind: 'bundle'; json: Buffer }
);

const COSIGN_PAYLOAD = 'application/vnd.dev.cosign.simplesigning.v1+json';
const COSIGN_ARTIFACT = 'application/vnd.dev.cosign.artifact.sig.v1+json';
const BUNDLE = /^application\/vnd\.dev\.sigstore\.bundle(?:\.v[\d.]+\+json|\+json;version=[\d.]+)$/;
/** A signature, or the index of them, that is larger or further behind is not looked at. */
const MAX_BYTES = 256 << 10;
const MAX_SIGNATURES = 100;

/** `digests`: of the image's manifest and of the index that names it. Rejects where a registry does not tell. */
export async function findSignatures(source: Repository, digests: string[], signal: AbortSignal): Promise<Evidence[]> {
  const found: Evidence[] = [];
  for (const digest of digests) {
    const tag = `${digest.replace(':', '-')}.sig`;
    const manifests = [tag, ...(await referrersOf(source, digest, signal))];
    for (const name of manifests) {
      for (const layer of await layersOf(source, name, signal)) {
        if (found.length === MAX_SIGNATURES) return found;
        const isBundle = BUNDLE.test(layer.mediaType);
        if (layer.size > MAX_BYTES || (!isBundle && layer.mediaType !== COSIGN_PAYLOAD)) continue;
        const bytes = Buffer.from(await source.fetchDocument(layer, signal));
        const where = `${name}, ${layer.digest}`;
        found.push(
          isBundle
            ? { where, kind: 'bundle', json: bytes }
            : { where, kind: 'cosign', payload: bytes, annotations: layer.annotations ?? {} },
        );
      }
    }
  }
  return found;
}

async function referrersOf(source: Repository, digest: string, signal: AbortSignal): Promise<string[]> {
  const bytes = await source.referrers(digest, signal);
  if (bytes === undefined) return [];
  return descriptors(bytes, 'manifests', `the referrers of ${digest}`)
    .filter(({ artifactType = '' }) => artifactType === COSIGN_ARTIFACT || BUNDLE.test(artifactType))
    .map((descriptor) => descriptor.digest);
}

async function layersOf(source: Repository, name: string, signal: AbortSignal): Promise<Described[]> {
  try {
    const { bytes } = await source.fetchManifest(name, signal);
    return descriptors(bytes, 'layers', name);
  } catch (error) {
    if (isKind(error, 'NotFound')) return [];
    throw error;
  }
}

type Described = Descriptor & { artifactType?: string };

/** What a manifest, which need be no image's, lists. */
function descriptors(bytes: Uint8Array, field: 'manifests' | 'layers', name: string): Described[] {
  const invalid = (problem: string): CaissonError =>
    new CaissonError('DataLoss', `${name}: ${problem}`, { code: 'MANIFEST_INVALID' });
  const listed = parseDocument(bytes, invalid)[field] ?? [];
  if (!Array.isArray(listed)) throw invalid(`${field} is no list`);
  return listed.map((one: unknown, i) => {
    const descriptor: Json = parseDescriptor(one, `${field}[${i}]`, invalid);
    const { mediaType, digest, size, annotations, artifactType } = descriptor;
    const texts = [mediaType, digest, artifactType ?? '', ...Object.values(Object(annotations ?? {}) as object)];
    if (texts.some((text) => typeof text !== 'string') || typeof size !== 'number')
      throw invalid(`${field}[${i}] is no descriptor`);
    return descriptor as unknown as Described;
  });
}
