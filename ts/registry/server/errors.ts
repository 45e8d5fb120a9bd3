/** Failures as the distribution specification words them: a code from its table, which decides the HTTP status. */
import { CaissonError } from '../../errdefs.ts';

export type RegistryCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'SIZE_INVALID'
  | 'TOOMANYREQUESTS'
  | 'UNAUTHORIZED'
  | 'UNSUPPORTED'
  // Docker's, beside the specification's table
  | 'PAGINATION_NUMBER_INVALID'
  | 'TAG_INVALID'
  | 'UNAVAILABLE'
  | 'UNKNOWN';

const STATUS: Record<RegistryCode, number> = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DENIED: 403,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  TOOMANYREQUESTS: 429,
  UNAUTHORIZED: 401,
  UNSUPPORTED: 405,
  PAGINATION_NUMBER_INVALID: 400,
  TAG_INVALID: 400,
  UNAVAILABLE: 503,
  UNKNOWN: 500,
};

export interface RegistryErrorDetails {
  detail?: unknown;
  /** Where the code's own status is not the one that HTTP wants (412, 413, 416). */
  status?: number;
  headers?: Record<string, string>;
  /** All that is wrong, when there is more than one thing: each an entry of the answer. */
  all?: readonly { message: string; detail?: unknown }[];
  cause?: unknown;
}

export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly code: RegistryCode;
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly entries: readonly { message: string; detail?: unknown }[];

  constructor(code: RegistryCode, message: string, details: RegistryErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.status = details.status ?? STATUS[code];
    this.headers = details.headers ?? {};
    this.entries = details.all ?? [{ message, ...(details.detail === undefined ? {} : { detail: details.detail }) }];
  }
}

export const errorBody = (error: RegistryError): string =>
  JSON.stringify({ errors: error.entries.map((entry) => ({ code: error.code, ...entry })) });

/** Anything thrown; a bug or a failing disk becomes UNKNOWN, whose cause is logged and not told. */
export function asRegistryError(thrown: unknown): RegistryError {
  if (thrown instanceof RegistryError) return thrown;
  if (thrown instanceof CaissonError && thrown.code === 'DIGEST_INVALID')
    return new RegistryError('DIGEST_INVALID', thrown.message);
  return new RegistryError('UNKNOWN', 'the registry failed to answer; its log says why', { cause: thrown });
}

/** What an upstream says of something that was to come from it, as an answer of ours. */
export function asUpstreamError(
  error: unknown,
  { name, upstream }: { name: string; upstream: { host: string } },
  what: string,
): unknown {
  if (!(error instanceof CaissonError)) return error;
  const told = `${upstream.host}: ${error.message}`;
  switch (error.kind) {
    case 'NotFound':
      return new RegistryError('MANIFEST_UNKNOWN', told, { detail: { name, reference: what } });
    case 'Unauthorized':
    case 'Forbidden':
      return new RegistryError('DENIED', told);
    case 'Unavailable':
      return new RegistryError('UNAVAILABLE', told);
    default:
      return new RegistryError('UNAVAILABLE', told, { status: 502 });
  }
}
