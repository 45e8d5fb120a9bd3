/**
 * Manifests as the registry reads them: to know what they refer to, and to keep out what another program could read as
 * something else. One digest has one meaning (CVE-2021-41190): a document that is both an index and a manifest, whose media
 * types disagree, or whose keys differ from the specification's by their case only (Go reads those as the same) is refused.
 */
import { isDigest } from '../../digest.ts';
import { MEDIA_TYPES } from '../../oci.ts';
import { digestLike } from '../client/documents.ts';
import { type Json, parseDescriptor, parseDocument } from '../json.ts';
import { RegistryError } from './errors.ts';

const MAX_REFERENCES = 10_000;
const OCI_ARTIFACT = 'application/vnd.oci.artifact.manifest.v1+json';

export interface DocumentReference {
  kind: 'blob' | 'manifest';
  digest: string;
  sizeBytes: number;
  /** May never have been pushed: its bytes are elsewhere (`urls`). */
  foreign: boolean;
}

export interface ManifestDocument {
  digest: string;
  mediaType: string;
  bytes: Buffer;
  references: DocumentReference[];
  subject: string | undefined;
  /** As the list of referrers tells it: of a manifest without one, its config's media type. */
  artifactType: string | undefined;
  annotations: Record<string, string> | undefined;
}

/** Which keys hold descriptors, for each type of document. */
const SHAPES: Record<string, { required: string[]; one: string[]; many: string[]; index: boolean }> = {
  [MEDIA_TYPES.ociManifest]: { required: ['config', 'layers'], one: ['config'], many: ['layers'], index: false },
  [MEDIA_TYPES.dockerManifest]: { required: ['config', 'layers'], one: ['config'], many: ['layers'], index: false },
  [MEDIA_TYPES.ociIndex]: { required: ['manifests'], one: [], many: ['manifests'], index: true },
  [MEDIA_TYPES.dockerList]: { required: ['manifests'], one: [], many: ['manifests'], index: true },
  [OCI_ARTIFACT]: { required: [], one: [], many: ['blobs'], index: false },
};
const invalid = (message: string): RegistryError =>
  new RegistryError('MANIFEST_INVALID', `invalid manifest: ${message}`);
const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 150) ?? 'nothing';

/** `expected`: the digest that the client gave, whose algorithm counts; else sha256. */
export function parseManifest(bytes: Buffer, contentType: string, expected: string | undefined): ManifestDocument {
  const digest = digestLike(expected ?? 'sha256:', bytes);
  if (expected !== undefined && digest !== expected)
    throw new RegistryError('DIGEST_INVALID', `the manifest's digest is ${digest}, not ${expected}`);
  const document = parseDocument(bytes, invalid);
  const mediaType = typeOf(document, contentType);
  const shape = SHAPES[mediaType];
  if (shape === undefined) throw invalid(`unsupported media type ${shown(mediaType)}`);
  if (mediaType !== OCI_ARTIFACT && document['schemaVersion'] !== 2)
    throw invalid(`schemaVersion is ${shown(document['schemaVersion'])}, not 2`);
  for (const key of shape.required) if (!(key in document)) throw invalid(`it has no ${key}`);
  for (const key of ['config', 'layers', 'manifests', 'blobs', 'fsLayers'])
    if (key in document && ![...shape.one, ...shape.many].includes(key))
      throw invalid(shape.index ? `expected index but found ${key}` : `expected manifest but found ${key}`);
  const subject = document['subject'] == null ? undefined : descriptor(document['subject'], 'subject').digest;
  return {
    digest,
    mediaType,
    bytes,
    references: referencesOf(document, shape),
    subject,
    artifactType: artifactTypeOf(document, shape.index),
    annotations: annotationsOf(document['annotations']),
  };
}

/** The header decides; what the document says of itself must agree with it. */
function typeOf(document: Json, contentType: string): string {
  const header = contentType.split(';')[0]?.trim().toLowerCase() ?? '';
  const said = document['mediaType'];
  if (said !== undefined && typeof said !== 'string') throw invalid('mediaType is no string');
  const generic = header === '' || header === 'application/json' || header === 'application/octet-stream';
  if (!generic && said !== undefined && said !== header)
    throw invalid(`mediaType is ${shown(said)}, but it is pushed as ${shown(header)}`);
  return generic ? (said ?? '') : header;
}

function referencesOf(
  document: Json,
  { one, many, index }: { one: string[]; many: string[]; index: boolean },
): DocumentReference[] {
  const found = new Map<string, DocumentReference>();
  const add = (value: unknown, name: string): void => {
    const { digest, size, urls } = descriptor(value, name);
    const known = found.get(digest);
    if (known !== undefined && known.sizeBytes !== size) throw invalid(`${digest} has two sizes`);
    found.set(digest, {
      kind: index ? 'manifest' : 'blob',
      digest,
      sizeBytes: size,
      foreign: urls && (known?.foreign ?? true),
    });
  };
  for (const key of one) add(document[key], key);
  for (const key of many) {
    const list = document[key] ?? [];
    if (!Array.isArray(list)) throw invalid(`${key} is no list`);
    if (list.length > MAX_REFERENCES) throw invalid(`${key} has more than ${MAX_REFERENCES} entries`);
    for (const [i, entry] of list.entries()) add(entry, `${key}[${i}]`);
  }
  return [...found.values()];
}

function descriptor(value: unknown, name: string): { digest: string; size: number; urls: boolean; mediaType: string } {
  const { digest, size, urls, mediaType } = parseDescriptor(value, name, invalid);
  if (typeof mediaType !== 'string' || mediaType === '') throw invalid(`${name} has no mediaType`);
  if (!isDigest(digest)) throw invalid(`${name} has no valid digest: ${shown(digest)}`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw invalid(`${name} has no valid size`);
  const foreign = /nondistributable|\.foreign\./.test(mediaType) || (Array.isArray(urls) && urls.length > 0);
  return { digest, size, urls: foreign, mediaType };
}

function artifactTypeOf(document: Json, index: boolean): string | undefined {
  const said = document['artifactType'];
  if (said !== undefined && typeof said !== 'string') throw invalid('artifactType is no string');
  if (said) return said;
  const config = document['config'];
  return index || config === undefined ? undefined : descriptor(config, 'config').mediaType;
}

function annotationsOf(value: unknown): Record<string, string> | undefined {
  if (value == null) return undefined;
  if (
    typeof value !== 'object' ||
    Array.isArray(value) ||
    !Object.values(value).every((text) => typeof text === 'string')
  )
    throw invalid('annotations are no texts by name');
  return value as Record<string, string>;
}
