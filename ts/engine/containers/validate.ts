/** Checks of a filled-in create request, with Docker's texts; what the kernel would refuse later is refused here. */
import { isIP } from 'node:net';
import { CaissonError } from '../../errdefs.ts';
import { checkLogAttributes } from '../logs/attributes.ts';
import { parseLogOptions } from '../logs/options.ts';
import { parseDeviceRule } from '../runtime/devices.ts';
import { mergeTmpfsOptions } from '../runtime/mounts.ts';
import { checkResources, type ResourceHost } from '../runtime/resources.ts';
import { isKnownRuntime, type OciRuntimes } from '../runtime/runtimes.ts';
import { parseSecurityOptions } from '../runtime/security.ts';
import { checkSysctls } from '../runtime/sysctls.ts';
import type { ContainerConfig, HostConfig } from './config.ts';
import { checkHealthcheck } from './healthcheck.ts';
import { parseSignal } from './signals.ts';

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

/** setrlimit's names. */
const ULIMITS = new Set(
  'as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' '),
);

export interface ValidationHost extends ResourceHost {
  apparmor: boolean;
  seccomp: boolean;
  selinux: boolean;
  /** That the daemon was told of. */
  runtimes: OciRuntimes;
}

/** The number range of an id in the kernel; beyond it a number must never be taken for a name (CVE-2024-40635). */
const MAX_ID = 0x7fffffff;

export function checkUser(user: string): void {
  for (const part of user.split(':')) {
    if (/^-?\d+$/.test(part) && (Number(part) < 0 || Number(part) > MAX_ID)) {
      throw invalid(`invalid user ${user}: uids and gids must be in range 0-${MAX_ID}`);
    }
  }
  if (user.split(':').length > 2) throw invalid(`invalid user ${user}: it is user[:group]`);
  if (/[\0\n]/.test(user)) throw invalid('invalid user: it contains a NUL byte or a newline');
}

export function checkEnv(env: string[]): void {
  for (const entry of env) {
    if (entry === '' || entry.startsWith('=')) throw invalid(`invalid environment variable: ${entry}`);
    if (entry.includes('\0'))
      throw invalid(`invalid environment variable: ${JSON.stringify(entry)} contains a NUL byte`);
  }
}

function checkConfig(config: ContainerConfig): void {
  if (config.WorkingDir && !config.WorkingDir.startsWith('/')) {
    throw invalid(`the working directory '${config.WorkingDir}' is invalid, it needs to be an absolute path`);
  }
  checkEnv(config.Env);
  checkUser(config.User);
  checkHealthcheck(config.Healthcheck);
  if (config.StopSignal) parseSignal(config.StopSignal);
  if (config.StopTimeout !== undefined && config.StopTimeout < -1) {
    throw invalid(`invalid stop timeout ${config.StopTimeout}: it is a number of seconds, or -1 to wait for ever`);
  }
  if (!/^[a-zA-Z0-9_.-]{1,64}$/.test(config.Hostname)) throw invalid(`invalid hostname: ${config.Hostname}`);
  if (/[\0\n]/.test(config.Domainname) || config.Domainname.length > 64) {
    throw invalid(`invalid domainname: ${JSON.stringify(config.Domainname)}`);
  }
  for (const argument of [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])]) {
    if (argument.includes('\0')) throw invalid(`invalid argument ${JSON.stringify(argument)}: it contains a NUL byte`);
  }
}

export function checkRestartPolicy({ Name: name, MaximumRetryCount: retries }: HostConfig['RestartPolicy']): void {
  if (!['no', 'always', 'on-failure', 'unless-stopped'].includes(name)) {
    throw invalid(
      `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    );
  }
  if (name !== 'on-failure' && retries !== 0) {
    throw invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'");
  }
  if (retries < 0) throw invalid('invalid restart policy: maximum retry count cannot be negative');
}

const isContainerMode = (mode: string): boolean => /^container:.+$/.test(mode);

function checkModes(config: HostConfig): void {
  if (!['', 'private', 'host'].includes(config.PidMode) && !isContainerMode(config.PidMode)) {
    throw invalid(`invalid PID mode: ${config.PidMode}`);
  }
  if (!['none', 'private', 'shareable', 'host'].includes(config.IpcMode) && !isContainerMode(config.IpcMode)) {
    throw invalid(`invalid IPC mode: ${config.IpcMode}`);
  }
  if (!['', 'host'].includes(config.UTSMode)) throw invalid(`invalid UTS mode: ${config.UTSMode}`);
  if (!['', 'host', 'private'].includes(config.CgroupnsMode)) {
    throw invalid(`invalid cgroup namespace mode: ${config.CgroupnsMode}`);
  }
  if (!['', 'default'].includes(config.Isolation)) {
    throw invalid(`invalid isolation (${config.Isolation}): linux only supports 'default'`);
  }
  if (config.CgroupParent.includes('\0')) throw invalid('invalid cgroup parent: it contains a NUL byte');
}

/** The overlay knows no limit but a project quota, which it does not set. */
function checkStorage(options: Record<string, string>): void {
  for (const name of Object.keys(options)) {
    if (name !== 'size') throw invalid(`Unknown option ${name}`);
    throw invalid("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
  }
}

function checkLists(config: HostConfig): void {
  for (const { Name, Soft, Hard } of config.Ulimits ?? []) {
    if (!ULIMITS.has(Name)) throw invalid(`invalid ulimit type: ${Name}`);
    if (Hard !== -1 && (Soft === -1 || Soft > Hard)) {
      throw invalid(`ulimit soft limit must be less than or equal to hard limit: ${Soft} > ${Hard}`);
    }
  }
  if (Object.hasOwn(config.Annotations ?? {}, '')) {
    throw invalid('invalid Annotations: the empty string is not permitted as an annotation key');
  }
  for (const group of config.GroupAdd ?? []) checkUser(`0:${group}`);
  for (const address of config.Dns) {
    if (isIP(address) === 0) throw invalid(`invalid IP address in dns: ${address}`);
  }
  for (const option of [...config.DnsOptions, ...config.DnsSearch]) {
    if (/[\s\0]/.test(option)) throw invalid(`invalid DNS option or search domain: ${JSON.stringify(option)}`);
  }
  for (const entry of config.ExtraHosts ?? []) {
    const [, name, address = ''] = /^([^:=\s]+)[:=](.+)$/.exec(entry) ?? [];
    if (!name) throw invalid(`bad format for add-host: "${entry}"`);
    const bare = address.replace(/^\[(.*)\]$/, '$1');
    if (bare !== 'host-gateway' && isIP(bare) === 0) throw invalid(`invalid IP address in add-host: "${address}"`);
  }
  checkStorage(config.StorageOpt ?? {});
  for (const rule of config.DeviceCgroupRules ?? []) parseDeviceRule(rule);
  for (const options of Object.values(config.Tmpfs ?? {})) mergeTmpfsOptions(options.split(','));
}

/** Returns warnings. */
function checkLog(config: HostConfig): string[] {
  const { Type: driver, Config: options } = config.LogConfig;
  const parsed = parseLogOptions(driver, options);
  checkLogAttributes(options);
  if (options['max-file'] === undefined || parsed?.maxSizeBytes !== undefined) return [];
  return ['--log-opt max-file has no effect without max-size: the log is never rotated'];
}

/** Throws on the first mistake; returns warnings for the client. */
export function validate(config: ContainerConfig, hostConfig: HostConfig, host: ValidationHost): string[] {
  checkConfig(config);
  checkRestartPolicy(hostConfig.RestartPolicy);
  if (hostConfig.AutoRemove && hostConfig.RestartPolicy.Name !== 'no') {
    throw invalid("can't create 'AutoRemove' container with restart policy");
  }
  checkModes(hostConfig);
  if (!isKnownRuntime(hostConfig.Runtime, host.runtimes)) {
    throw invalid(`unknown or invalid runtime name: ${hostConfig.Runtime}`);
  }
  checkLists(hostConfig);
  const warnings = checkLog(hostConfig);
  parseSecurityOptions(hostConfig.SecurityOpt, host);
  checkSysctls(hostConfig.Sysctls ?? {}, {
    hostNetwork: hostConfig.NetworkMode === 'host',
    hostIpc: hostConfig.IpcMode === 'host',
    hostUts: hostConfig.UTSMode === 'host',
  });
  return [...warnings, ...checkResources(hostConfig, host)];
}
