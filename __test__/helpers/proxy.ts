/** An HTTP proxy that leads every host to 127.0.0.1, and remembers what it was asked for. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';

export class TestProxy implements AsyncDisposable {
  /** `CONNECT registry.test:443`, `GET http://registry.test/v2/`, …  */
  readonly asked: string[] = [];
  readonly authorizations: (string | undefined)[] = [];
  readonly #tunnels = new Set<{ destroy(): void }>();
  readonly #server = createServer((incoming, response) => this.#forward(incoming, response));

  async listen(): Promise<this> {
    this.#server.on('connect', (incoming, socket, head) => {
      this.#note(incoming);
      const [, port = '443'] = (incoming.url ?? '').split(':');
      const onward = connect(Number(port), '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
        onward.write(head);
        socket.pipe(onward).pipe(socket);
      });
      for (const [one, other] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        this.#tunnels.add(one);
        one.on('error', () => other.destroy()).on('close', () => other.destroy());
      }
    });
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #note(incoming: IncomingMessage): void {
    this.asked.push(`${incoming.method} ${incoming.url}`);
    this.authorizations.push(incoming.headers['proxy-authorization']);
  }

  #forward(incoming: IncomingMessage, response: ServerResponse): void {
    this.#note(incoming);
    const { port, pathname, search, host } = new URL(incoming.url ?? '');
    const headers = { ...incoming.headers, host };
    const target = { host: '127.0.0.1', port, path: pathname + search, method: incoming.method, headers };
    const onward = request(target, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    incoming.pipe(onward);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const tunnel of this.#tunnels) tunnel.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
