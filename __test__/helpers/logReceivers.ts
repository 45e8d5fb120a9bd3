/** Receivers of logs on loopback and unix sockets, which keep what comes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { EventEmitter, once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

export class Receiver implements AsyncDisposable {
  /** Datagrams, or what each connection has sent so far. */
  readonly messages: Buffer[] = [];
  readonly #came = new EventEmitter();
  readonly #sockets = new Set<Socket>();
  #close: () => Promise<unknown> = async () => undefined;

  /** Resolves when what has come is as wanted. */
  async until(wanted: (messages: Buffer[]) => boolean): Promise<Buffer[]> {
    while (!wanted(this.messages)) await once(this.#came, 'more');
    return this.messages;
  }

  /** The same of texts one behind the other. */
  async untilText(wanted: (text: string) => boolean): Promise<string> {
    await this.until((messages) => wanted(Buffer.concat(messages).toString()));
    return Buffer.concat(this.messages).toString();
  }

  #add(message: Buffer): void {
    this.messages.push(message);
    this.#came.emit('more');
  }

  /** `answer`: what is sent back for a chunk. */
  #serve(server: Server, answer?: (chunk: Buffer) => Buffer | undefined): void {
    const accept = (socket: Socket): void => {
      this.#sockets.add(socket);
      const index = this.messages.push(Buffer.alloc(0)) - 1;
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('data', (chunk: Buffer) => {
        this.messages[index] = Buffer.concat([this.messages[index] ?? Buffer.alloc(0), chunk]);
        const back = answer?.(chunk);
        if (back !== undefined) socket.write(back);
        this.#came.emit('more');
      });
    };
    server.on('setSecureContext' in server ? 'secureConnection' : 'connection', accept);
    this.#close = async () => {
      for (const socket of this.#sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    };
  }

  /** A port of loopback, a free one for 0; gives its number. */
  async tcp(port = 0, answer?: (chunk: Buffer) => Buffer | undefined): Promise<number> {
    const server = createServer();
    this.#serve(server, answer);
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  async tls(key: Buffer, cert: Buffer): Promise<number> {
    const server = createTlsServer({ key, cert });
    this.#serve(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  async unix(path: string): Promise<void> {
    const server = createServer();
    this.#serve(server);
    server.listen(path);
    await once(server, 'listening');
  }

  async udp(): Promise<number> {
    const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
    socket.on('message', (message) => this.#add(message));
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    this.#close = () => new Promise<void>((resolve) => socket.close(() => resolve()));
    return socket.address().port;
  }

  /** Node has no sockets of this kind. */
  async unixgram(path: string): Promise<void> {
    const program =
      'use Socket; $| = 1; socket(S, AF_UNIX, SOCK_DGRAM, 0); bind(S, sockaddr_un($ARGV[0])); print "bound\\n"; while (1) { recv(S, $b, 65536, 0); print $b }';
    const child: ChildProcess = spawn('perl', ['-e', program, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#close = async () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    };
    const [bound] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
    if (!bound.toString().startsWith('bound')) throw new Error(`perl: ${bound}`);
    child.stdout?.on('data', (chunk: Buffer) => this.#add(chunk));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}
