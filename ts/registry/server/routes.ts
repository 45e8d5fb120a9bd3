/**
 * Paths of the distribution specification. A repository's name has slashes and may hold any of the words, so that a path
 * is read from its end.
 */
import { isDigest } from '../../digest.ts';
import { RegistryError } from './errors.ts';

export type Route =
  | { kind: 'base' }
  | { kind: 'catalog' }
  | { kind: 'token' }
  | { kind: 'tags'; name: string }
  | { kind: 'manifest'; name: string; reference: string }
  | { kind: 'blob'; name: string; digest: string }
  | { kind: 'uploads'; name: string }
  | { kind: 'upload'; name: string; id: string }
  | { kind: 'referrers'; name: string; digest: string };

const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
/** The first component may be a host with a port: a repository of an upstream. */
const NAME = new RegExp(`^(?:${COMPONENT}|${COMPONENT}:\\d{1,5})(?:/${COMPONENT})*$`);
const TAG = /^\w[\w.-]{0,127}$/;
const MAX_NAME = 255;

export const isTag = (text: string): boolean => TAG.test(text);

export function checkName(name: string): string {
  if (name.length > MAX_NAME || !NAME.test(name))
    throw new RegistryError('NAME_INVALID', `invalid repository name ${JSON.stringify(name.slice(0, MAX_NAME))}`);
  return name;
}

/** Undefined for a path that is none of the API's. Throws NAME_INVALID, DIGEST_INVALID. */
export function parseRoute(path: string): Route | undefined {
  if (path === '/v2/' || path === '/v2') return { kind: 'base' };
  if (path === '/token') return { kind: 'token' };
  if (!path.startsWith('/v2/')) return undefined;
  if (path === '/v2/_catalog') return { kind: 'catalog' };
  const parts = decode(path.slice('/v2/'.length)).split('/');
  if (parts.at(-1) === '' && parts.at(-2) === 'uploads') parts.pop();
  const last = parts.pop() ?? '';
  const verb = parts.pop();
  const nameOf = (): string => checkName(parts.join('/'));
  if (verb === 'tags' && last === 'list') return { kind: 'tags', name: nameOf() };
  if (verb === 'manifests') return { kind: 'manifest', name: nameOf(), reference: checkReference(last) };
  if (verb === 'referrers') return { kind: 'referrers', name: nameOf(), digest: digestOf(last) };
  if (verb === 'blobs' && last === 'uploads') return { kind: 'uploads', name: nameOf() };
  if (verb === 'blobs') return { kind: 'blob', name: nameOf(), digest: digestOf(last) };
  if (verb === 'uploads' && parts.at(-1) === 'blobs') {
    parts.pop();
    return { kind: 'upload', name: nameOf(), id: last };
  }
  return undefined;
}

export function digestOf(text: string): string {
  const valid: boolean = isDigest(text);
  if (!valid)
    throw new RegistryError(
      'DIGEST_INVALID',
      `invalid digest ${JSON.stringify(text.slice(0, 150))}: not sha256 or sha512`,
    );
  return text;
}

function checkReference(text: string): string {
  if (text.includes(':')) return digestOf(text);
  if (!isTag(text))
    throw new RegistryError('TAG_INVALID', `invalid tag ${JSON.stringify(text.slice(0, 150))}`, { status: 404 });
  return text;
}

function decode(path: string): string {
  if (!path.includes('%')) return path;
  try {
    return decodeURIComponent(path);
  } catch {
    throw new RegistryError('NAME_INVALID', 'the path is not valid percent-encoding');
  }
}
