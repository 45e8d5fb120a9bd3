/** What the metrics of a registry and of a daemon have in common. */
import { createServer } from 'node:http';
import { Gauge, type Registry } from 'prom-client';
import { listen } from './listen.ts';

export interface MetricsServer {
  /** Where it listens. */
  address: string;
  close(): void;
}

/** Serves `/metrics` at `address:port` for everybody who reaches it. */
export async function serveMetrics(metrics: Registry, where: string): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') return response.writeHead(404).end();
    return metrics.metrics().then(
      (text) => response.writeHead(200, { 'Content-Type': metrics.contentType }).end(text),
      (error: Error) => response.writeHead(500).end(error.message),
    );
  });
  const address = await listen(server, where);
  const close = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { address, close };
}

/** A number that is read when it is asked for. */
export function gauge(metrics: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name,
    help,
    registers: [metrics],
    collect() {
      this.set(read());
    },
  });
}
