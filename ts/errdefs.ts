/**
 * The one error family of caisson. Every expected failure is a CaissonError of a kind; the kind decides the HTTP status
 * (here) and the registry's error code (ts/registry). Nobody else writes a status number.
 */
import { existsSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

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
  /** The file that it is about. */
  path?: string;
  cause?: unknown;
}

export class CaissonError extends Error {
  override readonly name = 'CaissonError';
  readonly kind: ErrorKind;
  readonly code: string;
  readonly hint: string | undefined;
  readonly path: string | undefined;

  constructor(kind: ErrorKind, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.kind = kind;
    this.code = details.code ?? kind.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase();
    this.hint = details.hint;
    this.path = details.path;
  }
}

/** A registry that fails is 500, as with dockerd: clients take 503 for a daemon that will be there soon, and ask again and again. */
export const httpStatus = ({ kind, code }: CaissonError): number =>
  kind === 'Unavailable' && code.startsWith('REGISTRY_') ? 500 : STATUS[kind];

export const isKind = (error: unknown, kind: ErrorKind): error is CaissonError =>
  error instanceof CaissonError && error.kind === kind;

const CREATES = /^(?:create|mkdir|mknod|symlink|link|open)/;

/** `step`: the call that failed. A filesystem that is full, by bytes or by inodes: both are ENOSPC. */
export function noSpace(message: string, cause: unknown, step = ''): CaissonError {
  const path = (cause as { path?: unknown } | undefined)?.path;
  const found = typeof path === 'string' && path.startsWith('/') ? filesystemOf(path) : undefined;
  // What failed may have been taken away again by now: then the step tells, as bytes are needed by writing only.
  const what =
    found?.inodes === 0 || (found !== undefined && found.bytes > 0 && CREATES.test(step)) ? 'inodes' : 'space';
  return new CaissonError('System', message, {
    code: what === 'inodes' ? 'NO_INODES' : 'NO_SPACE',
    hint: `no ${what} on ${found?.at ?? 'the disk of the data root'}: caisson system df shows what takes it, caisson system prune frees what nothing uses`,
    ...(typeof path === 'string' && { path }),
    cause,
  });
}

/** Where the filesystem is mounted that the path lies on. */
function filesystemOf(path: string): { at: string; inodes: number; bytes: number } {
  let at = path;
  while (!existsSync(at)) at = dirname(at);
  const { dev } = statSync(at);
  while (at !== '/' && statSync(dirname(at)).dev === dev) at = dirname(at);
  const { ffree, bavail, bsize } = statfsSync(at);
  return { at, inodes: ffree, bytes: bavail * bsize };
}

/** Anything thrown, as a CaissonError: a bug or an outside library's error becomes kind System with its cause. */
export function asCaissonError(error: unknown): CaissonError {
  if (error instanceof CaissonError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOSPC')
    return noSpace(message, error, (error as NodeJS.ErrnoException).syscall);
  return new CaissonError('System', message, { cause: error });
}
