/** Prometheus metrics of one registry, on a server of their own: they tell names that clients may not see. */
import { Counter, collectDefaultMetrics, Histogram, Registry as MetricsRegistry } from 'prom-client';
import type { Collected } from './collector.ts';
import { gauge, type MetricsServer, serveMetrics } from './prometheus.ts';
import type { Registry } from './registry.ts';

export interface RequestMeasure {
  method: string;
  route: string;
  status: number;
  seconds: number;
  sentBytes: number;
  receivedBytes: number;
}

export class Metrics {
  readonly #metrics = new MetricsRegistry();
  readonly #seconds: Histogram<'method' | 'route' | 'code'>;
  readonly #sent: Counter;
  readonly #received: Counter;
  #server: MetricsServer | undefined;

  constructor(registry: Registry) {
    const registers = [this.#metrics];
    collectDefaultMetrics({ register: this.#metrics });
    this.#seconds = new Histogram({
      name: 'caisson_registry_request_seconds',
      help: 'Time from a request to the end of its answer',
      labelNames: ['method', 'route', 'code'],
      buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60],
      registers,
    });
    this.#sent = new Counter({ name: 'caisson_registry_sent_bytes_total', help: 'Bytes sent to clients', registers });
    this.#received = new Counter({
      name: 'caisson_registry_received_bytes_total',
      help: 'Bytes received from clients',
      registers,
    });
    gauge(this.#metrics, 'caisson_registry_blobs', 'Blobs stored', () => registry.blobs.totals().count);
    gauge(
      this.#metrics,
      'caisson_registry_blob_bytes',
      'Bytes of the blobs stored',
      () => registry.blobs.totals().bytes,
    );
    gauge(this.#metrics, 'caisson_registry_uploads_active', 'Uploads being received', () => registry.uploads.active);
    new Counter({
      name: 'caisson_registry_collected_total',
      help: 'What the garbage collector removed',
      labelNames: ['what'],
      registers,
      collect() {
        this.reset();
        for (const what of Object.keys(registry.collector.total) as (keyof Collected)[])
          this.inc({ what }, registry.collector.total[what]);
      },
    });
  }

  observe({ method, route, status, seconds, sentBytes, receivedBytes }: RequestMeasure): void {
    this.#seconds.observe({ method, route, code: status }, seconds);
    this.#sent.inc(sentBytes);
    this.#received.inc(receivedBytes);
  }

  async serve(address: string): Promise<string> {
    this.#server = await serveMetrics(this.#metrics, address);
    return this.#server.address;
  }

  close(): void {
    this.#server?.close();
  }
}
