/** What an archive says it holds: the images of `docker save`'s manifest.json, or of an OCI layout's index.json. */
import { isDigest, sha256Of } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import { type Descriptor, type ImageIndex, type ImageManifest, MEDIA_TYPES, type Platform } from '../../oci.ts';
import { parseJson } from '../api/json.ts';

export interface Bundle {
  /** References, as the archive writes them. */
  names: string[];
  config: Buffer;
  /** Paths in the archive, the base layer first. */
  layerPaths: string[];
  /** The image's manifest, where the archive has it: its exact bytes, and the layers that it names. */
  manifest: { digest: string; mediaType: string; bytes: Buffer; layers: Descriptor[] } | undefined;
}

const invalid = (reason: string): CaissonError =>
  new CaissonError('InvalidParameter', `invalid image archive: ${reason}`, { code: 'ARCHIVE_INVALID' });

export function readBundles(documents: ReadonlyMap<string, Buffer>, platform: Platform): Bundle[] {
  const manifest = documents.get('manifest.json');
  if (manifest !== undefined) return dockerBundles(manifest, documents);
  const index = documents.get('index.json');
  if (index !== undefined) return layoutBundles(parse<ImageIndex>(index, 'index.json'), documents, platform);
  throw invalid('it has neither manifest.json nor index.json');
}

function dockerBundles(manifest: Buffer, documents: ReadonlyMap<string, Buffer>): Bundle[] {
  const list = parse<unknown>(manifest, 'manifest.json');
  if (!Array.isArray(list)) throw invalid('manifest.json is not a list');
  const described = manifestsByConfig(documents);
  return list.map((item: unknown) => {
    const { Config, RepoTags, Layers } = (item ?? {}) as Record<string, unknown>;
    if (typeof Config !== 'string' || !isStrings(Layers) || !(RepoTags == null || isStrings(RepoTags)))
      throw invalid('an entry of manifest.json needs Config, RepoTags and Layers');
    const config = documents.get(Config);
    if (config === undefined) throw invalid(`${Config} is missing`);
    const found = described.get(sha256Of(config));
    return {
      names: RepoTags ?? [],
      config,
      layerPaths: Layers,
      manifest: found?.layers.length === Layers.length ? found : undefined,
    };
  });
}

/** Docker's archives have been OCI layouts as well since 25: what the index names, by the digest of its config. */
function manifestsByConfig(documents: ReadonlyMap<string, Buffer>): Map<string, NonNullable<Bundle['manifest']>> {
  const found = new Map<string, NonNullable<Bundle['manifest']>>();
  const text = documents.get('index.json');
  const index = text === undefined ? undefined : parse<ImageIndex>(text, 'index.json');
  for (const descriptor of Array.isArray(index?.manifests) ? index.manifests : []) {
    const bytes = documents.get(blobPath(descriptor));
    const document = bytes && parse<ImageManifest & Partial<ImageIndex>>(bytes, descriptor.digest);
    if (bytes === undefined || document === undefined || document.manifests !== undefined) continue;
    if (isDigest(document.config?.digest) && Array.isArray(document.layers))
      found.set(document.config.digest, known(descriptor.digest, document, bytes));
  }
  return found;
}

const known = (
  digest: string,
  { mediaType, layers }: ImageManifest,
  bytes: Buffer,
): NonNullable<Bundle['manifest']> => ({
  digest,
  mediaType: mediaType ?? MEDIA_TYPES.ociManifest,
  bytes,
  layers,
});

function layoutBundles(index: ImageIndex, documents: ReadonlyMap<string, Buffer>, platform: Platform): Bundle[] {
  if (!Array.isArray(index.manifests)) throw invalid('index.json has no manifests');
  // Attestations stand beside their image, for a platform that none is made for.
  const images = index.manifests.filter((descriptor) => descriptor?.platform?.os !== 'unknown');
  return images.map((descriptor) => {
    const name = nameOf(descriptor);
    const { manifest, bytes, digest } = manifestOf(descriptor, documents, platform, 0);
    if (!Array.isArray(manifest.layers)) throw invalid(`manifest ${digest} has no layers`);
    const config = blob(manifest.config, documents);
    if (sha256Of(config) !== manifest.config.digest)
      throw invalid(`the config of manifest ${digest} is not ${manifest.config.digest}`);
    return {
      names: name === undefined ? [] : [name],
      config,
      layerPaths: manifest.layers.map(blobPath),
      manifest: known(digest, manifest, bytes),
    };
  });
}

function manifestOf(
  descriptor: Descriptor,
  documents: ReadonlyMap<string, Buffer>,
  platform: Platform,
  depth: number,
): { manifest: ImageManifest; bytes: Buffer; digest: string } {
  const bytes = blob(descriptor, documents);
  const document = parse<ImageManifest & Partial<ImageIndex>>(bytes, descriptor.digest);
  if (document.manifests !== undefined && document.layers !== undefined)
    throw invalid(`${descriptor.digest} is both an index and a manifest`);
  if (document.manifests === undefined) return { manifest: document, bytes, digest: descriptor.digest };
  const fits = ({ platform: p }: Descriptor): boolean =>
    p !== undefined && p.os === platform.os && p.architecture === platform.architecture;
  const child = Array.isArray(document.manifests) ? document.manifests.find(fits) : undefined;
  if (child === undefined || depth > 3)
    throw new CaissonError('NotFound', `the archive has no image for ${platform.os}/${platform.architecture}`);
  return manifestOf(child, documents, platform, depth + 1);
}

function nameOf({ annotations }: Descriptor): string | undefined {
  const full = annotations?.['io.containerd.image.name'];
  const ref = annotations?.['org.opencontainers.image.ref.name'];
  // The OCI annotation may be a bare tag, which names no image.
  return full ?? (ref?.includes(':') || ref?.includes('/') ? ref : undefined);
}

function blobPath(descriptor: Descriptor): string {
  if (!isDigest(descriptor?.digest)) throw invalid('a descriptor without a valid digest');
  return `blobs/${descriptor.digest.replace(':', '/')}`;
}

function blob(descriptor: Descriptor, documents: ReadonlyMap<string, Buffer>): Buffer {
  const found = documents.get(blobPath(descriptor));
  if (found === undefined) throw invalid(`the blob ${descriptor.digest} is missing`);
  return found;
}

function parse<T>(bytes: Buffer, name: string): T {
  try {
    return parseJson(bytes) as T;
  } catch (error) {
    throw invalid(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');
