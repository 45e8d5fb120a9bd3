/** A registry over node:http that does to each request what a test says, and remembers what it was asked. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Issued } from './certificates.ts';

export const sha256 = (data: string | Buffer): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';

export interface Seen {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
}

/** true: the request is answered. */
export type Fault = (request: IncomingMessage, response: ServerResponse, attempt: number) => boolean;

export class ScriptedRegistry implements AsyncDisposable {
  readonly #server: ReturnType<typeof createServer>;
  readonly seen: Seen[] = [];
  readonly manifests = new Map<string, { type: string; body: Buffer; headers?: Record<string, string> }>();
  readonly blobs = new Map<string, Buffer>();
  fault: Fault = () => false;

  /** With a certificate it speaks TLS. */
  constructor(tls?: Issued) {
    const serve = (request: IncomingMessage, response: ServerResponse): void => this.#serve(request, response);
    const files = tls && { cert: readFileSync(tls.certificate), key: readFileSync(tls.key) };
    this.#server = files === undefined ? createServer(serve) : createTlsServer(files, serve);
  }

  async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  asked(path: RegExp): Seen[] {
    return this.seen.filter((one) => path.test(one.path));
  }

  addBlob(data: Buffer): { mediaType: string; digest: string; size: number } {
    const digest = sha256(data);
    this.blobs.set(digest, data);
    return { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size: data.length };
  }

  /** Under its digest and the names. */
  addManifest(document: object | string, type = OCI_MANIFEST, ...names: string[]): { digest: string; size: number } {
    const body = Buffer.from(typeof document === 'string' ? document : JSON.stringify(document));
    const digest = sha256(body);
    for (const name of [digest, ...names]) this.manifests.set(name, { type, body });
    return { digest, size: body.length };
  }

  /** A whole image named `app:latest`. */
  addImage(layers: Buffer[]): { layers: { mediaType: string; digest: string; size: number }[]; digest: string } {
    const config = { ...this.addBlob(Buffer.from('{}')), mediaType: 'application/vnd.oci.image.config.v1+json' };
    const descriptors = layers.map((layer) => this.addBlob(layer));
    const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: descriptors };
    return { layers: descriptors, digest: this.addManifest(manifest, OCI_MANIFEST, 'latest').digest };
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    this.seen.push({ method: request.method ?? '', path, headers: request.headers });
    const attempt = this.seen.filter((one) => one.path === path).length;
    if (this.fault(request, response, attempt)) return;
    const [, kind, name = ''] = /\/(manifests|blobs)\/([^/]+)$/.exec(path) ?? [];
    if (kind === 'manifests') {
      const found = this.manifests.get(name);
      if (found === undefined) problem(response, 404, 'MANIFEST_UNKNOWN', 'manifest unknown');
      else response.writeHead(200, { 'content-type': found.type, ...found.headers }).end(found.body);
      return;
    }
    const blob = this.blobs.get(name);
    if (blob === undefined) {
      problem(response, 404, 'BLOB_UNKNOWN', 'blob unknown to registry');
      return;
    }
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const range = { 'content-range': `bytes ${from}-${blob.length - 1}/${blob.length}` };
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': blob.length - from, ...(from > 0 ? range : {}) });
    response.end(blob.subarray(from));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

export function problem(
  response: ServerResponse,
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, headers).end(JSON.stringify({ errors: [{ code, message }] }));
}
