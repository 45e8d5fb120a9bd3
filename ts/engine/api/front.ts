/**
 * What the front (server.ts) knows of a request before fastify routes it: the version and, for an upgrade, the
 * connection. Kept beside the IncomingMessage, which fastify carries through as `request.raw`.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex, Readable } from 'node:stream';

export interface Upgrade {
  /** Where bytes behind the request may wait. On Node 26 a stream of its own while the body is still coming, else the socket. */
  stream: Duplex;
  /** Bytes that came in one piece with the end of the request. */
  head: Buffer;
}

export interface Front {
  version: string;
  upgrade?: Upgrade;
  /** The body when it is not on the IncomingMessage (Node before 24 and an upgrade). */
  body?: Readable;
}

const fronts = new WeakMap<IncomingMessage, Front>();

export const setFront = (request: IncomingMessage, front: Front): void => void fronts.set(request, front);

export function frontOf(request: IncomingMessage): Front {
  const front = fronts.get(request);
  if (front === undefined) throw new Error('request did not pass the front');
  return front;
}
