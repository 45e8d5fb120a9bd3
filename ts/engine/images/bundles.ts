/** What an archive says it holds: the images of `docker save`'s manifest.json, or of an OCI layout's index.json. */
import { sha256Of } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import { type Descriptor, type ImageIndex, type ImageManifest, MEDIA_TYPES, type Platform } from '../../oci.ts';
import { checkBytes, type Decoded, decode } from '../../registry/client/documents.ts';
import { choosePlatform } from '../../registry/client/platform.ts';
import { parseDocument } from '../../registry/json.ts';
import { parseJson } from '../api/json.ts';

export interface Bundle {
  /** References, as the archive writes them. */
  names: string[];
  config: Buffer;
  /** Id of the image of the archive that it was made of. */
  parent?: string;
  /** Paths in the archive, the base layer first. */
  layerPaths: string[];
  /** The image's manifest, where the archive has it: its exact bytes, and the layers that it names. */
  manifest: { digest: string; mediaType: string; bytes: Buffer; layers: Descriptor[] } | undefined;
}

export const invalid = (reason: string): CaissonError =>
  new CaissonError('InvalidParameter', `invalid image archive: ${reason}`, { code: 'ARCHIVE_INVALID' });

export function readBundles(documents: ReadonlyMap<string, Buffer>, platform: Platform): Bundle[] {
  const manifest = documents.get('manifest.json');
  if (manifest !== undefined) return dockerBundles(manifest, documents);
  const index = documents.get('index.json');
  if (index !== undefined) return layoutBundles(readIndex(index), documents, platform);
  throw invalid('it has neither manifest.json nor index.json');
}

function dockerBundles(manifest: Buffer, documents: ReadonlyMap<string, Buffer>): Bundle[] {
  const list = within('manifest.json', () => parseJson(manifest));
  if (!Array.isArray(list)) throw invalid('manifest.json is not a list');
  const described = manifestsByConfig(documents);
  return list.map((item: unknown) => {
    const { Config, RepoTags, Layers, Parent } = (item ?? {}) as Record<string, unknown>;
    if (typeof Config !== 'string' || !isStringsOrNull(Layers) || !isStringsOrNull(RepoTags))
      throw invalid('an entry of manifest.json needs Config, RepoTags and Layers');
    const config = documents.get(Config);
    if (config === undefined) throw invalid(`${Config} is missing`);
    const found = described.get(sha256Of(config));
    return {
      names: RepoTags ?? [],
      config,
      ...(typeof Parent === 'string' && Parent !== '' && { parent: Parent }),
      layerPaths: Layers ?? [],
      manifest: found?.layers.length === Layers?.length ? found : undefined,
    };
  });
}

/** Docker's archives have been OCI layouts as well since 25: what the index names, by the digest of its config. */
function manifestsByConfig(documents: ReadonlyMap<string, Buffer>): Map<string, NonNullable<Bundle['manifest']>> {
  const found = new Map<string, NonNullable<Bundle['manifest']>>();
  const index = documents.get('index.json');
  for (const descriptor of index === undefined ? [] : readIndex(index).manifests) {
    const bytes = documents.get(blobPath(descriptor));
    const read = bytes === undefined ? undefined : readImage(descriptor, bytes);
    if (bytes !== undefined && read?.kind === 'manifest')
      found.set(read.manifest.config.digest, known(descriptor, read.manifest, bytes));
  }
  return found;
}

const known = (
  { digest, mediaType }: Descriptor,
  { layers }: ImageManifest,
  bytes: Buffer,
): NonNullable<Bundle['manifest']> => ({ digest, mediaType, bytes, layers });

function layoutBundles(index: ImageIndex, documents: ReadonlyMap<string, Buffer>, platform: Platform): Bundle[] {
  // Attestations stand beside their image, for a platform that none is made for.
  const images = index.manifests.filter((descriptor) => descriptor.platform?.os !== 'unknown');
  return images.map((named) => {
    const name = nameOf(named);
    const { manifest, bytes, descriptor } = manifestOf(named, documents, platform, 0);
    const config = blob(manifest.config, documents);
    if (sha256Of(config) !== manifest.config.digest)
      throw invalid(`the config of manifest ${descriptor.digest} is not ${manifest.config.digest}`);
    return {
      names: name === undefined ? [] : [name],
      config,
      layerPaths: manifest.layers.map(blobPath),
      manifest: known(descriptor, manifest, bytes),
    };
  });
}

function manifestOf(
  descriptor: Descriptor,
  documents: ReadonlyMap<string, Buffer>,
  platform: Platform,
  depth: number,
): { manifest: ImageManifest; bytes: Buffer; descriptor: Descriptor } {
  const bytes = blob(descriptor, documents);
  const document = readDocument(descriptor, bytes);
  if (document.kind === 'manifest') return { manifest: document.manifest, bytes, descriptor };
  const child = choosePlatform(document.index.manifests, platform);
  if (child === undefined || depth > 3)
    throw new CaissonError('NotFound', `the archive has no image for ${platform.os}/${platform.architecture}`);
  return manifestOf(child, documents, platform, depth + 1);
}

/** The archive's own index, which nothing describes; its media type may be left out. */
function readIndex(bytes: Buffer): ImageIndex {
  const type = within('index.json', () => parseDocument(bytes, invalid))['mediaType'] ?? MEDIA_TYPES.ociIndex;
  const read = within('index.json', () => decode(bytes, String(type)));
  if (read.kind !== 'index') throw invalid('index.json is no index');
  return read.index;
}

/** As it is read when it comes from a registry: one digest has one meaning. */
function readDocument(descriptor: Descriptor, bytes: Buffer): Decoded {
  return within(descriptor.digest, () => {
    checkBytes(bytes, descriptor);
    return decode(bytes, descriptor.mediaType);
  });
}

/** Undefined for what is no image: signatures and other artifacts may stand beside one. */
function readImage(descriptor: Descriptor, bytes: Buffer): Decoded | undefined {
  const { schemaVersion = 0 } = within(descriptor.digest, () => parseDocument(bytes, invalid));
  // Left out by its writer, and no registry would take it: manifest.json says what the image is.
  if (schemaVersion === 0) return undefined;
  try {
    return readDocument(descriptor, bytes);
  } catch (error) {
    if (error instanceof CaissonError && error.code === 'MANIFEST_UNSUPPORTED') return undefined;
    throw error;
  }
}

function nameOf({ annotations }: Descriptor): string | undefined {
  const full = annotations?.['io.containerd.image.name'];
  const ref = annotations?.['org.opencontainers.image.ref.name'];
  // The OCI annotation may be a bare tag, which names no image.
  return full ?? (ref?.includes(':') || ref?.includes('/') ? ref : undefined);
}

const blobPath = ({ digest }: Descriptor): string => `blobs/${digest.replace(':', '/')}`;

function blob(descriptor: Descriptor, documents: ReadonlyMap<string, Buffer>): Buffer {
  const found = documents.get(blobPath(descriptor));
  if (found === undefined) throw invalid(`the blob ${descriptor.digest} is missing`);
  return found;
}

function within<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof CaissonError && error.code === 'MANIFEST_UNSUPPORTED') throw error;
    throw invalid(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Go writes null for an empty list. */
const isStringsOrNull = (value: unknown): value is string[] | null | undefined =>
  value == null || (Array.isArray(value) && value.every((item) => typeof item === 'string'));
