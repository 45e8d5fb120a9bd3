/**
 * Manifests and indexes, decoded. One digest must have one meaning whoever serves it (CVE-2021-41190), so a document that
 * could be read as two things, or whose media types disagree, is none.
 */
import { isDigest } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import { crypto } from '../../late.ts';
import { type Descriptor, type ImageIndex, type ImageManifest, MEDIA_TYPES, type Platform } from '../../oci.ts';
import { parseDescriptor, parseDocument } from '../json.ts';
import { corrupt } from './errors.ts';

const MAX_LAYERS = 500;
const MAX_MANIFESTS = 10_000;

/** The exact bytes, with their digest. */
export interface Document {
  mediaType: string;
  digest: string;
  bytes: Uint8Array;
}

export type Decoded = { kind: 'manifest'; manifest: ImageManifest } | { kind: 'index'; index: ImageIndex };

const MANIFESTS: readonly string[] = [MEDIA_TYPES.ociManifest, MEDIA_TYPES.dockerManifest];
const INDEXES: readonly string[] = [MEDIA_TYPES.ociIndex, MEDIA_TYPES.dockerList];
export const ACCEPT = [...INDEXES, ...MANIFESTS].join(', ');
/** Media types of configs, by what an artifact is. */
const CONFIGS = {
  'container image': [MEDIA_TYPES.ociConfig, MEDIA_TYPES.dockerConfig] as string[],
  'managed plugin': [MEDIA_TYPES.pluginConfig] as string[],
};
export type Artifact = keyof typeof CONFIGS;
/** Those that are not to be distributed, too: who has them in a registry means them to be pulled from there. */
const LAYER =
  /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1|docker\.image\.rootfs\.(?:foreign\.)?diff)\.tar(?:[+.](?:gzip|zstd))?$/;

/** Digest of the bytes by the algorithm of `like`. */
export function digestLike(like: string, bytes: Uint8Array): string {
  const algorithm = like.slice(0, like.indexOf(':'));
  return `${algorithm}:${crypto().createHash(algorithm).update(bytes).digest('hex')}`;
}

const invalid = (message: string): CaissonError =>
  new CaissonError('InvalidParameter', `invalid manifest: ${message}`, { code: 'MANIFEST_INVALID' });

/** `contentType`: header of the answer, which must agree with what the document says of itself. `wanted`: what a manifest must be of. */
export function decode(
  bytes: Uint8Array,
  contentType: string,
  wanted: Artifact = 'container image',
): Decoded & { mediaType: string } {
  const header = contentType.split(';')[0]?.trim().toLowerCase() ?? '';
  const document = parseDocument(bytes, invalid);
  const { schemaVersion, mediaType = header } = document;
  if (
    schemaVersion === 1 ||
    'fsLayers' in document ||
    'history' in document ||
    /docker\.distribution\.manifest\.v1\+/.test(header)
  )
    throw new CaissonError(
      'NotImplemented',
      'Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported',
      { code: 'MANIFEST_SCHEMA1', hint: 'push the image again with a current Docker' },
    );
  if (schemaVersion !== 2) throw invalid(`schemaVersion is ${JSON.stringify(schemaVersion)?.slice(0, 20)}, not 2`);
  const isIndex = 'manifests' in document;
  if (isIndex && ('layers' in document || 'config' in document)) throw invalid('both an index and a manifest');
  if (typeof mediaType !== 'string') throw invalid('mediaType is no string');
  const known = [...MANIFESTS, ...INDEXES];
  if (known.includes(header) && header !== mediaType)
    throw invalid(`mediaType is ${JSON.stringify(mediaType.slice(0, 100))}, but it was served as ${header}`);
  if (!known.includes(mediaType)) throw invalid(`unsupported media type ${JSON.stringify(mediaType.slice(0, 100))}`);
  if (isIndex !== INDEXES.includes(mediaType))
    throw invalid(isIndex ? 'expected manifest but found index' : 'expected index but found manifest');
  return isIndex
    ? { kind: 'index', mediaType, index: checkIndex(document) }
    : { kind: 'manifest', mediaType, manifest: checkManifest(document, wanted) };
}

function checkManifest({ config, layers, ...rest }: Record<string, unknown>, wanted: Artifact): ImageManifest {
  if (!Array.isArray(layers)) throw invalid('layers is no list');
  if (layers.length > MAX_LAYERS) throw invalid(`${layers.length} layers are more than ${MAX_LAYERS}`);
  const checked = checkDescriptor(config, 'config');
  if (!CONFIGS[wanted].includes(checked.mediaType))
    throw new CaissonError(
      'InvalidParameter',
      `unsupported media type ${checked.mediaType.slice(0, 100)}: this is no ${wanted}`,
      { code: 'MANIFEST_UNSUPPORTED' },
    );
  return {
    ...rest,
    schemaVersion: 2,
    config: checked,
    layers: layers.map((layer: unknown, i) => {
      const descriptor = checkDescriptor(layer, `layers[${i}]`);
      if (!LAYER.test(descriptor.mediaType))
        throw new CaissonError(
          'NotImplemented',
          `unsupported layer media type ${JSON.stringify(descriptor.mediaType.slice(0, 100))}`,
          { code: 'MANIFEST_UNSUPPORTED' },
        );
      return descriptor;
    }),
  };
}

function checkIndex({ manifests, ...rest }: Record<string, unknown>): ImageIndex {
  if (!Array.isArray(manifests)) throw invalid('manifests is no list');
  if (manifests.length > MAX_MANIFESTS) throw invalid(`${manifests.length} manifests are more than ${MAX_MANIFESTS}`);
  return {
    ...rest,
    schemaVersion: 2,
    manifests: manifests.map((entry: unknown, i) => checkDescriptor(entry, `manifests[${i}]`)),
  };
}

function checkDescriptor(value: unknown, name: string): Descriptor {
  const { mediaType, digest, size, annotations, ...rest } = parseDescriptor(value, name, invalid);
  if (typeof mediaType !== 'string' || mediaType.length > 255) throw invalid(`${name} has no mediaType`);
  if (!isDigest(digest)) throw invalid(`${name} has no valid digest: ${JSON.stringify(digest)?.slice(0, 150)}`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw invalid(`${name} has no valid size`);
  const platform = rest['platform'] == null ? undefined : checkPlatform(rest['platform'], name);
  return {
    mediaType,
    digest,
    size,
    ...(platform === undefined ? {} : { platform }),
    ...(annotations == null ? {} : { annotations: checkAnnotations(annotations, name) }),
  };
}

function checkAnnotations(value: unknown, name: string): Record<string, string> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject || !Object.values(value).every((text) => typeof text === 'string'))
    throw invalid(`${name} has no valid annotations`);
  return value as Record<string, string>;
}

/** Undefined for one that says nothing: Go programs write that for none. */
function checkPlatform(value: unknown, name: string): Platform | undefined {
  const { os = '', architecture = '', variant, 'os.version': version } = value as Record<string, unknown>;
  const texts = [os, architecture, variant ?? '', version ?? ''];
  if (!texts.every((text) => typeof text === 'string' && text.length < 256))
    throw invalid(`${name} has no valid platform`);
  if (texts.every((text) => text === '')) return undefined;
  return {
    os: os as string,
    architecture: architecture as string,
    ...(variant ? { variant: variant as string } : {}),
    ...(version ? { 'os.version': version as string } : {}),
  };
}

/** Kind DataLoss unless the bytes are those that the descriptor names. */
export function checkBytes(bytes: Uint8Array, { digest, size }: Pick<Descriptor, 'digest' | 'size'>): void {
  if (bytes.byteLength !== size) throw corrupt(`${digest}: ${bytes.byteLength} bytes came, but its size is ${size}`);
  const actual = digestLike(digest, bytes);
  if (actual !== digest) throw corrupt(`${digest}: what came has the digest ${actual}`);
}
