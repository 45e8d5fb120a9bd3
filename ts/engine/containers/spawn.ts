/** A container's row as the options of `spawnShim`: the OCI spec, the rootfs, the log, the namespaces it shares. */
import { mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { Device, DeviceRule, LinuxSpec } from '../../oci.ts';
import { logAttributes } from '../logs/attributes.ts';
import { parseLogOptions } from '../logs/options.ts';
import type { LogConfig, OverlayRootfs, SpawnOptions } from '../native/containers.ts';
import type { RootHolder } from '../native/files.ts';
import { containerFiles } from '../network/containerFiles.ts';
import { apparmorProfile } from '../runtime/apparmor.ts';
import { answerDeviceRequests } from '../runtime/deviceRequests.ts';
import { hostDevices, mapDevice } from '../runtime/devices.ts';
import { knownReadOnly } from '../runtime/features.ts';
import { foreignRuntime, isOwnRuntime } from '../runtime/runtimes.ts';
import { parseSecurityOptions } from '../runtime/security.ts';
import { buildSpec, capabilitiesOf, type NamespaceChoice } from '../runtime/spec.ts';
import type { HostConfig, MountPoint } from './config.ts';
import type { ContainerContext } from './context.ts';
import { linkVariables } from './links.ts';
import { loggedContainer } from './logRoute.ts';
import { type ContainerRecord, isRunning, programOf, readRecord } from './record.ts';

export const cgroupOf = (ctx: ContainerContext, hostConfig: HostConfig, id: string): string => {
  const parent = hostConfig.CgroupParent || ctx.config.cgroupParent;
  // `..` ends at the root of cgroups
  return join('/', parent, id);
};

export const shimCgroup = (ctx: ContainerContext): string => join(ctx.config.cgroupParent, 'shims');

/** Directories of the layers of a chain ID, the top one first. */
export const layersOf = (
  { graph, paths }: Pick<ContainerContext, 'graph' | 'paths'>,
  chainId: string | null,
): string[] =>
  chainId === null ? [] : graph.layers.chain(chainId).map(({ cacheId }) => join(paths.overlay, cacheId, 'diff'));

/** `volatile`: nothing of it needs a sync. */
export function overlayAt(
  ctx: ContainerContext,
  { id, chainId }: { id: string; chainId: string | null },
  volatile: boolean,
): OverlayRootfs {
  const own = join(ctx.paths.overlay, id);
  const lower = [...layersOf(ctx, chainId), ctx.paths.initLayer];
  return { lower, upper: join(own, 'upper'), work: join(own, 'work'), volatile };
}

/** What vanishes with its end needs no sync; after a crash of the machine nobody mounts it again. */
export const overlayOf = (ctx: ContainerContext, { row, hostConfig }: ContainerRecord): OverlayRootfs =>
  overlayAt(ctx, row, hostConfig.AutoRemove);

/** overlayfs would not mount again what was `volatile`: nobody promised that its files are durable. */
export function forgetVolatile({ work }: Pick<OverlayRootfs, 'work'>): void {
  rmSync(join(work, 'work', 'incompat'), { recursive: true, force: true });
}

/**
 * Where the files of a running container are found: what another runtime has made of it may be no root at all (a program that
 * plays the kernel), while its shim has the root that it was made of.
 */
export function rootHolder({ paths }: ContainerContext, { row, hostConfig }: ContainerRecord): RootHolder {
  const { pid, pidStart: startTime, shimPid, shimStart } = row;
  if (isOwnRuntime(hostConfig.Runtime)) return { pid, startTime };
  return { pid: shimPid, startTime: shimStart, root: join(paths.stateDir(row.id), 'bundle', 'rootfs') };
}

function logConfig({ row, config, hostConfig, detail }: ContainerRecord): LogConfig {
  const { Type: driver, Config: options } = hostConfig.LogConfig;
  const parsed = parseLogOptions(driver, options);
  if (parsed === undefined) return { driver: 'none' };
  // its own directory, in which a follower may wait for the file
  mkdirSync(dirname(detail.logPath), { recursive: true, mode: 0o710 });
  const attrs = logAttributes(options, loggedContainer({ row, config }));
  return { ...parsed, driver: driver === 'json-file' ? 'json-file' : 'local', path: detail.logPath, attrs };
}

/** The init of another container whose namespace is shared. */
function initOf(ctx: ContainerContext, mode: string): { id: string; pid: number; hostConfig: HostConfig } {
  const name = mode.slice('container:'.length);
  const { row, hostConfig } = readRecord(ctx.graph.containers.resolve(name));
  const why = row.status === 'restarting' ? 'is restarting, wait until the container is running' : 'is not running';
  if (!isRunning(row))
    throw new CaissonError('Conflict', `container ${name} ${why}`, { code: 'CONTAINER_NOT_RUNNING' });
  return { id: row.id, pid: row.pid, hostConfig };
}

function namespaceChoice(ctx: ContainerContext, mode: string, file: 'pid' | 'ipc'): NamespaceChoice {
  if (mode === 'host') return 'host';
  if (!mode.startsWith('container:')) return 'private';
  try {
    const { pid, hostConfig } = initOf(ctx, mode);
    if (file === 'ipc') checkShareable(mode, hostConfig);
    return { path: `/proc/${pid}/ns/${file}` };
  } catch (error) {
    const message = `failed to join ${file.toUpperCase()} namespace: ${(error as Error).message}`;
    throw new CaissonError('System', message, { code: 'NAMESPACE_NOT_JOINED', cause: error });
  }
}

function checkShareable(mode: string, { IpcMode: donor }: HostConfig): void {
  if (donor === 'shareable' || donor === 'host' || donor.startsWith('container:')) return;
  const name = mode.slice('container:'.length);
  const hint = 'use IpcMode:shareable for the donor container';
  throw new CaissonError('InvalidParameter', `container ${name}: non-shareable IPC (hint: ${hint})`);
}

/** For `--network container:X`: an fd of that container's namespace. */
export async function sharedNetns(ctx: ContainerContext, id: string, mode: string): Promise<number | undefined> {
  if (!mode.startsWith('container:')) return undefined;
  const owner = ctx.graph.containers.resolve(mode.slice('container:'.length));
  if (owner.id === id) throw new CaissonError('System', 'cannot join own network namespace');
  if (isRunning(owner)) return ctx.native.containerNetns(owner.id);
  const message = `cannot join network namespace of a non running container: container ${owner.name} is ${owner.status}`;
  throw new CaissonError('Conflict', message, { code: 'CONTAINER_NOT_RUNNING' });
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

/** The filter as a compiled file for our own init, as the specification has it for another runtime. */
async function seccompOf(
  ctx: ContainerContext,
  { hostConfig }: ContainerRecord,
  own: string | undefined,
  isForeign: boolean,
): Promise<Pick<LinuxSpec, 'seccomp' | 'seccompFile'>> {
  // a profile that the user gives filters a privileged container too
  if (!ctx.host.seccomp || (hostConfig.Privileged && own === undefined)) return {};
  const profile = own ?? ctx.config.seccompProfile;
  if (profile === 'unconfined') return {};
  const text = profile === 'builtin' ? undefined : (own ?? readProfile(profile));
  const capabilities = capabilitiesOf(hostConfig, ctx.specHost.bounded);
  if (isForeign) {
    const section = ctx.seccomp.section(capabilities, text);
    return section === undefined ? {} : { seccomp: section };
  }
  const file = await ctx.seccomp.file(capabilities, text);
  return file === undefined ? {} : { seccompFile: file };
}

/** The daemon's own default. */
function readProfile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new CaissonError('System', `opening seccomp profile (${path}) failed: ${(error as Error).message}`);
  }
}

/** Everything but the file descriptors of the network. */
export async function spawnOptions(
  ctx: ContainerContext,
  record: ContainerRecord,
): Promise<Omit<SpawnOptions, 'ports'>> {
  const { row, config, hostConfig, detail } = record;
  const mountPoints = ctx.pluginVolumes.mounts.placed(row.id, detail.mountPoints);
  makeSources(mountPoints);
  const security = parseSecurityOptions(hostConfig.SecurityOpt, ctx.host, ctx.config);
  const runtime = foreignRuntime(hostConfig.Runtime, ctx.config.runtimes);
  const [devices, seccomp] = await Promise.all([
    devicesOf(hostConfig),
    seccompOf(ctx, record, security.seccomp, runtime !== undefined),
  ]);
  const network: NamespaceChoice = hostConfig.NetworkMode === 'host' ? 'host' : 'private';
  const sharesNetwork = hostConfig.NetworkMode.startsWith('container:');
  // what the user sets himself goes over what a link gives
  const env = [...linkVariables(ctx, record, 'refused'), ...config.Env, ...ctx.live.of(row.id).secretEnv];
  const spec = buildSpec(
    {
      config: { ...config, Env: env },
      hostConfig,
      args: programOf(config),
      mountPoints,
      files: containerFiles(filesDir(ctx, record)),
      security,
      seccomp,
      apparmorProfile: apparmorProfile(security, hostConfig, ctx.host),
      namespaces: {
        network: sharesNetwork ? { path: '' } : network,
        pid: namespaceChoice(ctx, hostConfig.PidMode, 'pid'),
        ipc: namespaceChoice(ctx, hostConfig.IpcMode, 'ipc'),
      },
      devices,
      cgroupsPath: cgroupOf(ctx, hostConfig, row.id),
      ipcOwner: hostConfig.IpcMode.startsWith('container:') ? initOf(ctx, hostConfig.IpcMode).pid : undefined,
      layersOf: (chainId) => layersOf(ctx, chainId),
    },
    ctx.specHost,
  );
  if (runtime !== undefined) spec.mounts = await knownReadOnly(spec.mounts, runtime, hostConfig);
  await answerDeviceRequests(spec, hostConfig.DeviceRequests ?? [], ctx.config.cdiSpecDirs);
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
    ...(runtime === undefined ? {} : { runtime }),
  };
}

/** Who shares another's network shares its names too: the same three files, of the one at the end of the chain. */
export function filesDir(ctx: ContainerContext, record: ContainerRecord): string {
  const passed = new Set<string>();
  let { row, hostConfig } = record;
  // a ring has no owner, and does not start either
  while (hostConfig.NetworkMode.startsWith('container:') && !passed.has(row.id)) {
    passed.add(row.id);
    const next = ctx.graph.containers.resolve(hostConfig.NetworkMode.slice('container:'.length));
    ({ row, hostConfig } = readRecord(next));
  }
  return ctx.paths.containerDir(row.id);
}
