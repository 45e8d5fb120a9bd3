/** Connections to receivers of logs, with Go's words for what fails: users know dockerd's messages. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { closeSync, writeSync } from 'node:fs';
import { isIPv6, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Native } from '../../native/index.ts';

const CONNECT_MS = 10_000;

const REASONS: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset by peer',
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  ENETUNREACH: 'network is unreachable',
  EHOSTUNREACH: 'no route to host',
  EPROTOTYPE: 'protocol wrong type for socket',
  ETIMEDOUT: 'i/o timeout',
};

export const joinHostPort = (host: string, port: number | string): string =>
  isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;

interface Failed extends Error {
  code?: string;
  address?: string;
  port?: number;
  hostname?: string;
  errors?: Failed[];
}

/** `network`: as Go calls it. */
export function dialError(network: string, address: string, thrown: unknown): Error {
  // of several addresses of a name Go tells the first one's
  const error = ((thrown as Failed).errors?.[0] ?? thrown) as Failed;
  const { code = '', hostname } = error;
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return new Error(`dial ${network}: lookup ${hostname}: no such host`);
  const where = error.address && error.port ? joinHostPort(error.address, error.port) : address;
  const reason = REASONS[code];
  return new Error(`dial ${network} ${where}: ${reason ? `connect: ${reason}` : error.message}`, { cause: thrown });
}

export interface StreamOptions {
  network: 'tcp' | 'unix';
  /** For messages. */
  address: string;
  dial: () => Socket;
  /** The event of the socket that tells that it is ready. */
  ready?: 'connect' | 'secureConnect';
  /** 0: none. */
  writeTimeoutMs?: number;
  /** What the receiver says is read by the owner, not dropped. */
  listens?: boolean;
}

/** A stream that is connected when something is to be written. */
export class StreamConnection {
  readonly #options: StreamOptions;
  #socket: Socket | undefined;
  connectedAtMs = 0;

  constructor(options: StreamOptions) {
    this.#options = options;
  }

  async connect(): Promise<Socket> {
    if (this.#socket !== undefined) return this.#socket;
    const { dial, network, address, ready = 'connect', listens = false } = this.#options;
    const socket = dial();
    const failed = Promise.withResolvers<never>();
    const late = setTimeout(() => failed.reject(Object.assign(new Error(), { code: 'ETIMEDOUT' })), CONNECT_MS);
    socket.once('error', failed.reject);
    try {
      await Promise.race([new Promise((resolve) => socket.once(ready, resolve)), failed.promise]);
    } catch (error) {
      socket.destroy();
      throw dialError(network, address, error);
    } finally {
      clearTimeout(late);
    }
    socket.on('error', () => undefined);
    // a receiver that has hung up is dialled again before anything is lost in its direction
    for (const event of ['end', 'close']) socket.on(event, () => this.#forget(socket));
    if (!listens) socket.resume();
    this.#socket = socket;
    this.connectedAtMs = performance.now();
    return socket;
  }

  #forget(socket: Socket): void {
    if (this.#socket === socket) this.#socket = undefined;
    socket.destroy();
  }

  /** Resolves when the kernel has it all. */
  async write(bytes: Buffer): Promise<void> {
    const socket = await this.connect();
    const limit = this.#options.writeTimeoutMs ?? 0;
    const late = limit > 0 ? setTimeout(() => socket.destroy(new Error('i/o timeout')), limit) : undefined;
    try {
      await new Promise<void>((resolve, reject) => socket.write(bytes, (error) => (error ? reject(error) : resolve())));
    } catch (error) {
      this.#forget(socket);
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  close(): void {
    this.#socket?.end();
    this.#socket = undefined;
  }

  /** Drops what the receiver may have missed. */
  abandon(): void {
    if (this.#socket) this.#forget(this.#socket);
  }
}

/** Messages to a UDP port; whether anybody receives them is not known, as with dockerd. */
export class UdpConnection {
  readonly #host: string;
  readonly #port: number;
  #socket: UdpSocket | undefined;
  #address = '';

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  async connect(): Promise<UdpSocket> {
    if (this.#socket !== undefined) return this.#socket;
    const { address, family } = await lookup(this.#host || 'localhost').catch((error: unknown) => {
      throw dialError('udp', joinHostPort(this.#host, this.#port), error);
    });
    this.#address = address;
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    socket.on('error', () => undefined);
    this.#socket = socket;
    return socket;
  }

  async write(messages: Buffer[]): Promise<void> {
    const socket = await this.connect();
    const sent = messages.map(
      (message) =>
        new Promise<void>((resolve, reject) =>
          socket.send(message, this.#port, this.#address, (error) => (error ? reject(error) : resolve())),
        ),
    );
    await Promise.all(sent);
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }
}

const FULL_PAUSE_MS = 5;

/** Messages to a unix datagram socket. */
export class DatagramConnection {
  readonly #native: Pick<Native, 'connectDatagram'>;
  readonly #path: string;
  #fd: number | undefined;
  #closed = false;

  constructor(native: Pick<Native, 'connectDatagram'>, path: string) {
    this.#native = native;
    this.#path = path;
  }

  async connect(): Promise<number> {
    this.#fd ??= await this.#native.connectDatagram(this.#path).catch((error: unknown) => {
      throw dialError('unixgram', this.#path, coded(error));
    });
    return this.#fd;
  }

  async write(messages: Buffer[]): Promise<void> {
    const fd = await this.connect();
    for (const message of messages) {
      for (;;) {
        try {
          writeSync(fd, message);
          break;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || this.#closed) {
            this.#hangUp();
            throw error;
          }
        }
        // its queue is full: it reads as soon as it can, and nothing tells when
        await sleep(FULL_PAUSE_MS);
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#hangUp();
  }

  #hangUp(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** A failure of the addon with Node's name of its number. */
function coded(thrown: unknown): unknown {
  const { cause } = thrown as { cause?: { failure?: { errno?: number } } };
  const names: Record<number, string> = { 2: 'ENOENT', 13: 'EACCES', 91: 'EPROTOTYPE', 111: 'ECONNREFUSED' };
  const code = names[cause?.failure?.errno ?? 0];
  return code === undefined ? thrown : { code };
}
