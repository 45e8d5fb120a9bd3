/** Limits: HostConfig's numbers, validated with Docker's texts, as the OCI `linux.resources`. */
import { statSync } from 'node:fs';
import { CaissonError } from '../../errdefs.ts';
import type { Resources, ThrottleDevice } from '../../oci.ts';
import type { DeviceRate, DeviceWeight, HostConfig } from '../containers/config.ts';
import type { HostInfo } from '../native/index.ts';

const MIN_MEMORY_BYTES = 6 * 1024 * 1024;

export type ResourceHost = Pick<
  HostInfo,
  | 'memoryLimit'
  | 'swapLimit'
  | 'oomKillDisable'
  | 'blkioWeight'
  | 'blkioWeightDevice'
  | 'cpuCfsQuota'
  | 'cpuShares'
  | 'cpuSet'
  | 'pidsLimit'
  | 'cpus'
  | 'cgroupVersion'
  | 'controllers'
> & {
  /** The CPUs and memory nodes that can be given, as the kernel lists them: `0-3`. */
  cpusetCpus: string;
  cpusetMems: string;
};

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** `0-2,7` as numbers; undefined when it is not such a list. */
export function parseCpuList(list: string): Set<number> | undefined {
  const found = new Set<number>();
  if (list === '') return found;
  for (const part of list.split(',')) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part.trim());
    if (!match) return undefined;
    const from = Number(match[1]);
    const to = match[2] === undefined ? from : Number(match[2]);
    // 8192 is the kernel's NR_CPUS limit: without a bound `0-4294967295` would fill the memory
    if (to < from || to >= 8192) return undefined;
    for (let cpu = from; cpu <= to; cpu++) found.add(cpu);
  }
  return found;
}

function checkMemory(config: HostConfig): void {
  const { Memory: memory, MemorySwap: swap, MemoryReservation: reservation, MemorySwappiness: swappiness } = config;
  if (memory < 0 || (memory > 0 && memory < MIN_MEMORY_BYTES)) throw invalid('Minimum memory limit allowed is 6MB');
  if (memory > 0 && swap > 0 && swap < memory) {
    throw invalid('Minimum memoryswap limit should be larger than memory limit, see usage');
  }
  if (memory === 0 && swap > 0) {
    throw invalid('You should always set the Memory limit when using Memoryswap limit, see usage');
  }
  if (swap < -1) throw invalid(`invalid memory-swap value: ${swap}, it is a number of bytes, or -1 for no limit`);
  if (swappiness !== null && (swappiness < -1 || swappiness > 100)) {
    throw invalid(`Invalid value: ${swappiness}, valid memory swappiness range is 0-100`);
  }
  if (reservation < 0 || (reservation > 0 && reservation < MIN_MEMORY_BYTES)) {
    throw invalid('Minimum memory reservation allowed is 6MB');
  }
  if (memory > 0 && reservation > 0 && memory < reservation) {
    throw invalid('Minimum memory limit can not be less than memory reservation limit, see usage');
  }
}

function checkCpu(config: HostConfig, host: ResourceHost): void {
  if (config.NanoCpus > 0 && config.CpuPeriod > 0) {
    throw invalid('Conflicting options: Nano CPUs and CPU Period cannot both be set');
  }
  if (config.NanoCpus > 0 && config.CpuQuota > 0) {
    throw invalid('Conflicting options: Nano CPUs and CPU Quota cannot both be set');
  }
  if (config.NanoCpus < 0 || config.NanoCpus > host.cpus * 1e9) {
    throw invalid(`range of CPUs is from 0.01 to ${host.cpus}.00, as there are only ${host.cpus} CPUs available`);
  }
  if (config.CpuPeriod !== 0 && (config.CpuPeriod < 1000 || config.CpuPeriod > 1_000_000)) {
    throw invalid('CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)');
  }
  if (config.CpuQuota > 0 && config.CpuQuota < 1000) {
    throw invalid('CPU cfs quota can not be less than 1ms (i.e. 1000)');
  }
  if (config.CpuRealtimePeriod > 0 && config.CpuRealtimeRuntime > config.CpuRealtimePeriod) {
    throw invalid('cpu real-time runtime cannot be higher than cpu real-time period');
  }
  if (config.CpuShares < 0) throw invalid(`invalid CPU shares (${config.CpuShares}): value must be a positive integer`);
  for (const [value, available, what, noun] of [
    [config.CpusetCpus, host.cpusetCpus, 'cpus', 'CPUs'],
    [config.CpusetMems, host.cpusetMems, 'mems', 'memory nodes'],
  ] as const) {
    const wanted = parseCpuList(value);
    if (!wanted) throw invalid(`Invalid value ${value} for cpuset ${what}`);
    const there = parseCpuList(available) ?? new Set();
    if ([...wanted].some((item) => !there.has(item))) {
      throw invalid(`Requested ${noun} are not available - requested ${value}, available: ${available}`);
    }
  }
}

/** 400 with Docker's text when a limit makes no sense here. Returns warnings. */
export function checkResources(config: HostConfig, host: ResourceHost): string[] {
  const warnings: string[] = [];
  checkMemory(config);
  checkCpu(config, host);
  const noWeight = 'or the cgroup is not mounted';
  if (config.BlkioWeight > 0 && !host.blkioWeight) {
    warnings.push(`Your kernel does not support Block I/O weight ${noWeight}. Weight discarded.`);
    config.BlkioWeight = 0;
  }
  if ((config.BlkioWeightDevice ?? []).length > 0 && !host.blkioWeightDevice) {
    warnings.push(`Your kernel does not support Block I/O weight_device ${noWeight}. Weight-device discarded.`);
    config.BlkioWeightDevice = [];
  }
  if (config.BlkioWeight !== 0 && (config.BlkioWeight < 10 || config.BlkioWeight > 1000)) {
    throw invalid('Range of blkio weight is from 10 to 1000');
  }
  if (config.OomScoreAdj < -1000 || config.OomScoreAdj > 1000) {
    throw invalid(`Invalid value ${config.OomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  }
  if (config.ShmSize < 0) throw invalid('SHM size can not be less than 0');
  for (const [value, what] of [
    [config.IOMaximumIOps, 'IOPs'],
    [config.IOMaximumBandwidth, 'bandwidth'],
  ] as const) {
    if (value !== 0) throw invalid(`invalid option: QoS maximum ${what} configuration is not supported on linux`);
  }
  if (config.CpuPercent > 0) warnings.push('linux does not support CPU percent. Percent discarded.');
  const missing: [boolean, string][] = [
    [config.Memory > 0 && !host.memoryLimit, '-m/--memory: the memory controller'],
    [(config.PidsLimit ?? 0) > 0 && !host.pidsLimit, '--pids-limit: the pids controller'],
    [(config.NanoCpus > 0 || config.CpuQuota > 0) && !host.cpuCfsQuota, '--cpus/--cpu-quota: CFS bandwidth control'],
    [
      config.CpusetCpus + config.CpusetMems !== '' && !host.cpuSet,
      '--cpuset-cpus/--cpuset-mems: the cpuset controller',
    ],
  ];
  for (const [lacking, what] of missing) {
    if (lacking) throw new CaissonError('NotImplemented', `${what} is not available on this host`);
  }
  if (config.MemorySwap > 0 && !host.swapLimit) {
    warnings.push(
      'Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.',
    );
  }
  if (config.OomKillDisable && !host.oomKillDisable) {
    warnings.push('Your kernel does not support OomKillDisable. OomKillDisable discarded.');
  } else if (config.OomKillDisable && config.Memory === 0) {
    warnings.push(
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
    );
  }
  return warnings;
}

function blockDevice(path: string): { major: number; minor: number } {
  try {
    const rdev = BigInt(statSync(path).rdev);
    return {
      major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n)),
      minor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n)),
    };
  } catch (error) {
    throw invalid(`cannot use block device ${path} of a blkio option: ${(error as NodeJS.ErrnoException).code}`);
  }
}

const throttles = (rates: DeviceRate[] | null): ThrottleDevice[] =>
  (rates ?? []).map(({ Path, Rate }) => ({ ...blockDevice(Path), rate: Rate }));

function blockIo(config: HostConfig): Resources['blockIO'] {
  const weights = (config.BlkioWeightDevice ?? []).map(({ Path, Weight }: DeviceWeight) => ({
    ...blockDevice(Path),
    weight: Weight,
  }));
  const lists = {
    weightDevice: weights,
    throttleReadBpsDevice: throttles(config.BlkioDeviceReadBps),
    throttleWriteBpsDevice: throttles(config.BlkioDeviceWriteBps),
    throttleReadIOPSDevice: throttles(config.BlkioDeviceReadIOps),
    throttleWriteIOPSDevice: throttles(config.BlkioDeviceWriteIOps),
  };
  const set = Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0));
  if (config.BlkioWeight > 0) Object.assign(set, { weight: config.BlkioWeight });
  return Object.keys(set).length > 0 ? set : undefined;
}

function memory(config: HostConfig, host: ResourceHost): Resources['memory'] {
  const section: NonNullable<Resources['memory']> = {};
  if (config.Memory > 0) {
    section.limit = config.Memory;
    // Docker: without --memory-swap a container may use as much swap again as memory
    if (host.swapLimit) section.swap = config.MemorySwap === 0 ? config.Memory * 2 : config.MemorySwap;
  }
  if (config.MemoryReservation > 0) section.reservation = config.MemoryReservation;
  if (config.MemorySwappiness !== null && config.MemorySwappiness >= 0) section.swappiness = config.MemorySwappiness;
  if (config.OomKillDisable && host.oomKillDisable) section.disableOOMKiller = true;
  return Object.keys(section).length > 0 ? section : undefined;
}

function cpu(config: HostConfig): Resources['cpu'] {
  const section: NonNullable<Resources['cpu']> = {};
  if (config.CpuShares > 0) section.shares = config.CpuShares;
  if (config.NanoCpus > 0) {
    section.period = 100_000;
    section.quota = Math.floor(config.NanoCpus / 10_000);
  }
  if (config.CpuPeriod > 0) section.period = config.CpuPeriod;
  if (config.CpuQuota !== 0) section.quota = config.CpuQuota;
  if (config.CpuRealtimePeriod > 0) section.realtimePeriod = config.CpuRealtimePeriod;
  if (config.CpuRealtimeRuntime > 0) section.realtimeRuntime = config.CpuRealtimeRuntime;
  if (config.CpusetCpus) section.cpus = config.CpusetCpus;
  if (config.CpusetMems) section.mems = config.CpusetMems;
  return Object.keys(section).length > 0 ? section : undefined;
}

/** Without device rules; those come from the devices. */
export function toResources(config: HostConfig, host: ResourceHost): Resources {
  const sections = {
    memory: memory(config, host),
    cpu: cpu(config),
    pids: (config.PidsLimit ?? 0) > 0 ? { limit: config.PidsLimit as number } : undefined,
    blockIO: blockIo(config),
  };
  return Object.fromEntries(Object.entries(sections).filter(([, section]) => section !== undefined)) as Resources;
}
