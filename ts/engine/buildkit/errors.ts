/** Errors of a build as its client shows them. */
import { create, fromJsonString, toBinary } from '@bufbuild/protobuf';
import { AnySchema } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { asCaissonError, isKind } from '../../errdefs.ts';
import { CommandFailed } from '../builder/run.ts';
import { ErrorSourceSchema, type Status, StatusSchema } from './proto/control_pb.ts';

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
  for (const { typeUrl, value } of details) {
    // of what it can know only the place in the Dockerfile is shown to users
    if (!typeUrl.endsWith(`/${SOURCE}+json`)) continue;
    const source = fromJsonString(ErrorSourceSchema, new TextDecoder().decode(value), { ignoreUnknownFields: true });
    failure.details.push({ type: SOURCE, value: toBinary(ErrorSourceSchema, source) });
  }
  return failure;
}

const SOURCE = 'errdefs.Source';

/** The place in a Dockerfile. */
export interface ErrorPlace {
  filename: string;
  text: string;
  /** First and last, from 1. */
  lines: readonly [number, number];
}

/** For the answer of a call. */
export function asConnectError(error: unknown, place?: ErrorPlace): ConnectError {
  if (error instanceof ConnectError) return error;
  // any other code would be shown in front of the sentence
  const code = isKind(error, 'Cancelled') ? Code.Canceled : Code.Unknown;
  const failure = new ConnectError(reasonOf(error), code, undefined, undefined, error);
  if (place !== undefined) {
    const { filename, text, lines } = place;
    const [first, last] = lines;
    const ranges = Array.from({ length: last - first + 1 }, (_, at) => {
      const position = { line: first + at, character: 0 };
      return { start: position, end: position };
    });
    const info = { filename, data: new TextEncoder().encode(text), definition: {}, language: 'Dockerfile' };
    const source = create(ErrorSourceSchema, { info, ranges });
    failure.details.push({ type: SOURCE, value: toBinary(ErrorSourceSchema, source) });
  }
  return failure;
}

/** A failure, and where in the Dockerfile it was. */
export class FrontendError extends Error {
  readonly place: ErrorPlace;

  constructor(cause: unknown, place: ErrorPlace) {
    super((cause as Error).message, { cause });
    this.place = place;
  }
}

/** A call that fails as its client shows it. */
export async function told<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw error instanceof FrontendError ? asConnectError(error.cause, error.place) : asConnectError(error);
  }
}

/** A failure with its details, as it is written down. */
export function statusOf(error: unknown): Status {
  const {
    code,
    rawMessage: message,
    details,
  } = error instanceof FrontendError ? asConnectError(error.cause, error.place) : asConnectError(error);
  const packed = details.flatMap((one) =>
    'type' in one ? [create(AnySchema, { typeUrl: `type.googleapis.com/${one.type}`, value: one.value })] : [],
  );
  return create(StatusSchema, { code, message, details: packed });
}
