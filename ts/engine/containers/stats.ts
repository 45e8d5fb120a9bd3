/** `GET /containers/{id}/stats`, in Docker's shape. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CaissonError } from '../../errdefs.ts';
import type { CgroupStats } from '../native/containers.ts';
import type { ContainerContext } from './context.ts';
import { isRunning, readRecord } from './record.ts';
import { cgroupOf } from './spawn.ts';
import { nowRfc3339 } from './time.ts';

const NEVER = '0001-01-01T00:00:00Z';
const NO_CPU = {
  cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
  throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
};
const BLKIO = [
  'io_service_bytes_recursive',
  'io_serviced_recursive',
  'io_queue_recursive',
  'io_service_time_recursive',
  'io_wait_time_recursive',
  'io_merged_recursive',
  'io_time_recursive',
  'sectors_recursive',
];
/** USER_HZ is 100 on every architecture that we run on. */
const NANOSECONDS_PER_TICK = 10_000_000;
const PERIOD_MS = 1000;

/** Time of all CPUs together since the boot: what a client divides a container's time by. */
function systemCpuNanoseconds(): number {
  const line = readFileSync('/proc/stat', 'latin1').split('\n', 1)[0] ?? '';
  // the first eight: guest time is contained in user time
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  return ticks.reduce((sum, value) => sum + value, 0) * NANOSECONDS_PER_TICK;
}

/** Counters of the interfaces in the network namespace of a process. */
export function networkCounters(pid: number): Record<string, object> | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/net/dev`, 'latin1');
  } catch {
    return undefined;
  }
  const found: Record<string, object> = {};
  for (const line of text.split('\n').slice(2)) {
    const [name, numbers] = line.split(':');
    if (!name || !numbers || name.trim() === 'lo') continue;
    const values = numbers.trim().split(/\s+/).map(Number);
    const [rxBytes, rxPackets, rxErrors, rxDropped] = values;
    const [txBytes, txPackets, txErrors, txDropped] = values.slice(8);
    found[name.trim()] = {
      rx_bytes: rxBytes,
      rx_packets: rxPackets,
      rx_errors: rxErrors,
      rx_dropped: rxDropped,
      tx_bytes: txBytes,
      tx_packets: txPackets,
      tx_errors: txErrors,
      tx_dropped: txDropped,
    };
  }
  return found;
}

function cpuStats({ cpu }: CgroupStats, cpus: number): object {
  return {
    cpu_usage: {
      total_usage: cpu.totalUsage,
      ...(cpu.percpuUsage.length > 0 ? { percpu_usage: cpu.percpuUsage } : {}),
      usage_in_kernelmode: cpu.kernelUsage,
      usage_in_usermode: cpu.userUsage,
    },
    system_cpu_usage: systemCpuNanoseconds(),
    online_cpus: cpus,
    throttling_data: {
      periods: cpu.periods,
      throttled_periods: cpu.throttledPeriods,
      throttled_time: cpu.throttledTime,
    },
  };
}

function memoryStats({ memory }: CgroupStats, totalBytes: number): object {
  return {
    usage: memory.usage,
    ...(memory.maxUsage > 0 ? { max_usage: memory.maxUsage } : {}),
    stats: memory.stats,
    ...(memory.failcnt > 0 ? { failcnt: memory.failcnt } : {}),
    // no limit is the limit of the machine
    limit: memory.limit > 0 && memory.limit < totalBytes ? memory.limit : totalBytes,
  };
}

/** "No limit" is near 2^63 on cgroup v1 and crosses the boundary as a bigint, which JSON does not have. */
const asNumbers = (stats: CgroupStats): CgroupStats =>
  JSON.parse(JSON.stringify(stats, (_key, value: unknown) => (typeof value === 'bigint' ? Number(value) : value)));

interface Sample {
  read: string;
  cpu: object;
}

export class StatsReader {
  readonly #ctx: ContainerContext;
  #last: Sample = { read: NEVER, cpu: NO_CPU };

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
  }

  /** One reading; its `precpu_stats` are those of the reading before. */
  async read(id: string): Promise<object> {
    const { graph, native, host } = this.#ctx;
    const { row, hostConfig } = readRecord(graph.containers.resolve(id));
    const base = { name: `/${row.name}`, id: row.id };
    const fixed = { num_procs: 0, storage_stats: {} };
    if (!isRunning(row)) {
      const blkio = Object.fromEntries(BLKIO.map((key) => [key, null]));
      const times = { read: NEVER, preread: NEVER, pids_stats: {}, blkio_stats: blkio };
      return { ...base, ...times, ...fixed, cpu_stats: NO_CPU, precpu_stats: NO_CPU, memory_stats: {} };
    }
    const stats = asNumbers(await native.cgroupStats(cgroupOf(this.#ctx, hostConfig, row.id)));
    const sample: Sample = { read: nowRfc3339(), cpu: cpuStats(stats, host.cpus) };
    const before = this.#last;
    this.#last = sample;
    const networks = hostConfig.NetworkMode === 'host' ? undefined : networkCounters(row.pid);
    return {
      ...base,
      read: sample.read,
      preread: before.read,
      pids_stats: { current: stats.pids.current, ...(stats.pids.limit > 0 ? { limit: stats.pids.limit } : {}) },
      blkio_stats: Object.fromEntries(BLKIO.map((key) => [key, stats.blkio[key] ?? []])),
      ...fixed,
      cpu_stats: sample.cpu,
      precpu_stats: before.cpu,
      memory_stats: memoryStats(stats, host.totalMemoryBytes),
      ...(networks && Object.keys(networks).length > 0 ? { networks } : {}),
    };
  }

  /** A reading a second until the client has left or the container is gone. */
  async *stream(id: string, signal: AbortSignal): AsyncGenerator<object> {
    while (!signal.aborted) {
      try {
        yield await this.read(id);
        await sleep(PERIOD_MS, undefined, { signal });
      } catch (error) {
        if (signal.aborted || (error instanceof CaissonError && error.kind === 'NotFound')) return;
        throw error;
      }
    }
  }

  /** One reading with one from a second before, which a client needs for a share of the CPU. */
  async readTwice(id: string, signal: AbortSignal): Promise<object> {
    const first = await this.read(id);
    if (!isRunning(this.#ctx.graph.containers.resolve(id))) return first;
    await sleep(PERIOD_MS, undefined, { signal });
    return this.read(id);
  }
}
