/**
 * The one error family of caisson. Every expected failure is a CaissonError of a kind; the kind decides the HTTP status
 * (here) and the registry's error code (ts/registry). Nobody else writes a status number.
 */
export type ErrorKind =
  | 'InvalidParameter'
  | 'Unauthorized'
  | 'Forbidden'
  | 'NotFound'
  | 'Conflict'
  | 'NotModified'
  | 'Unavailable'
  | 'NotImplemented'
  | 'Cancelled'
  | 'DataLoss'
  | 'System';

const STATUS: Record<ErrorKind, number> = {
  InvalidParameter: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  Conflict: 409,
  NotModified: 304,
  Unavailable: 503,
  NotImplemented: 501,
  Cancelled: 499,
  DataLoss: 500,
  System: 500,
};

export interface ErrorDetails {
  /** Stable machine code in capitals, for example `IMAGE_NOT_FOUND`; defaults to the kind. */
  code?: string;
  /** One sentence that says how to mend it. */
  hint?: string;
  cause?: unknown;
}

export class CaissonError extends Error {
  override readonly name = 'CaissonError';
  readonly kind: ErrorKind;
  readonly code: string;
  readonly hint: string | undefined;

  constructor(kind: ErrorKind, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.kind = kind;
    this.code = details.code ?? kind.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase();
    this.hint = details.hint;
  }
}

export const httpStatus = (kind: ErrorKind): number => STATUS[kind];

export const isKind = (error: unknown, kind: ErrorKind): error is CaissonError =>
  error instanceof CaissonError && error.kind === kind;

/** Anything thrown, as a CaissonError: a bug or an outside library's error becomes kind System with its cause. */
export function asCaissonError(error: unknown): CaissonError {
  if (error instanceof CaissonError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new CaissonError('System', message, { cause: error });
}
