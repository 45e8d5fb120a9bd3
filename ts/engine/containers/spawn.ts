/** A container's row as the options of `spawnShim`: the OCI spec, the rootfs, the log, the namespaces it shares. */
import { mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { Device, DeviceRule } from '../../oci.ts';
import { logAttributes } from '../logs/attributes.ts';
import { parseLogOptions } from '../logs/options.ts';
import type { LogConfig, OverlayRootfs, SpawnOptions } from '../native/index.ts';
import { containerFiles } from '../network/containerFiles.ts';
import { hostDevices, mapDevice } from '../runtime/devices.ts';
import { parseSecurityOptions } from '../runtime/security.ts';
import { buildSpec, capabilitiesOf, type NamespaceChoice } from '../runtime/spec.ts';
import type { HostConfig, MountPoint } from './config.ts';
import type { ContainerContext } from './context.ts';
import { linkVariables } from './links.ts';
import { type ContainerRecord, isRunning, programOf } from './record.ts';

export const cgroupOf = (ctx: ContainerContext, hostConfig: HostConfig, id: string): string => {
  const parent = hostConfig.CgroupParent || ctx.config.cgroupParent;
  return join('/', parent, id);
};

export const shimCgroup = (ctx: ContainerContext): string => join(ctx.config.cgroupParent, 'shims');

export function overlayOf(ctx: ContainerContext, { row, hostConfig }: ContainerRecord): OverlayRootfs {
  const layers = row.chainId === null ? [] : ctx.graph.layers.chain(row.chainId);
  const own = join(ctx.paths.overlay, row.id);
  return {
    lower: layers.map(({ cacheId }) => join(ctx.paths.overlay, cacheId, 'diff')),
    upper: join(own, 'upper'),
    work: join(own, 'work'),
    // what vanishes with its end needs no sync; after a crash of the machine nobody mounts it again
    volatile: hostConfig.AutoRemove,
  };
}

function logConfig({ row, config, hostConfig, detail }: ContainerRecord): LogConfig {
  const { Type: driver, Config: options } = hostConfig.LogConfig;
  const parsed = parseLogOptions(driver, options);
  if (parsed === undefined) return { driver: 'none' };
  // its own directory, in which a follower may wait for the file
  mkdirSync(dirname(detail.logPath), { recursive: true, mode: 0o710 });
  const attrs = logAttributes(options, { ...row, program: programOf(config), labels: config.Labels, env: config.Env });
  return { ...parsed, driver: driver === 'local' ? 'local' : 'json-file', path: detail.logPath, attrs };
}

/** The init of another container whose namespace is shared. */
function initOf(ctx: ContainerContext, mode: string): { id: string; pid: number } {
  const other = ctx.graph.containers.resolve(mode.slice('container:'.length));
  if (!isRunning(other)) {
    throw new CaissonError('Conflict', `cannot join the namespace of a non running container: ${other.id}`);
  }
  return { id: other.id, pid: other.pid };
}

function namespaceChoice(ctx: ContainerContext, mode: string, file: 'pid' | 'ipc'): NamespaceChoice {
  if (mode === 'host') return 'host';
  if (!mode.startsWith('container:')) return 'private';
  return { path: `/proc/${initOf(ctx, mode).pid}/ns/${file}` };
}

/** For `--network container:X`: an fd of that container's namespace. */
export async function sharedNetns(ctx: ContainerContext, mode: string): Promise<number | undefined> {
  if (!mode.startsWith('container:')) return undefined;
  return ctx.native.containerNetns(initOf(ctx, mode).id);
}

/** Docker makes a missing source of `-v`; for `--mount` it was checked at create. */
function makeSources(mounts: MountPoint[]): void {
  for (const { type, source } of mounts) {
    if (type !== 'bind' || statSync(source, { throwIfNoEntry: false }) !== undefined) continue;
    mkdirSync(source, { recursive: true, mode: 0o755 });
  }
}

async function devicesOf(hostConfig: HostConfig): Promise<{ devices: Device[]; rules: DeviceRule[] }> {
  if (hostConfig.Privileged) return { devices: await hostDevices(), rules: [] };
  const mapped = await Promise.all((hostConfig.Devices ?? []).map(mapDevice));
  return { devices: mapped.flatMap(({ devices }) => devices), rules: mapped.flatMap(({ rules }) => rules) };
}

async function seccompFile(ctx: ContainerContext, hostConfig: HostConfig, profile: string | undefined) {
  if (!ctx.host.seccomp || hostConfig.Privileged || profile === 'unconfined') return undefined;
  return ctx.seccomp.file(capabilitiesOf(hostConfig, ctx.specHost.bounded), profile);
}

/** Everything but the file descriptors of the network. */
export async function spawnOptions(
  ctx: ContainerContext,
  record: ContainerRecord,
): Promise<Omit<SpawnOptions, 'ports'>> {
  const { row, config, hostConfig, detail } = record;
  makeSources(detail.mountPoints);
  const security = parseSecurityOptions(hostConfig.SecurityOpt, ctx.host);
  const [devices, seccomp] = await Promise.all([devicesOf(hostConfig), seccompFile(ctx, hostConfig, security.seccomp)]);
  const network: NamespaceChoice = hostConfig.NetworkMode === 'host' ? 'host' : 'private';
  const sharesNetwork = hostConfig.NetworkMode.startsWith('container:');
  const spec = buildSpec(
    {
      // what the user sets himself goes over what a link gives
      config: { ...config, Env: [...linkVariables(ctx, record), ...config.Env] },
      hostConfig,
      args: programOf(config),
      mountPoints: detail.mountPoints,
      files: containerFiles(filesDir(ctx, record)),
      security,
      seccompFile: seccomp,
      namespaces: {
        network: sharesNetwork ? { path: '' } : network,
        pid: namespaceChoice(ctx, hostConfig.PidMode, 'pid'),
        ipc: namespaceChoice(ctx, hostConfig.IpcMode, 'ipc'),
      },
      devices,
      cgroupsPath: cgroupOf(ctx, hostConfig, row.id),
    },
    ctx.specHost,
  );
  const [height, width] = hostConfig.ConsoleSize;
  return {
    id: row.id,
    spec,
    rootfs: { overlay: overlayOf(ctx, record) },
    stateDir: ctx.paths.stateDir(row.id),
    shimCgroup: shimCgroup(ctx),
    process: { user: config.User, additionalGroups: hostConfig.GroupAdd ?? [] },
    stdio: {
      tty: config.Tty,
      openStdin: config.OpenStdin,
      stdinOnce: config.StdinOnce,
      ...(config.Tty && width > 0 && height > 0 ? { consoleSize: { width, height } } : {}),
    },
    log: logConfig(record),
    init: hostConfig.Init ?? false,
  };
}

/** Who shares another's network shares its names too: the same three files. */
export function filesDir(ctx: ContainerContext, { row, hostConfig }: ContainerRecord): string {
  const { NetworkMode: mode } = hostConfig;
  if (!mode.startsWith('container:')) return ctx.paths.containerDir(row.id);
  return ctx.paths.containerDir(ctx.graph.containers.resolve(mode.slice('container:'.length)).id);
}
