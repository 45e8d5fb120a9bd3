/** The push side of a registry over node:http, in memory, with faults where a test wants them. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { sha256 } from './scriptedRegistry.ts';

export interface SeenRequest {
  method: string;
  url: URL;
  headers: IncomingMessage['headers'];
}

export class UploadRegistry implements AsyncDisposable {
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  readonly seen: SeenRequest[] = [];
  /** By repository and digest: `app@sha256:…`. */
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, { type: string; body: Buffer }>();
  readonly #uploads = new Map<string, Buffer[]>();
  /** Bytes of bodies that arrived. */
  received = 0;
  /** true: the request is answered, its body unread. */
  fault: (request: IncomingMessage, response: ServerResponse, url: URL) => boolean = () => false;
  /** Called with each piece of a body; true: the connection is cut there. */
  cut: (received: number) => boolean = () => false;
  /** Where uploads are placed; absent: here. */
  place: ((path: string) => string) | undefined;

  async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  asked(method: string): SeenRequest[] {
    return this.seen.filter((one) => one.method === method);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', `http://${this.host}`);
    const method = request.method ?? '';
    this.seen.push({ method, url, headers: request.headers });
    if (this.fault(request, response, url)) return;
    const [, repository = '', rest = ''] = /^\/v2\/(.+?)\/((?:blobs|manifests)\/.*)$/.exec(url.pathname) ?? [];
    const upload = rest.startsWith('blobs/uploads/') ? rest.slice('blobs/uploads/'.length) : undefined;
    if (method === 'HEAD') {
      response.writeHead(this.blobs.has(`${repository}@${rest.slice('blobs/'.length)}`) ? 200 : 404).end();
    } else if (method === 'POST') {
      this.#begin(repository, url, response);
    } else if (upload !== undefined && method === 'GET') {
      const size = Buffer.concat(this.#uploads.get(upload) ?? []).length;
      const headers = { location: this.#location(repository, upload), range: `0-${Math.max(size - 1, 0)}` };
      response.writeHead(this.#uploads.has(upload) ? 204 : 404, headers).end();
    } else if (upload !== undefined) {
      await this.#take(request, response, repository, upload, url);
    } else {
      const body = await this.#read(request, []);
      const name = rest.slice('manifests/'.length);
      this.manifests.set(`${repository}:${name}`, { type: request.headers['content-type'] ?? '', body });
      response.writeHead(201, { 'docker-content-digest': sha256(body) }).end();
    }
  }

  #location(repository: string, id: string): string {
    const path = `/v2/${repository}/blobs/uploads/${id}`;
    return this.place === undefined ? path : this.place(path);
  }

  #begin(repository: string, url: URL, response: ServerResponse): void {
    const [digest, from] = [url.searchParams.get('mount'), url.searchParams.get('from')];
    const blob = this.blobs.get(`${from}@${digest}`);
    if (blob !== undefined) {
      this.blobs.set(`${repository}@${digest}`, blob);
      response.writeHead(201).end();
      return;
    }
    const id = String(this.#uploads.size);
    this.#uploads.set(id, []);
    response.writeHead(202, { location: this.#location(repository, id) }).end();
  }

  async #take(
    request: IncomingMessage,
    response: ServerResponse,
    repository: string,
    id: string,
    url: URL,
  ): Promise<void> {
    const parts = this.#uploads.get(id);
    const from = Number(/^(\d+)-/.exec(request.headers['content-range'] ?? '')?.[1] ?? Number.NaN);
    const has = Buffer.concat(parts ?? []).length;
    if (parts === undefined || (!Number.isNaN(from) && from !== has)) {
      response.writeHead(parts === undefined ? 404 : 416).end();
      return;
    }
    await this.#read(request, parts);
    if (request.destroyed && !request.complete) return;
    if (request.method === 'PATCH') {
      response.writeHead(202, { location: this.#location(repository, id) }).end();
      return;
    }
    const digest = url.searchParams.get('digest') ?? '';
    const body = Buffer.concat(parts);
    this.#uploads.delete(id);
    if (sha256(body) !== digest) {
      response.writeHead(400).end(JSON.stringify({ errors: [{ code: 'DIGEST_INVALID', message: 'wrong digest' }] }));
      return;
    }
    this.blobs.set(`${repository}@${digest}`, body);
    response.writeHead(201).end();
  }

  async #read(request: IncomingMessage, into: Buffer[]): Promise<Buffer> {
    try {
      for await (const chunk of request as AsyncIterable<Buffer>) {
        into.push(chunk);
        this.received += chunk.length;
        if (this.cut(this.received)) request.destroy();
      }
    } catch {
      // cut off: what came stays
    }
    return Buffer.concat(into);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
