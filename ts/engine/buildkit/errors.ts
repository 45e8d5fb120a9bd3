/** Errors of a build as its client shows them. */
import { create, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { asCaissonError, type ErrorKind } from '../../errdefs.ts';
import { CommandFailed } from '../builder/run.ts';
import { ErrorSourceSchema } from './proto/control_pb.ts';
import type { Status } from './proto/gateway_pb.ts';

const CODES: Partial<Record<ErrorKind, Code>> = {
  InvalidParameter: Code.InvalidArgument,
  Unauthorized: Code.Unauthenticated,
  Forbidden: Code.PermissionDenied,
  NotFound: Code.NotFound,
  Unavailable: Code.Unavailable,
  NotImplemented: Code.Unimplemented,
  Cancelled: Code.Canceled,
};

/** In BuildKit's words where it has some. */
export function reasonOf(error: unknown): string {
  if (error instanceof CommandFailed)
    return `process ${JSON.stringify(error.command.join(' '))} did not complete successfully: exit code: ${error.exitCode}`;
  const { message, hint } = asCaissonError(error);
  return hint === undefined ? message : `${message} (${hint})`;
}

/** An error that a gateway client got of us or made itself, and gives back. */
export function asReturned({ code, message, details }: Status): ConnectError {
  const failure = new ConnectError(message, code);
  for (const { typeUrl, value } of details)
    failure.details.push({ type: typeUrl.slice(typeUrl.lastIndexOf('/') + 1), value });
  return failure;
}

/** The place in a Dockerfile. */
export interface ErrorPlace {
  filename: string;
  text: string;
  /** From 1. */
  line: number;
}

/** For the answer of a call. */
export function asConnectError(error: unknown, place?: ErrorPlace): ConnectError {
  if (error instanceof ConnectError) return error;
  const code = error instanceof CommandFailed ? Code.Unknown : (CODES[asCaissonError(error).kind] ?? Code.Unknown);
  const failure = new ConnectError(reasonOf(error), code, undefined, undefined, error);
  if (place !== undefined) {
    const { filename, text, line } = place;
    const at = { line, character: 0 };
    const source = create(ErrorSourceSchema, {
      info: { filename, data: new TextEncoder().encode(text), language: 'Dockerfile' },
      ranges: [{ start: at, end: at }],
    });
    failure.details.push({ type: 'errdefs.Source', value: toBinary(ErrorSourceSchema, source) });
  }
  return failure;
}
