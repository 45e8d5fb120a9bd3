/** Error bodies: Docker's `message`, with a stable `code`, and where they are known a `hint` and a `path` beside it. */
import type { ServerResponse } from 'node:http';
import { asCaissonError, type CaissonError, httpStatus } from '../../errdefs.ts';

export interface ErrorBody {
  message: string;
  code: string;
  hint?: string;
  path?: string;
}

export const errorBody = (error: CaissonError): ErrorBody => ({
  message: error.message,
  code: error.code,
  ...(error.hint === undefined ? {} : { hint: error.hint }),
  ...(error.path === undefined ? {} : { path: error.path }),
});

/** Answers outside of fastify: requests that the front refuses, and streams that fail before their head is written. */
export function sendError(response: ServerResponse, thrown: unknown): void {
  const error = asCaissonError(thrown);
  const status = httpStatus(error);
  const body = status === 304 ? '' : `${JSON.stringify(errorBody(error))}\n`;
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}
