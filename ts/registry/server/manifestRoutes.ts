/** /v2/<name>/manifests/…, tags and referrers, and the list of repositories. */
import type { OutgoingHttpHeaders } from 'node:http';
import { MEDIA_TYPES } from '../../oci.ts';
import { MAX_MANIFEST_BYTES } from '../json.ts';
import { parseManifest } from './document.ts';
import { RegistryError } from './errors.ts';
import { type Exchange, etagMatches, nextLink, pageOf, readBody, send, sendJson } from './exchange.ts';
import type { ManifestHead } from './metadata/manifests.ts';
import type { Registry } from './registry.ts';
import { isTag } from './routes.ts';

/** The specification wants ten; a request line has room for more. */
const MAX_TAGS = 100;

export function getManifest(
  registry: Registry,
  exchange: Exchange,
  name: string,
  reference: string,
  extra: OutgoingHttpHeaders = {},
): void {
  const found =
    exchange.method === 'HEAD' ? registry.manifests.head(name, reference) : registry.manifests.get(name, reference);
  if (found === undefined) throw unknownManifest(registry, name, reference);
  const headers = { ...extra, ...headersOf(found) };
  if (etagMatches(exchange.request.headers['if-none-match'], found.digest)) {
    send(exchange, 304, headers);
    return;
  }
  headers['Content-Type'] = found.mediaType;
  headers['Content-Length'] = found.sizeBytes;
  send(exchange, 200, headers, 'bytes' in found ? (found.bytes as Buffer) : undefined);
}

const headersOf = ({ digest }: ManifestHead): OutgoingHttpHeaders => ({
  'Docker-Content-Digest': digest,
  ETag: `"${digest}"`,
});

export function unknownManifest(registry: Registry, name: string, reference: string): RegistryError {
  if (registry.repositories.id(name) === undefined) return unknownName(name);
  return new RegistryError('MANIFEST_UNKNOWN', `${name} has no manifest ${reference}`, { detail: { name, reference } });
}

const unknownName = (name: string): RegistryError =>
  new RegistryError('NAME_UNKNOWN', `there is no repository ${name}`, { detail: { name } });

export async function putManifest(
  registry: Registry,
  exchange: Exchange,
  name: string,
  reference: string,
): Promise<void> {
  const { request, query } = exchange;
  const bytes = await readBody(exchange, MAX_MANIFEST_BYTES);
  const byDigest = reference.includes(':');
  const document = parseManifest(bytes, request.headers['content-type'] ?? '', byDigest ? reference : undefined);
  const tags = byDigest ? tagsOf(query) : [reference];
  const condition = conditionOf(exchange);
  registry.manifests.put(name, document, {
    tags,
    nowMs: Date.now(),
    blobsMayBeMissing: registry.config.allowSparse,
    ...(condition === undefined ? {} : { onlyIfTagIs: condition }),
  });
  await registry.db.durable();
  send(exchange, 201, {
    Location: `/v2/${name}/manifests/${document.digest}`,
    'Docker-Content-Digest': document.digest,
    ...(document.subject === undefined ? {} : { 'OCI-Subject': document.subject }),
    ...(byDigest && tags.length > 0 ? { 'OCI-Tag': tags.join(', ') } : {}),
  });
}

function tagsOf(query: URLSearchParams): string[] {
  const tags = [...new Set(query.getAll('tag').flatMap((value) => value.split(',')))];
  if (tags.length > MAX_TAGS)
    throw new RegistryError('TAG_INVALID', `${tags.length} tags are more than ${MAX_TAGS}`, { status: 414 });
  const wrong = tags.find((tag) => !isTag(tag));
  if (wrong !== undefined) throw new RegistryError('TAG_INVALID', `invalid tag ${JSON.stringify(wrong.slice(0, 150))}`);
  return tags;
}

/** If-Match names the digest that the tag must have, If-None-Match `*` that it must be new. */
function conditionOf({ request }: Exchange): string | null | undefined {
  const { 'if-match': match, 'if-none-match': none } = request.headers;
  if (none?.trim() === '*') return null;
  return match?.trim().replace(/^(?:W\/)?"(.*)"$/, '$1');
}

export async function deleteManifest(
  registry: Registry,
  exchange: Exchange,
  name: string,
  reference: string,
): Promise<void> {
  const { manifests } = registry;
  const gone = reference.includes(':') ? manifests.delete(name, reference) : manifests.deleteTag(name, reference);
  if (!gone) throw unknownManifest(registry, name, reference);
  await registry.db.durable();
  send(exchange, 202, {});
}

export function listTags(registry: Registry, exchange: Exchange, name: string): void {
  const page = pageOf(exchange.query);
  const rows = registry.manifests.tags(name, page.last, page.limit + 1);
  if (rows === undefined) throw unknownName(name);
  sendJson(exchange, { name, tags: rows.slice(0, page.limit) }, nextLink(`/v2/${name}/tags/list`, page, rows));
}

/** Only those that the client may pull; a page may take several looks to fill. */
export function listRepositories(registry: Registry, exchange: Exchange): void {
  const page = pageOf(exchange.query);
  const rows: string[] = [];
  for (let last = page.last; rows.length <= page.limit; ) {
    const more = registry.repositories.list(last, page.limit + 1);
    rows.push(...more.filter((name) => exchange.principal.may(name, 'pull')));
    last = more.at(-1) ?? last;
    if (more.length <= page.limit) break;
  }
  sendJson(exchange, { repositories: rows.slice(0, page.limit) }, nextLink('/v2/_catalog', page, rows));
}

/** An index of what refers to a manifest, which need not be there itself. */
export function listReferrers(registry: Registry, exchange: Exchange, name: string, digest: string): void {
  const page = pageOf(exchange.query);
  const artifactType = exchange.query.get('artifactType') || null;
  const rows = registry.manifests.referrers(name, digest, { artifactType, last: page.last, limit: page.limit + 1 });
  const filter = artifactType === null ? {} : { artifactType };
  const link = nextLink(
    `/v2/${name}/referrers/${digest}`,
    page,
    rows.map((row) => row.digest),
    filter,
  );
  const manifests = rows.slice(0, page.limit).map((row) => ({
    mediaType: row.mediaType,
    digest: row.digest,
    size: row.sizeBytes,
    ...(row.artifactType === null ? {} : { artifactType: row.artifactType }),
    ...(row.annotations === null ? {} : { annotations: JSON.parse(row.annotations) as Record<string, string> }),
  }));
  const headers: OutgoingHttpHeaders = { ...link, 'Content-Type': MEDIA_TYPES.ociIndex };
  if (artifactType !== null) headers['OCI-Filters-Applied'] = 'artifactType';
  sendJson(exchange, { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests }, headers);
}
