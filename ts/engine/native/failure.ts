/** How a failure crosses the boundary, and the CaissonError that it becomes. */
import { CaissonError, type ErrorKind, noSpace } from '../../errdefs.ts';

export interface NativeFailure {
  /** `invalid`, `notFound`, `conflict`, `unsupported`, `corrupt` (bad digest, hostile archive), `cancelled`, `gone` (no such shim or process), `exec` (the container's program could not be executed), `system`. */
  kind: 'invalid' | 'notFound' | 'conflict' | 'unsupported' | 'corrupt' | 'cancelled' | 'gone' | 'exec' | 'system';
  /** The step that failed, for example `move_mount`. */
  op: string;
  path?: string;
  errno?: number;
  /** A whole sentence that names object, path, value and cause. */
  message: string;
  /** Of a fault that a user can mend: its stable name, and how. */
  fix?: { code: string; hint: string };
}

export type NativeResult<T> = { ok: T } | { error: NativeFailure };

/** What the addon knows of a failure, kept as `cause` of the CaissonError. */
export class NativeError extends Error {
  readonly failure: NativeFailure;
  readonly path: string | undefined;
  constructor(failure: NativeFailure) {
    super(failure.message);
    this.failure = failure;
    this.path = failure.path;
  }
}

const ENOSPC = 28;

const KINDS: Record<NativeFailure['kind'], ErrorKind> = {
  invalid: 'InvalidParameter',
  notFound: 'NotFound',
  conflict: 'Conflict',
  unsupported: 'NotImplemented',
  corrupt: 'DataLoss',
  cancelled: 'Cancelled',
  gone: 'NotFound',
  exec: 'InvalidParameter',
  system: 'System',
};

/** `below`: the directory that a failure's path is relative to. */
export function unwrap<T>(result: NativeResult<T>, below?: string): T {
  if ('ok' in result) return result.ok;
  const { kind, message, errno, path } = result.error;
  const isRelative = below !== undefined && !path?.startsWith('/');
  if (errno === ENOSPC)
    throw noSpace(message, new NativeError({ ...result.error, ...(isRelative && { path: below }) }), result.error.op);
  throw new CaissonError(KINDS[kind], message, { ...fixOf(result.error), cause: new NativeError(result.error) });
}

/** What an error takes over of a failure's fix. */
export const fixOf = ({ fix, path }: NativeFailure): { code?: string; hint?: string; path?: string } => ({
  ...fix,
  ...(fix !== undefined && path !== undefined && { path }),
});
