/** From flags to the body of `POST /containers/create`. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { CreateBody, HostConfig } from '../client/index.ts';
import type { ContainerFlags } from './containerFlags.ts';
import { deviceConfig } from './devices.ts';
import { ExitCode } from './failure.ts';
import { parseMount, parseTmpfs, parseVolumes } from './mounts.ts';
import { keyValues as pairs, parseNetworks } from './networks.ts';
import { parseExposed, parsePorts } from './ports.ts';
import { FlagError, invalidFlag, parseCpus, parseDuration, parseInteger, parseSize } from './units.ts';

/** Only what was given: the engine's defaults hold for the rest. */
function given<T extends object>(object: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const kept = Object.entries(object).filter(
    ([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0),
  );
  return Object.fromEntries(kept) as { [K in keyof T]?: NonNullable<T[K]> };
}

const optional = <T>(
  value: string | undefined,
  flag: string,
  parse: (value: string, flag: string) => T,
): T | undefined => (value === undefined ? undefined : parse(value, flag));

/** Lines `NAME=VALUE`, or `NAME` for the value it has here; `#` begins a comment line. */
function readPairs(paths: readonly string[], flag: string): string[] {
  return paths.flatMap((path) => {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      throw invalidFlag(flag, path, (error as Error).message);
    }
    return text
      .replace(/^\uFEFF/, '')
      .split('\n')
      .map((line) => line.replace(/\r$/, '').trimStart())
      .filter((line) => line !== '' && !line.startsWith('#'));
  });
}

/** A name alone takes over the value from this process, and is left out when it has none. */
const environment = (values: readonly string[]): string[] =>
  values.flatMap((value) => {
    if (value.includes('=')) return [value];
    const own = process.env[value];
    return own === undefined ? [] : [`${value}=${own}`];
  });

/** A namespace's mode is judged here, where docker's client does it. */
const modes =
  (name: string, known: RegExp) =>
  (value: string, flag: string): string => {
    if (known.test(value)) return value;
    throw new FlagError('InvalidParameter', `${flag}: invalid ${name} mode`);
  };

/** Flags of another system, of what the engine cannot check, and those that contradict each other. */
function refuseWrong(flags: ContainerFlags): void {
  const windows = {
    cpuCount: 'cpu-count',
    cpuPercent: 'cpu-percent',
    ioMaxbandwidth: 'io-maxbandwidth',
    ioMaxiops: 'io-maxiops',
  };
  for (const [key, flag] of Object.entries(windows))
    if (flags[key as keyof typeof windows] !== undefined)
      throw new ExitCode(1, `caisson: "--${flag}" is only supported on a Docker daemon running on windows`);
  if (flags.rm && flags.restart !== undefined && flags.restart !== 'no')
    throw new ExitCode(125, 'caisson: conflicting options: cannot specify both --restart and --rm');
  if (!flags.disableContentTrust)
    throw new ExitCode(125, 'caisson: content trust is not supported: leave out --disable-content-trust=false');
}

export function createBody(flags: ContainerFlags, image: string, command: string[]): CreateBody {
  refuseWrong(flags);
  const { binds, anonymous } = parseVolumes(flags.volume);
  const ports = parsePorts(flags.publish);
  const exposed = {
    ...parseExposed(flags.expose),
    ...Object.fromEntries(Object.keys(ports).map((port) => [port, {}])),
  };
  const labels = pairs([...readPairs(flags.labelFile, '--label-file'), ...flags.label]);
  const { mode, endpoints } = parseNetworks(flags);
  const saysMore = Object.keys(endpoints).length > 1 || Object.keys(endpoints[mode] ?? {}).length > 0;
  return {
    ...given({
      Hostname: flags.hostname,
      Domainname: flags.domainname,
      User: flags.user,
      WorkingDir: flags.workdir,
      Env: environment([...readPairs(flags.envFile, '--env-file'), ...flags.env]),
      Entrypoint: flags.entrypoint === undefined ? undefined : [flags.entrypoint],
      StopSignal: flags.stopSignal,
      StopTimeout: optional(flags.stopTimeout, '--stop-timeout', parseInteger),
      Healthcheck: healthcheck(flags),
    }),
    Image: image,
    ...(command.length > 0 && { Cmd: command }),
    ...(Object.keys(labels).length > 0 && { Labels: labels }),
    ...(Object.keys(exposed).length > 0 && { ExposedPorts: exposed }),
    ...(Object.keys(anonymous).length > 0 && { Volumes: anonymous }),
    ...(flags.tty && { Tty: true }),
    ...(flags.interactive && { OpenStdin: true, StdinOnce: true }),
    HostConfig: {
      ...resources(flags),
      ...security(flags),
      ...given({
        Binds: binds,
        Mounts: flags.mount.map(parseMount),
        VolumesFrom: flags.volumesFrom,
        Links: flags.link,
      }),
      ...(flags.tmpfs.length > 0 && { Tmpfs: parseTmpfs(flags.tmpfs) }),
      ...(Object.keys(ports).length > 0 && { PortBindings: ports }),
      ...environmentOfHost(flags),
      NetworkMode: mode,
    },
    ...(saysMore && { NetworkingConfig: { EndpointsConfig: endpoints } }),
  };
}

function resources(flags: ContainerFlags): HostConfig {
  return given({
    Memory: optional(flags.memory, '--memory', parseSize),
    MemoryReservation: optional(flags.memoryReservation, '--memory-reservation', parseSize),
    MemorySwap: optional(flags.memorySwap, '--memory-swap', (value, flag) =>
      value === '-1' ? -1 : parseSize(value, flag),
    ),
    MemorySwappiness: optional(flags.memorySwappiness, '--memory-swappiness', parseInteger),
    NanoCpus: optional(flags.cpus, '--cpus', parseCpus),
    CpuShares: optional(flags.cpuShares, '--cpu-shares', parseInteger),
    BlkioWeight: optional(flags.blkioWeight, '--blkio-weight', parseInteger),
    CpuRealtimePeriod: optional(flags.cpuRtPeriod, '--cpu-rt-period', parseInteger),
    CpuRealtimeRuntime: optional(flags.cpuRtRuntime, '--cpu-rt-runtime', parseInteger),
    CpuPeriod: optional(flags.cpuPeriod, '--cpu-period', parseInteger),
    CpuQuota: optional(flags.cpuQuota, '--cpu-quota', parseInteger),
    CpusetCpus: flags.cpusetCpus,
    CpusetMems: flags.cpusetMems,
    PidsLimit: optional(flags.pidsLimit, '--pids-limit', parseInteger),
    ShmSize: optional(flags.shmSize, '--shm-size', parseSize),
    OomScoreAdj: optional(flags.oomScoreAdj, '--oom-score-adj', parseInteger),
    OomKillDisable: flags.oomKillDisable,
    Ulimits: flags.ulimit.map(parseUlimit),
    CgroupParent: flags.cgroupParent,
  });
}

function security(flags: ContainerFlags): HostConfig {
  return given({
    Privileged: flags.privileged,
    CapAdd: flags.capAdd,
    CapDrop: flags.capDrop,
    SecurityOpt: flags.securityOpt.map(inlineSeccomp),
    ReadonlyRootfs: flags.readOnly,
    ...deviceConfig(flags),
    GroupAdd: flags.groupAdd,
    UsernsMode: optional(flags.userns, '--userns', modes('USER', /^(?:host)?$/)),
    Sysctls: flags.sysctl.length > 0 ? pairs(flags.sysctl) : undefined,
  });
}

function environmentOfHost(flags: ContainerFlags): HostConfig {
  return given({
    AutoRemove: flags.rm,
    RestartPolicy: optional(flags.restart, '--restart', parseRestart),
    PublishAllPorts: flags.publishAll,
    Init: flags.init,
    Dns: flags.dns,
    DnsOptions: flags.dnsOption,
    DnsSearch: flags.dnsSearch,
    ExtraHosts: flags.addHost.map(parseHost),
    LogConfig:
      flags.logDriver === undefined && flags.logOpt.length === 0
        ? undefined
        : { Type: flags.logDriver ?? '', Config: pairs(flags.logOpt) },
    IpcMode: flags.ipc,
    PidMode: optional(flags.pid, '--pid', modes('PID', /^(?:host|container:.+)?$/)),
    UTSMode: optional(flags.uts, '--uts', modes('UTS', /^(?:host)?$/)),
    CgroupnsMode: optional(flags.cgroupns, '--cgroupns', modes('CGROUP', /^(?:host|private)?$/)),
    Runtime: flags.runtime,
    Isolation: flags.isolation,
    VolumeDriver: flags.volumeDriver,
    StorageOpt: flags.storageOpt.length > 0 ? pairs(flags.storageOpt) : undefined,
    Annotations: flags.annotation.length > 0 ? pairs(flags.annotation) : undefined,
  });
}

function healthcheck(flags: ContainerFlags): CreateBody['Healthcheck'] {
  if (!flags.healthcheck) return { Test: ['NONE'] };
  const check = given({
    Test: flags.healthCmd === undefined ? undefined : ['CMD-SHELL', flags.healthCmd],
    Interval: optional(flags.healthInterval, '--health-interval', parseDuration),
    Timeout: optional(flags.healthTimeout, '--health-timeout', parseDuration),
    StartPeriod: optional(flags.healthStartPeriod, '--health-start-period', parseDuration),
    StartInterval: optional(flags.healthStartInterval, '--health-start-interval', parseDuration),
    Retries: optional(flags.healthRetries, '--health-retries', parseInteger),
  });
  return Object.keys(check).length > 0 ? check : undefined;
}

/** `nofile=1024:2048`; -1 is no limit. */
export function parseUlimit(text: string): { Name: string; Soft: number; Hard: number } {
  const [, name, soft, hard = soft] = /^(\w+)=(-?\d+)(?::(-?\d+))?$/.exec(text) ?? [];
  if (name === undefined) throw invalidFlag('--ulimit', text, 'not name=soft[:hard]');
  const [Soft, Hard] = [Number(soft), Number(hard)];
  if (Hard !== -1 && (Soft > Hard || Soft === -1))
    throw invalidFlag(
      '--ulimit',
      text,
      `ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`,
    );
  return { Name: name, Soft, Hard };
}

function parseRestart(text: string, flag: string): { Name: string; MaximumRetryCount?: number } {
  const [name = '', count, ...more] = text.split(':');
  if (more.length > 0) throw invalidFlag(flag, text, 'invalid restart policy format');
  return { Name: name, ...(count !== undefined && { MaximumRetryCount: parseInteger(count, flag) }) };
}

/** `host:ip` or `host=ip`; an IPv6 address may stand in brackets. */
export function parseHost(text: string): string {
  const [, host, address] = /^([^:=]+)[:=](.+)$/.exec(text) ?? [];
  if (host === undefined || address === undefined) throw invalidFlag('--add-host', text, 'bad format for add-host');
  return `${host}:${address.replace(/^\[(.*)\]$/, '$1')}`;
}

/** A seccomp profile is a file here, and its text for the engine. */
function inlineSeccomp(option: string): string {
  const [, key, value = ''] = /^(seccomp)[=:](.*)$/s.exec(option) ?? [];
  if (key === undefined || value === 'unconfined' || value === 'builtin' || value.startsWith('{')) return option;
  try {
    return `seccomp=${JSON.stringify(JSON.parse(readFileSync(resolve(value), 'utf8')))}`;
  } catch (error) {
    throw invalidFlag(
      '--security-opt',
      option,
      `opening seccomp profile (${value}) failed: ${(error as Error).message}`,
    );
  }
}
