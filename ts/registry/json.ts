/**
 * JSON of manifests and indexes, read in one way by the client, by the server and from archives: one digest has one
 * meaning (CVE-2021-41190), so what another program could read as something else is refused.
 */
import { parseStrictly } from '../strictJson.ts';

export const MAX_MANIFEST_BYTES = 4 << 20;

export type Json = Record<string, unknown>;
/** Makes the reader's own error of what is wrong. */
export type Invalid = (message: string) => Error;

const DOCUMENT_KEYS = [
  'schemaVersion',
  'mediaType',
  'config',
  'layers',
  'manifests',
  'blobs',
  'subject',
  'artifactType',
  'annotations',
];
const DESCRIPTOR_KEYS = ['mediaType', 'digest', 'size', 'urls', 'annotations', 'platform'];

export function parseDocument(bytes: Uint8Array, invalid: Invalid): Json {
  let value: unknown;
  try {
    value = parseStrictly(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    // A RangeError: nested so deep that the parser gives up.
    throw invalid(`not JSON (${error instanceof Error ? error.message.slice(0, 100) : 'unreadable'})`);
  }
  return objectOf(value, DOCUMENT_KEYS, 'the manifest', invalid);
}

export const parseDescriptor = (value: unknown, name: string, invalid: Invalid): Json =>
  objectOf(value, DESCRIPTOR_KEYS, name, invalid);

/** Go's decoder reads keys in any case: one that differs from a known key by its case only would be another value there. */
function objectOf(value: unknown, keys: readonly string[], name: string, invalid: Invalid): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(`${name} is no object`);
  for (const key of Object.keys(value)) {
    const like = keys.find((known) => known.toLowerCase() === key.toLowerCase());
    if (like !== undefined && like !== key)
      throw invalid(`${name} has the key ${JSON.stringify(key)}, which some read as ${like}`);
  }
  return value as Json;
}
