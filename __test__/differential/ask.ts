/** One request, as it is written, and what a daemon answers. */
import { request } from 'node:http';

export interface Asked {
  method: string;
  /** With `{name}` for what each daemon calls differently: its ids. */
  path: string;
  body?: string | Buffer;
  headers?: Record<string, string>;
}

export interface Answered {
  /** 0: the connection ended without an answer. */
  status: number;
  type: string;
  text: string;
}

/** An answer that does not end is cut: its head is what counts. */
const PATIENCE_MS = 2_000;
const MAX_BYTES = 1024 * 1024;

export function ask(socketPath: string, names: ReadonlyMap<string, string>, asked: Asked): Promise<Answered> {
  const fill = (text: string): string => text.replace(/\{(\w+)\}/g, (whole, name: string) => names.get(name) ?? whole);
  const body = typeof asked.body === 'string' ? fill(asked.body) : asked.body;
  const headers: Record<string, string | number> = { Host: 'engine', ...asked.headers };
  if (body !== undefined) headers['Content-Length'] = Buffer.byteLength(body);
  return new Promise((resolve) => {
    const nothing = (error: Error): void => resolve({ status: 0, type: '', text: error.message });
    const sent = request({ socketPath, method: asked.method, path: fill(asked.path), headers, agent: false });
    sent.on('error', nothing);
    sent.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', text: '' });
    });
    sent.on('response', (response) => {
      let text = '';
      const done = (): void => {
        clearTimeout(cut);
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', text });
        sent.destroy();
      };
      const cut = setTimeout(done, PATIENCE_MS);
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (text.length > MAX_BYTES) done();
      });
      response.on('end', done).on('error', done);
    });
    sent.end(body);
  });
}
