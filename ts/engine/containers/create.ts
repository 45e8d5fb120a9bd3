/** `create`: the request checked and filled in, its directories and volumes made, its rows written. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { ContainerDefinition } from '../../graph/containers.ts';
import type { EndpointRow } from '../../graph/networks.ts';
import type { ImageConfig } from '../../oci.ts';
import type { CreateBody } from '../api/schemas/containers.ts';
import { inheritableLabels } from '../images/config.ts';
import { formatPlatform, hostPlatform, parsePlatform, requirePlatform, runsOn } from '../images/platform.ts';
import { type Claim, exclusive, type JobKind, lock } from '../jobs/kinds.ts';
import { portRequests } from '../network/ports.ts';
import { capabilitiesOf } from '../runtime/spec.ts';
import { LOCAL } from '../volumes/drivers.ts';
import { ANONYMOUS_LABEL } from '../volumes/local.ts';
import { collectMountPoints } from '../volumes/mountPoints.ts';
import { filledFrom, type PluginVolumePlan } from '../volumes/pluginVolumes.ts';
import { requestedEndpoints } from './attachments.ts';
import type { MountPoint } from './config.ts';
import type { ContainerContext } from './context.ts';
import { fillConfig, fillHostConfig } from './defaults.ts';
import { takeLinks } from './links.ts';
import { checkName, generateName } from './names.ts';
import { type ContainerDetail, programOf, readRecord } from './record.ts';
import { forgetVolatile, layersOf } from './spawn.ts';
import { nowRfc3339 } from './time.ts';
import { refuseUnsupported } from './unsupported.ts';
import { validate } from './validate.ts';
import { makeWorkingDirectory } from './workingDirectory.ts';

export interface CreatePlan {
  definition: ContainerDefinition;
  mountPoints: MountPoint[];
  endpoints: EndpointRow[];
  links: { alias: string; targetId: string }[];
  /** Volumes whose directory this job makes, because no volume of that name is there. */
  newVolumes: string[];
  /** The same of plugins. */
  pluginVolumes: PluginVolumePlan[];
}

const conflict = (name: string, holder: string): string =>
  `Conflict. The container name "/${name}" is already in use by container "${holder}". You have to remove (or rename) that container to be able to reuse that name.`;

/** The claim on a container's name, while something is made under it. */
export const containerName = (name: string): Claim =>
  exclusive(`container-name:${name}`, conflict(name, 'being created'));

export function createKind(ctx: ContainerContext): JobKind<CreatePlan> {
  const { graph, paths, native } = ctx;
  return {
    kind: 'create',
    subject: ({ definition }) => definition.id,
    claims: ({ definition, newVolumes, pluginVolumes }) => [
      containerName(definition.name),
      lock(`container:${definition.id}`),
      ...[...newVolumes, ...pluginVolumes.map(({ name }) => name)].map((name) => lock(`volume:${name}`)),
    ],
    begin({ definition }) {
      const holder = graph.containers.byName(definition.name);
      if (holder) {
        throw new CaissonError('Conflict', conflict(definition.name, holder.id), { code: 'NAME_IN_USE' });
      }
    },
    commitPoint: 2,
    durable: true,
    steps: [
      {
        name: 'directories',
        medium: 'disk',
        async do({ definition, newVolumes, pluginVolumes }) {
          makeDirectories(ctx, definition.id, newVolumes);
          await makeWorkingDirectory(ctx, definition);
          for (const volume of pluginVolumes) await ctx.pluginVolumes.create(volume);
        },
        async undo({ definition, newVolumes, pluginVolumes = [] }) {
          // one with a name is found again by whoever asks for it next, and may have been there before
          for (const volume of pluginVolumes) if (volume.anonymous) await ctx.pluginVolumes.forget(volume);
          await native.removeTree(paths.containerDir(definition.id));
          await native.removeTree(join(paths.overlay, definition.id));
          for (const name of newVolumes) if (!graph.volumes.get(name)) await ctx.volumes.removeDirectory(name);
        },
      },
      {
        name: 'rows',
        medium: 'disk',
        async do(plan) {
          const { definition, mountPoints } = plan;
          if (mountPoints.some(({ copyUp }) => copyUp)) {
            const layers = layersOf(ctx, definition.chainId);
            const upper = join(paths.overlay, definition.id, 'upper');
            await ctx.pluginVolumes.mounts.during(filledFrom(mountPoints, layers), async (placed) => {
              for (const mount of placed) await ctx.volumes.copyUp(mount, layers, upper);
            });
          }
          return { rows: () => writeRows(ctx, plan) };
        },
        async undo({ mountPoints }) {
          for (const mount of mountPoints) await ctx.volumes.settleCopyUp(mount);
        },
      },
    ],
  };
}

/**
 * Also at each start, as they are empty until the first one and so need not be synced at create: whatever a power cut took
 * of them is made again.
 */
export function makeDirectories({ paths, volumes }: ContainerContext, id: string, names: readonly string[]): void {
  mkdirSync(paths.containerDir(id), { recursive: true, mode: 0o710 });
  const own = join(paths.overlay, id);
  const work = join(own, 'work');
  mkdirSync(work, { recursive: true, mode: 0o700 });
  // its mode is what the container sees as the mode of `/`; umask must not narrow it
  if (mkdirSync(join(own, 'upper'), { recursive: true }) !== undefined) chmodSync(join(own, 'upper'), 0o755);
  forgetVolatile({ work });
  for (const name of names) volumes.makeDirectory(name);
}

function writeRows(ctx: ContainerContext, { definition, mountPoints, endpoints, links }: CreatePlan): void {
  const { graph, events } = ctx;
  graph.containers.insert(definition);
  for (const { type, name, driver = LOCAL, destination, anonymous = false, made, image } of mountPoints) {
    if (image) graph.containers.mountImage(definition.id, image.id, image.chainId);
    if (type !== 'volume' || name === undefined) continue;
    const labels = { ...made?.labels, ...(anonymous ? { [ANONYMOUS_LABEL]: '' } : {}) };
    ctx.volumes.insert(name, { driver, anonymous, labels, options: made?.options ?? {} });
    graph.volumes.attach(definition.id, destination, name);
  }
  const row = graph.containers.resolve(definition.id);
  const record = readRecord(row);
  for (const link of links) graph.links.insert({ ownerId: definition.id, ...link });
  for (const endpoint of endpoints) graph.networks.insertEndpoint(endpoint);
  events.container(record, 'create');
}

/** Docker: a container whose processes or IPC objects are to be shared must exist already; 400, not 404. By its id, which stays. */
function sharedWith(ctx: ContainerContext, mode: string): string {
  if (!mode.startsWith('container:')) return mode;
  const name = mode.slice('container:'.length);
  try {
    return `container:${ctx.graph.containers.resolve(name).id}`;
  } catch {
    throw new CaissonError('InvalidParameter', `No such container: ${name}`);
  }
}

/** A container that is not there yet is looked for at the start. */
function sharedNetwork({ graph }: ContainerContext, mode: string): string {
  const name = mode.slice('container:'.length);
  const owner = mode.startsWith('container:')
    ? (graph.containers.byName(name) ?? graph.containers.get(name))
    : undefined;
  return owner === undefined ? mode : `container:${owner.id}`;
}

/** Combinations that Docker refuses because the container would not have a network of its own to apply them to. */
function checkSharedNamespaces({ HostConfig: hostConfig, Hostname, ExposedPorts }: CreateBody): void {
  const { NetworkMode: mode, UTSMode: uts } = hostConfig ?? {};
  const { PortBindings: ports, PublishAllPorts, Dns, ExtraHosts, Links } = hostConfig ?? {};
  const given = (setting: object | null | undefined): boolean => Object.keys(setting ?? {}).length > 0;
  const withoutLinks = (kind: string): string =>
    `${kind} can't be used with links. This would result in undefined behavior`;
  const isHost = mode === 'host';
  const isContainer = mode === 'container' || mode?.startsWith('container:') === true;
  if (isContainer && !mode.split(':')[1])
    throw new CaissonError('InvalidParameter', 'invalid network mode: invalid container format container:<name|id>');
  const conflicts: [boolean, string][] = [
    [isContainer && Boolean(Hostname), 'hostname and the network mode'],
    [isContainer && given(Links), withoutLinks('container type network')],
    [isContainer && given(Dns), 'dns and the network mode'],
    [isContainer && given(ExtraHosts), 'custom host-to-IP mapping and the network mode'],
    [isContainer && (given(ports) || PublishAllPorts === true), 'port publishing and the container type network mode'],
    [isContainer && given(ExposedPorts), 'port exposing and the container type network mode'],
    [uts === 'host' && Boolean(Hostname), 'hostname and the UTS mode'],
    [isHost && given(Links), withoutLinks('host type networking')],
  ];
  for (const [hit, what] of conflicts)
    if (hit) throw new CaissonError('InvalidParameter', `conflicting options: ${what}`);
}

/** Who shares a UTS or network namespace is known by the name of its owner. */
function inheritedHostname({ graph }: ContainerContext, body: CreateBody): string | undefined {
  const { NetworkMode: mode = '', UTSMode: uts = '' } = body.HostConfig ?? {};
  if (mode === 'host' || uts === 'host') return hostname();
  if (!mode?.startsWith('container:')) return undefined;
  const owner =
    graph.containers.byName(mode.slice('container:'.length)) ?? graph.containers.get(mode.slice('container:'.length));
  return owner && readRecord(owner).config.Hostname;
}

/** Where Docker has those of its own formats. */
function logPath(dir: string, id: string, driver: string): string {
  if (driver === 'none') return '';
  return join(dir, driver === 'json-file' ? `${id}-json.log` : 'local-logs/container.log');
}

export interface CreateOptions {
  /** '' for a generated one. */
  name: string;
  /** That the image must be of; '' for any. */
  platform?: string;
  /** What is mounted read-only below a read-only bind stays as it is, as for clients before 1.44. */
  shallowReadOnly?: boolean;
  /** The host's cgroup namespace is the default on cgroup v1, whatever the daemon's is, as for clients before 1.41. */
  sharesCgroupns?: boolean;
  /** For a step of a build: a later daemon, which cannot go on with that, removes it. */
  ofBuild?: boolean;
}

export interface Created {
  id: string;
  warnings: string[];
}

/** Returns a warning for an image that is not made for this machine, and that nobody has asked for by its platform. */
function checkPlatform(ctx: ContainerContext, name: string, config: ImageConfig, asked: string): string[] {
  const host = hostPlatform(ctx.host);
  const wanted = parsePlatform(asked, host);
  if (wanted !== undefined) requirePlatform(name, config, wanted);
  if (wanted !== undefined || runsOn(config, host)) return [];
  return [
    `The requested image's platform (${formatPlatform(config)}) does not match the detected host platform (${formatPlatform(host)}) and no specific platform was requested`,
  ];
}

const noCommand = (): CaissonError => new CaissonError('InvalidParameter', 'no command specified');

function plan(
  ctx: ContainerContext,
  body: CreateBody,
  { name, platform = '', shallowReadOnly = false, sharesCgroupns = false, ofBuild = false }: CreateOptions,
): { plan: CreatePlan; warnings: string[] } {
  const { graph } = ctx;
  if (Object.keys(body).every((key) => key === 'HostConfig' || key === 'NetworkingConfig')) {
    throw new CaissonError('InvalidParameter', 'config cannot be empty in order to create a container');
  }
  if (!body.Image && !body.Cmd?.length && !body.Entrypoint?.length) throw noCommand();
  parsePlatform(platform, hostPlatform(ctx.host));
  refuseUnsupported(body);
  checkSharedNamespaces(body);
  const chosen = name === '' ? generateName((one) => graph.containers.byName(one) !== undefined) : checkName(name);
  const image = ctx.images.find(body.Image ?? '');
  const id = randomBytes(32).toString('hex');
  const { labels, dropped } = inheritableLabels(image.config.config?.Labels);
  const config = fillConfig(body, { ...image.config.config, Labels: labels }, id, body.Image ?? '');
  if (!body.Hostname) config.Hostname = inheritedHostname(ctx, body) ?? config.Hostname;
  const hostConfig = fillHostConfig(
    { ...body.HostConfig, Runtime: body.HostConfig?.Runtime || body.Runtime || '' },
    {
      cgroupVersion: ctx.host.cgroupVersion,
      logDriver: ctx.config.logDriver,
      logOptions: ctx.config.logOpts,
      shmSizeBytes: ctx.config.defaultShmSizeBytes,
      init: ctx.config.init,
      runtime: ctx.config.defaultRuntime,
      ipcMode: ctx.config.defaultIpcMode,
      cgroupnsMode: sharesCgroupns && ctx.host.cgroupVersion === 1 ? 'host' : ctx.config.defaultCgroupnsMode,
    },
  );
  if (programOf(config).length === 0) throw noCommand();
  const warnings = checkPlatform(ctx, body.Image ?? '', image.config, platform);
  warnings.push(...validate(config, hostConfig, { ...ctx.host, ...ctx.specHost, runtimes: ctx.config.runtimes }));
  capabilitiesOf(hostConfig, ctx.specHost.bounded);
  portRequests(config, hostConfig);
  hostConfig.PidMode = sharedWith(ctx, hostConfig.PidMode);
  hostConfig.IpcMode = sharedWith(ctx, hostConfig.IpcMode);
  hostConfig.NetworkMode = sharedNetwork(ctx, hostConfig.NetworkMode);
  if (hostConfig.NetworkMode === 'host' && Object.keys(hostConfig.PortBindings).length > 0) {
    warnings.push('Published ports are discarded when using host network mode');
  }
  for (const label of dropped) warnings.push(`The image's label ${label} is reserved for the engine and was left out.`);
  const mountPoints = collectMountPoints(config, hostConfig, ctx.volumes).map((mount) =>
    shallowReadOnly && mount.type === 'bind' && !mount.writable ? { ...mount, readOnlyNonRecursive: true } : mount,
  );
  if (mountPoints.some(({ type }) => type === 'image')) warnings.push('Image mount is an experimental feature');
  for (const { name: volume, filesystem } of mountPoints) {
    if (filesystem?.type !== 'tmpfs') continue;
    warnings.push(`The volume ${volume} is a tmpfs, of which each container has its own.`);
  }
  const detail: ContainerDetail = {
    mountPoints,
    logPath: logPath(ctx.paths.containerDir(id), id, hostConfig.LogConfig.Type),
    ...(ofBuild && { ofBuild }),
  };
  const links = takeLinks(ctx, hostConfig);
  const definition: ContainerDefinition = {
    id,
    name: chosen,
    imageId: image.id,
    imageName: body.Image ?? '',
    chainId: image.chainId,
    created: nowRfc3339(),
    config: JSON.stringify(config),
    hostConfig: JSON.stringify(hostConfig),
    detail: JSON.stringify(detail),
  };
  const missing = new Map(
    mountPoints
      .filter(({ type, name: volume = '' }) => type === 'volume' && !graph.volumes.get(volume))
      .map((mount) => [mount.name ?? '', mount]),
  );
  const newVolumes = [...missing].filter(([, { driver }]) => driver === LOCAL).map(([volume]) => volume);
  const pluginVolumes = [...missing]
    .filter(([volume]) => !newVolumes.includes(volume))
    .map(([volume, { driver = '', made, anonymous = false }]) => ({
      name: volume,
      driver,
      options: made?.options ?? {},
      anonymous,
    }));
  const endpoints = requestedEndpoints(ctx, { id, name: chosen, config, hostConfig }, body);
  return { plan: { definition, mountPoints, endpoints, links, newVolumes, pluginVolumes }, warnings };
}

/** What a request names and may mean a plugin's. */
function namedVolumes({ HostConfig: config }: CreateBody): string[] {
  const { Binds, Mounts, VolumeDriver } = config ?? {};
  const binds = VolumeDriver ? [] : (Binds ?? []).map((bind) => bind.split(':')[0] ?? '');
  const mounts = (Mounts ?? []).filter(
    ({ Type, VolumeOptions }) => Type === 'volume' && !VolumeOptions?.DriverConfig?.Name,
  );
  return [...binds, ...mounts.map(({ Source }) => Source ?? '')].filter((name) => /^[a-zA-Z0-9][\w.-]+$/.test(name));
}

export async function create(
  ctx: ContainerContext,
  kind: JobKind<CreatePlan>,
  body: CreateBody,
  options: CreateOptions,
): Promise<Created> {
  for (const name of namedVolumes(body)) await ctx.pluginVolumes.adopt(name);
  const prepared = plan(ctx, body, options);
  await ctx.runner.run(kind, prepared.plan);
  return { id: prepared.plan.definition.id, warnings: prepared.warnings };
}
