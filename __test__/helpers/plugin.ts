/** A plugin of Docker's first protocol, as a server on a socket where daemons look for it. */
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';

let counter = 0;

export class TestPlugin {
  readonly name = `caisson-test-${process.pid}-${counter++}`;
  readonly #server: Server;
  readonly #path = `/run/docker/plugins/${this.name}.sock`;

  /** `answer` is given the method, for example `AuthZPlugin.AuthZReq`, and the body; what it returns is sent, a text as it is. */
  constructor(implemented: string, answer: (method: string, body: unknown) => object | string) {
    this.#server = createServer((request: IncomingMessage, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const method = (request.url ?? '').slice(1);
        const activation = method === 'Plugin.Activate';
        const body = activation ? {} : (JSON.parse(Buffer.concat(chunks).toString()) as unknown);
        const answered = activation ? { Implements: [implemented] } : answer(method, body);
        response.end(typeof answered === 'string' ? answered : JSON.stringify(answered));
      });
    });
  }

  async start(): Promise<void> {
    mkdirSync('/run/docker/plugins', { recursive: true });
    rmSync(this.#path, { force: true });
    this.#server.listen(this.#path);
    await once(this.#server, 'listening');
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
    rmSync(this.#path, { force: true });
  }
}
