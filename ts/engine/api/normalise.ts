/**
 * The one way from a request line to a route. Every request, also one that asks for an upgrade, passes here before
 * routing, so that no later check sees another path than the executor (CVE-2024-41110 is that disagreement). What could
 * be read in two ways is refused instead of being repaired.
 */
import { CaissonError } from '../../errdefs.ts';
import { API_VERSION, MIN_API_VERSION } from '../version.ts';

export interface NormalisedUrl {
  /** Path and query without the version. */
  url: string;
  /** The version asked for; the newest for an unversioned path. */
  version: string;
}

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** Negative, zero or positive, as for sort. */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function checkVersion(version: string): void {
  if (compareVersions(version, API_VERSION) > 0)
    throw invalid(`client version ${version} is too new. Maximum supported API version is ${API_VERSION}`);
  if (compareVersions(version, MIN_API_VERSION) < 0)
    throw invalid(
      `client version ${version} is too old. Minimum supported API version is ${MIN_API_VERSION}, please upgrade your client to a newer version`,
    );
}

function checkPath(path: string): void {
  for (const segment of path.split('/').slice(1)) {
    let decoded: string;
    try {
      decoded = decodeURIComponent(segment);
    } catch {
      throw invalid(`invalid request path ${JSON.stringify(path)}: malformed percent-encoding`);
    }
    if (decoded === '.' || decoded === '..' || decoded.split('/').includes('..'))
      throw invalid(`invalid request path ${JSON.stringify(path)}: "." and ".." are not allowed`);
    if (decoded.includes('\0')) throw invalid(`invalid request path ${JSON.stringify(path)}: contains a NUL byte`);
  }
  if (path.includes('//')) throw invalid(`invalid request path ${JSON.stringify(path)}: empty path segment`);
}

export function normaliseUrl(raw: string): NormalisedUrl {
  if (!raw.startsWith('/'))
    throw invalid(`invalid request target ${JSON.stringify(raw)}: only the form "/path" is accepted`);
  const queryAt = raw.indexOf('?');
  const path = queryAt < 0 ? raw : raw.slice(0, queryAt);
  const query = queryAt < 0 ? '' : raw.slice(queryAt);
  checkPath(path);
  const match = /^\/v(\d[\d.]*)(\/.*)$/.exec(path);
  if (match?.[1] === undefined || match[2] === undefined) return { url: path + query, version: API_VERSION };
  checkVersion(match[1]);
  return { url: match[2] + query, version: match[1] };
}

/** RFC 9112 3.2: more than one Host is an error, and a proxy before us may have believed the other one. */
export function checkHeaders(rawHeaders: string[]): void {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]?.toLowerCase() === 'host') hosts++;
  if (hosts > 1) throw invalid('invalid request: more than one Host header');
}

/** A browser can reach a TCP port, and has its user's certificates; what a page's script sends has an Origin, and no Docker client has. */
export function checkOrigin(origin: string | undefined): void {
  if (origin === undefined) return;
  throw new CaissonError('Forbidden', `request from the web page origin ${JSON.stringify(origin)} is forbidden`);
}

/** For TCP without TLS, on loopback: DNS rebinding shows as a foreign Host. */
export function checkHost(host: string | undefined): void {
  const name = (host ?? '').replace(/:\d+$/, '').toLowerCase();
  const local = name === 'localhost' || name === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name);
  if (!local) throw new CaissonError('Forbidden', `request for the host ${JSON.stringify(name)} is forbidden`);
}
