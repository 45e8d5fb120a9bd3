/** Image references: `[host/]path[:tag][@digest]`, as users write them and in their one normalised form. */
import { checkDigest, isDigest } from './digest.ts';
import { CaissonError } from './errdefs.ts';

export interface Reference {
  /** Registry's host with port; `docker.io` when none was given. */
  domain: string;
  /** `library/busybox`. */
  path: string;
  tag?: string;
  digest?: string;
}

const DEFAULT_DOMAIN = 'docker.io';
const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const DOMAIN = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:.]+\\])(?::[0-9]+)?$`);
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const MAX_NAME = 255;

const invalid = (reason = ''): CaissonError =>
  new CaissonError('InvalidParameter', `invalid reference format${reason}`, { code: 'REFERENCE_INVALID' });

/** Kind InvalidParameter, with Docker's text, for what is no reference. Adds neither tag nor digest. */
export function parseReference(text: string): Reference {
  if (/^[0-9a-f]{64}$/.test(text))
    throw new CaissonError(
      'InvalidParameter',
      `invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`,
    );
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) throw invalid();
  const named = at < 0 ? text : text.slice(0, at);
  const colon = named.lastIndexOf(':');
  const hasTag = colon > named.lastIndexOf('/');
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  if (tag !== undefined && !TAG.test(tag)) throw invalid();
  const { domain, path } = splitName(hasTag ? named.slice(0, colon) : named);
  return { domain, path, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

function splitName(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const hasDomain = slash > 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  let domain = hasDomain ? first : DEFAULT_DOMAIN;
  let path = hasDomain ? name.slice(slash + 1) : name;
  if (domain === 'index.docker.io') domain = DEFAULT_DOMAIN;
  if (domain === DEFAULT_DOMAIN && path !== '' && !path.includes('/')) path = `library/${path}`;
  if (path !== path.toLowerCase()) throw invalid(`: repository name (${path}) must be lowercase`);
  if (!DOMAIN.test(domain) || !path.split('/').every((part) => COMPONENT.test(part))) throw invalid();
  if (domain.length + 1 + path.length > MAX_NAME)
    throw invalid(`: repository name must not be more than ${MAX_NAME} characters`);
  return { domain, path };
}

/** With the tag `latest` when there is neither tag nor digest. */
export const withDefaultTag = (reference: Reference): Reference =>
  reference.tag === undefined && reference.digest === undefined ? { ...reference, tag: 'latest' } : reference;

/** `docker.io/library/busybox`. */
export const repositoryOf = ({ domain, path }: Pick<Reference, 'domain' | 'path'>): string => `${domain}/${path}`;

/** Normalised: `docker.io/library/busybox:latest`. */
export const referenceString = (reference: Reference): string =>
  repositoryOf(reference) +
  (reference.tag === undefined ? '' : `:${reference.tag}`) +
  (reference.digest === undefined ? '' : `@${checkDigest(reference.digest)}`);

/** As shown to users: without the parts that normalising added. */
export function familiarRepository(repository: string): string {
  if (!repository.startsWith(`${DEFAULT_DOMAIN}/`)) return repository;
  const path = repository.slice(DEFAULT_DOMAIN.length + 1);
  return /^library\/[^/]+$/.test(path) ? path.slice('library/'.length) : path;
}

export const familiarString = (reference: Reference): string =>
  familiarRepository(repositoryOf(reference)) +
  (reference.tag === undefined ? '' : `:${reference.tag}`) +
  (reference.digest === undefined ? '' : `@${reference.digest}`);
