/**
 * TLS in front of the API. The connection ends here and goes on in clear over a pair of sockets, so that behind it all is
 * as on a unix socket: a stream can be given away with its descriptor.
 */
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { Socket } from 'node:net';
import { createServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { CaissonError } from '../../errdefs.ts';
import type { Native } from '../native/index.ts';

export interface TlsSettings {
  /** Clients must show a certificate of this authority. */
  verify: boolean;
  caFile: string;
  certFile: string;
  keyFile: string;
}

/** Who is at the other end of a connection, by the certificate shown. */
export interface Peer {
  /** Its common name. */
  user: string;
  /** In base64 of PEM, the client's own first. */
  certificates: string[];
}

const peers = new WeakMap<Socket, Peer>();

export const peerOf = (socket: Socket): Peer | undefined => peers.get(socket);

/** True behind TLS, whether a certificate was shown or not. */
const secured = new WeakSet<Socket>();

export const isSecured = (socket: Socket): boolean => secured.has(socket);

/** Listens where `server` would have. */
export function tlsServer(server: Server, settings: TlsSettings, native: Pick<Native, 'socketPair'>): TlsServer {
  const read = (what: string, path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new CaissonError('InvalidParameter', `could not read the ${what} ${path}: ${(cause as Error).message}`, {
        code: 'TLS_FILES',
        hint: 'name the files with --tlscacert, --tlscert and --tlskey',
        path,
        cause,
      });
    }
  };
  const options = {
    cert: read('certificate', settings.certFile),
    key: read('key', settings.keyFile),
    ...(settings.verify ? { ca: read('CA certificate', settings.caFile), requestCert: true } : {}),
    rejectUnauthorized: settings.verify,
    minVersion: 'TLSv1.2',
    // a client closes its end of a stream when its input ends
    allowHalfOpen: true,
  } as const;
  const front = createServer(options, (secure) => pass(secure, server, native));
  front.on('tlsClientError', (_error, socket) => socket.destroy());
  // one that has never listened keeps no account of its connections: it could neither end idle ones nor limit slow ones
  front.once('listening', () => server.emit('listening'));
  return front;
}

function pass(secure: TLSSocket, server: Server, native: Pick<Native, 'socketPair'>): void {
  const [ours, theirs] = native.socketPair();
  const inner = new Socket({ fd: ours, readable: true, writable: true, allowHalfOpen: true });
  const socket = new Socket({ fd: theirs, readable: true, writable: true, allowHalfOpen: true });
  secured.add(socket);
  const certificate = secure.getPeerX509Certificate();
  if (certificate !== undefined) {
    const user = /^CN=(.*)$/m.exec(certificate.subject ?? '')?.[1] ?? '';
    peers.set(socket, { user, certificates: [Buffer.from(certificate.toString()).toString('base64')] });
  }
  secure.pipe(inner).pipe(secure);
  const end = (): void => {
    secure.destroy();
    inner.destroy();
  };
  secure.on('error', end).on('close', () => inner.destroySoon());
  inner.on('error', end).on('close', () => secure.destroySoon());
  server.emit('connection', socket);
}
