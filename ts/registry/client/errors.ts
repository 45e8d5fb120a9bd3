/** What a registry's failure is called. Clients look for Docker's texts, so those are fixed here. */
import { CaissonError, type ErrorKind } from '../../errdefs.ts';
import { http } from '../../late.ts';
import { familiarRepository, familiarString, type Reference, repositoryOf } from '../../reference.ts';
import type { Answer } from './transport.ts';

export const MAX_ERROR_BYTES = 64_000;

/** A failure that another attempt may mend. */
export class TransientError extends CaissonError {
  readonly retryAfterMs: number | undefined;

  constructor(message: string, details: { cause?: unknown; code?: string; hint?: string; retryAfterMs?: number } = {}) {
    super('Unavailable', message, { code: 'REGISTRY_FAILED', ...details });
    this.retryAfterMs = details.retryAfterMs;
  }
}

const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE/;
/** The far side spoke, but not TLS. */
const NO_TLS = /EPROTO|ERR_SSL_WRONG_VERSION|ERR_SSL_PACKET|ERR_SSL_HTTP_REQUEST/;

/** No connection, and no sign that there would be one in a second: it is told at once, as by dockerd. */
const NO_WAY = ['EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'];
const isLate = (error: unknown): boolean =>
  error instanceof Error && 'event' in error && ['lookup', 'connect', 'secureConnect'].includes(String(error.event));

/** Why no answer came. */
export function connectionError(url: URL, error: unknown): CaissonError {
  if (error instanceof CaissonError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const message = error instanceof Error ? error.message : String(error);
  const get = `Get "${url.origin}${url.pathname}"`;
  if (code === 'ENOTFOUND')
    return new CaissonError('Unavailable', `${get}: dial tcp: lookup ${url.hostname}: no such host`, {
      code: 'REGISTRY_UNREACHABLE',
      hint: 'check the name of the registry and the DNS of this machine',
      cause: error,
    });
  if (code === 'ECONNREFUSED')
    return new CaissonError('Unavailable', `${get}: dial tcp ${url.host}: connect: connection refused`, {
      code: 'REGISTRY_UNREACHABLE',
      hint: 'no registry listens there',
      cause: error,
    });
  if (NO_WAY.includes(code) || isLate(error))
    return new CaissonError('Unavailable', `${get}: dial tcp: ${message}`, {
      code: 'REGISTRY_UNREACHABLE',
      hint: `check that this machine reaches ${url.host}: its network, DNS, and proxy settings of the daemon`,
      cause: error,
    });
  if (NO_TLS.test(code))
    return new CaissonError('Unavailable', `${get}: http: server gave HTTP response to HTTPS client`, {
      code: 'REGISTRY_SPEAKS_HTTP',
      hint: `to allow plain HTTP start the daemon with --insecure-registry ${url.host}`,
      cause: error,
    });
  if (CERTIFICATE.test(code))
    return new CaissonError(
      'Unavailable',
      `${get}: tls: failed to verify certificate: ${message} (${code})`.replace('(ERR_GOT_REQUEST_ERROR)', ''),
      {
        code: 'REGISTRY_CERTIFICATE',
        hint: `put the certificate of its authority into /etc/docker/certs.d/${url.host}/ca.crt`,
        cause: error,
      },
    );
  return new TransientError(`${get}: ${message}`, { code: 'REGISTRY_UNREACHABLE', cause: error });
}

interface RegistryProblem {
  code: string;
  message: string;
}

/** Of an error's body, the first entry; undefined when it is none of the distribution specification's. */
function problemOf(text: string): RegistryProblem | undefined {
  try {
    const { errors } = JSON.parse(text) as { errors?: unknown };
    const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
    if (typeof first !== 'object' || first === null) return undefined;
    // Go's readers do not look at the case of a key, so some servers write `Code`.
    const { code, message } = Object.fromEntries(
      Object.entries(first).map(([key, value]) => [key.toLowerCase(), value]),
    );
    if (code === undefined) return undefined;
    return { code: String(code).slice(0, 100), message: typeof message === 'string' ? message.slice(0, 2000) : '' };
  } catch {
    return undefined;
  }
}

const spoken = ({ code, message }: RegistryProblem): string =>
  `${code.toLowerCase().replaceAll('_', ' ')}${message === '' ? '' : `: ${message}`}`;

const RETRIED = new Set([408, 429, 500, 502, 503, 504]);

/** The answer's body has been read, up to MAX_ERROR_BYTES, into `text`. */
export function answerError(
  { status, headers, url }: Pick<Answer, 'status' | 'headers' | 'url'>,
  text: string,
  reference: Reference,
  maxRetryAfterMs: number,
  action: 'pull' | 'push' = 'pull',
): CaissonError {
  const lacksScope = status === 401 && String(headers['www-authenticate'] ?? '').includes('insufficient_scope');
  const problem = (lacksScope ? undefined : problemOf(text)) ?? impliedProblem(lacksScope ? 403 : status);
  const told = problem ? spoken(problem) : `received unexpected HTTP status: ${status}`;
  if (RETRIED.has(status)) {
    const after = retryAfterMs(headers['retry-after'], maxRetryAfterMs);
    const isLimit = status === 429 && problem !== undefined;
    const text = status === 429 ? `toomanyrequests: ${problem?.message ?? 'the registry limits requests'}` : told;
    return new TransientError(isLimit ? text : `${url.host}: ${text}`, {
      code: status === 429 ? 'REGISTRY_RATE_LIMIT' : 'REGISTRY_UNAVAILABLE',
      ...(after === undefined ? {} : { retryAfterMs: after }),
      ...(status === 429 ? { hint: 'log in to the registry, or set a mirror by --registry-mirror' } : {}),
    });
  }
  const repository = familiarRepository(repositoryOf(reference));
  const known: Record<string, [ErrorKind, string]> = {
    DENIED: [
      'NotFound',
      `pull access denied for ${repository}, repository does not exist or may require 'docker login': `,
    ],
    MANIFEST_UNKNOWN: ['NotFound', `manifest for ${familiarString(reference)} not found: `],
    NAME_UNKNOWN: ['NotFound', `repository ${repository} not found: `],
    BLOB_UNKNOWN: ['NotFound', `${repository}: `],
    UNAUTHORIZED: ['Unauthorized', ''],
  };
  // What may not be pushed may well be there.
  if (action === 'push') known['DENIED'] = ['Forbidden', ''];
  const [kind, prefix] = known[problem?.code ?? ''] ?? [status === 404 ? 'NotFound' : 'System', `${url.host}: `];
  return new CaissonError(kind, prefix + told, {
    code: problem?.code ?? 'REGISTRY_ERROR',
    ...fixOf(problem?.code, reference),
  });
}

/** What a token server says in place of a token. */
export function tokenError(answer: Answer, text: string, reference: Reference, maxRetryAfterMs: number): CaissonError {
  const { status, url } = answer;
  const isSpoken = problemOf(text) !== undefined || status === 401 || RETRIED.has(status);
  if (isSpoken) return answerError(answer, text, reference, maxRetryAfterMs);
  const shown = JSON.stringify(text.trim().slice(0, 200));
  return new CaissonError(
    status === 403 ? 'Forbidden' : 'System',
    `the token server ${url.host} gives no token: error parsing HTTP ${status} response body: ${shown}`,
    { code: 'REGISTRY_TOKEN' },
  );
}

/** Of a server that is asked for a file, and is no registry. */
export function fileError({ status, url }: Pick<Answer, 'status' | 'url'>, text: string): CaissonError {
  const kinds: Record<number, ErrorKind> = {
    400: 'InvalidParameter',
    401: 'Unauthorized',
    403: 'Forbidden',
    404: 'NotFound',
  };
  const told = `failed to GET ${url.href} with status ${status} ${http().STATUS_CODES[status] ?? ''}: ${text.trim()}`;
  return new CaissonError(kinds[status] ?? 'System', told, { code: 'FILE_NOT_SERVED' });
}

/** How the user mends it. */
function fixOf(code: string | undefined, reference: Reference): { hint?: string } {
  const login = `docker login ${reference.domain}`;
  switch (code) {
    case 'UNAUTHORIZED':
      return { hint: `log in first: ${login}` };
    case 'DENIED':
      return { hint: `check the name ${familiarString(reference)}; if the repository is private: ${login}` };
    case 'MANIFEST_UNKNOWN':
      return {
        hint: `the repository has no such tag; its tags: https://${reference.domain}/v2/${reference.path}/tags/list`,
      };
    case 'NAME_UNKNOWN':
      return { hint: `${reference.domain} has no repository ${reference.path}: check the name` };
    default:
      return {};
  }
}

/** What the status says when the body says nothing; a token without the right to pull counts as 403. */
function impliedProblem(status: number): RegistryProblem | undefined {
  if (status === 403) return { code: 'DENIED', message: 'requested access to the resource is denied' };
  if (status === 401) return { code: 'UNAUTHORIZED', message: 'authentication required' };
  if (status === 416) return { code: 'RANGE_INVALID', message: 'invalid content range' };
  return undefined;
}

/** Seconds or a date. */
function retryAfterMs(value: string | string[] | undefined, maxMs: number): number | undefined {
  if (typeof value !== 'string' || value === '') return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), maxMs) : undefined;
}

export const corrupt = (message: string): CaissonError =>
  new CaissonError('DataLoss', message, { code: 'REGISTRY_CORRUPT' });
