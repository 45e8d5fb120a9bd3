/** `--metrics-addr`: what Prometheus is told of the engine, under dockerd's names, and of this process. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { gauge, type MetricsServer, serveMetrics } from '../../registry/server/prometheus.ts';
import type { Engine } from '../engine.ts';
import { ENGINE_VERSION } from '../version.ts';
import { containerStates, engineId, osRelease } from './info.ts';

/** dockerd's names of actions, by kind of job. */
const CONTAINER_ACTIONS = new Map([
  ['create', 'create'],
  ['start', 'start'],
  ['commit', 'commit'],
  ['remove', 'delete'],
]);
const NETWORK_ACTIONS = new Map([
  ['network-connect', 'connect'],
  ['network-disconnect', 'release'],
]);

export const startMetrics = (engine: Engine, where: string): Promise<MetricsServer> =>
  serveMetrics(metricsOf(engine), where);

function metricsOf(engine: Engine): Registry {
  const { graph, host, runner, containers } = engine;
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  gauge(
    registry,
    'engine_daemon_engine_cpus_cpus',
    'The number of cpus that the host system of the engine has',
    () => host.cpus,
  );
  gauge(
    registry,
    'engine_daemon_engine_memory_bytes',
    'The number of bytes of memory that the host system of the engine has',
    () => {
      return host.totalMemoryBytes;
    },
  );
  gauge(
    registry,
    'engine_daemon_events_subscribers_total',
    'The number of current subscribers to events',
    () => graph.events.followers,
  );
  const info = {
    version: ENGINE_VERSION,
    architecture: host.architecture,
    graphdriver: 'overlay2',
    kernel: host.kernelVersion,
    os: osRelease()['PRETTY_NAME'] ?? 'Linux',
    os_type: 'linux',
    os_version: osRelease()['VERSION_ID'] ?? '',
    daemon_id: engineId(engine),
  };
  new Gauge({
    name: 'engine_daemon_engine_info',
    help: 'The information related to the engine and the OS it is running on',
    labelNames: Object.keys(info),
    registers,
  }).set(info, 1);
  new Gauge({
    name: 'engine_daemon_container_states_containers',
    help: 'The count of containers in various states',
    labelNames: ['state'],
    registers,
    collect() {
      for (const [state, count] of Object.entries(containerStates(graph))) this.set({ state }, count);
    },
  });
  const counter = (name: string, help: string, read: () => number): void => {
    new Counter({
      name: `engine_daemon_${name}_total`,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  };
  counter('health_checks', 'The total number of health checks', () => containers.healthChecks.count);
  counter('health_checks_failed', 'The total number of failed health checks', () => containers.healthChecks.failed);
  const before = graph.events.lastSeq;
  counter('events', 'The number of events logged', () => graph.events.lastSeq - before);
  const timer = (what: string): Histogram<'action'> =>
    new Histogram({
      name: `engine_daemon_${what}_actions_seconds`,
      help: `The number of seconds it takes to process each ${what} action`,
      labelNames: ['action'],
      registers,
    });
  const timers = [
    { actions: CONTAINER_ACTIONS, histogram: timer('container') },
    { actions: NETWORK_ACTIONS, histogram: timer('network') },
  ];
  const images = timer('image');
  engine.images.onAction = (action, seconds) => images.observe({ action }, seconds);
  runner.onDone = (kind, seconds) => {
    for (const { actions, histogram } of timers) {
      const action = actions.get(kind);
      if (action !== undefined) histogram.observe({ action }, seconds);
    }
  };
  return registry;
}
