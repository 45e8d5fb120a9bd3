/**
 * Takes a client's connection out of Node and gives its file descriptor away, so that attach, exec and logs run without
 * JS. The request's body must be complete: what still waits in the parser or in a stream is returned as `early`.
 *
 * `destroy` closes only Node's own descriptor: it does not shut the connection down, and the duplicate lives on.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { CaissonError } from '../../errdefs.ts';
import type { Native } from '../native/index.ts';
import { frontOf } from './front.ts';

export interface HijackedConnection {
  /** A duplicate, close-on-exec; the caller owns it. */
  fd: number;
  /** Bytes that the client sent behind its request: the beginning of stdin. */
  early: Uint8Array;
  /** The client asked for an upgrade, so the head must be a 101. */
  upgraded: boolean;
}

interface SocketHandle {
  fd: number;
  readStop(): number;
}

export function takeConnection(request: IncomingMessage, native: Pick<Native, 'dupFd'>): HijackedConnection {
  const socket: Socket & { _handle?: SocketHandle | null } = request.socket;
  const handle = socket._handle;
  if (!handle || handle.fd === undefined || handle.fd < 0)
    throw new CaissonError('NotImplemented', 'streams need a plain unix or TCP connection to the daemon');
  handle.readStop();
  const { upgrade } = frontOf(request);
  const early: Buffer[] = upgrade ? [upgrade.head] : [];
  if (upgrade && upgrade.stream !== socket) early.push(drain(upgrade.stream));
  early.push(drain(socket));
  const fd = native.dupFd(handle.fd);
  socket.destroy();
  // Docker wants no `Connection: Upgrade` beside it, without which Node sees an ordinary request
  const upgraded = upgrade !== undefined || request.headers.upgrade !== undefined;
  return { fd, early: Buffer.concat(early), upgraded };
}

/** What a stream holds already, without asking its source for more. */
function drain(stream: { read(): Buffer | null }): Buffer {
  const chunks: Buffer[] = [];
  for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The head of a stream's answer, up to and with the empty line. */
export function streamHead(upgraded: boolean, contentType: string): string {
  return upgraded
    ? `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${contentType}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`
    : `HTTP/1.1 200 OK\r\nContent-Type: ${contentType}\r\n\r\n`;
}
