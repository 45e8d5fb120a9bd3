/** `GET /containers/{id}/json`, in Docker's shape of API 1.51 and older. */
import { join } from 'node:path';
import { type ContainerRow, NEVER } from '../../graph/containers.ts';
import type { EndpointRow, PortRow } from '../../graph/networks.ts';
import { leadsOut, settingsOf } from '../network/endpoints.ts';
import { NO_SETTINGS } from '../network/settings.ts';
import { apparmorProfile } from '../runtime/apparmor.ts';
import { parseSecurityOptions } from '../runtime/security.ts';
import type { MountPoint } from './config.ts';
import type { ContainerContext } from './context.ts';
import type { HealthState } from './health.ts';
import { describeLinks } from './links.ts';
import { type ContainerRecord, isRunning, programOf, readRecord } from './record.ts';
import { overlayOf } from './spawn.ts';

export function describeMount(mount: MountPoint): object {
  const { type, name, driver, source, destination, mode, writable, propagation } = mount;
  return {
    Type: type,
    ...(name === undefined ? {} : { Name: name }),
    Source: source,
    Destination: destination,
    ...(type === 'volume' ? { Driver: driver } : {}),
    Mode: mode,
    RW: writable,
    Propagation: propagation,
  };
}

/** `NetworkSettings.Ports`: exposed ports are there with null, published ones with their bindings. */
function describePorts({ config }: ContainerRecord, ports: PortRow[]): Record<string, object[] | null> {
  const described: Record<string, object[] | null> = {};
  for (const port of Object.keys(config.ExposedPorts ?? {})) described[port] = null;
  for (const { proto, hostIp, hostPort, containerPort } of ports) {
    const key = `${containerPort}/${proto}`;
    described[key] = [...(described[key] ?? []), { HostIp: hostIp, HostPort: hostPort === 0 ? '' : String(hostPort) }];
  }
  return described;
}

const listOrNull = <T>(list: T[]): T[] | null => (list.length > 0 ? list : null);

/** One entry of `NetworkSettings.Networks`. */
function describeEndpoint(endpoint: EndpointRow | undefined): object {
  const connected = endpoint?.address != null || endpoint?.address6 != null;
  const settings = endpoint ? settingsOf(endpoint) : NO_SETTINGS;
  const { ip, ip6, mac, aliases, links, driverOpts, gwPriority, linkLocalIps, empty } = settings;
  const orNull = <T extends object>(name: string, value: T): T | null =>
    Object.keys(value).length > 0 || empty.includes(name) ? value : null;
  const ipam = {
    ...(ip ? { IPv4Address: ip } : {}),
    ...(ip6 ? { IPv6Address: ip6 } : {}),
    ...(linkLocalIps.length > 0 ? { LinkLocalIPs: linkLocalIps } : {}),
  };
  return {
    IPAMConfig: orNull('IPAMConfig', ipam),
    Links: orNull('Links', links),
    Aliases: orNull('Aliases', aliases),
    MacAddress: endpoint?.mac ?? mac,
    DriverOpts: orNull('DriverOpts', driverOpts),
    GwPriority: gwPriority,
    NetworkID: endpoint?.networkId ?? '',
    EndpointID: connected ? endpoint.id : '',
    Gateway: endpoint?.gateway ?? '',
    IPAddress: endpoint?.address ?? '',
    IPPrefixLen: endpoint?.prefixLength ?? 0,
    IPv6Gateway: endpoint?.gateway6 ?? '',
    GlobalIPv6Address: endpoint?.address6 ?? '',
    GlobalIPv6PrefixLen: endpoint?.prefixLength6 ?? 0,
    DNSNames: endpoint ? listOrNull(JSON.parse(endpoint.aliases) as string[]) : null,
  };
}

/** By network name; empty for a container that shares another's. `endpoints`: its own. */
export function describeNetworks(
  ctx: ContainerContext,
  record: ContainerRecord,
  endpoints: readonly EndpointRow[],
): Record<string, object> {
  const mode = record.hostConfig.NetworkMode;
  const { networks } = ctx.graph;
  if (mode.startsWith('container:')) return {};
  // as Docker: the network's id and the names on it are known from the first start on
  const joined = record.row.startedAt !== NEVER;
  const running = isRunning(record.row);
  if (mode === 'host') {
    // there is no row: the container's id is as good as any
    const id = { NetworkID: joined ? (networks.byName(mode)?.id ?? '') : '', EndpointID: running ? record.row.id : '' };
    return { [mode]: { ...describeEndpoint(undefined), ...id } };
  }
  return Object.fromEntries(
    endpoints.map((one) => {
      const described = describeEndpoint(one);
      const hidden = {
        ...(joined ? {} : { NetworkID: '', DNSNames: null }),
        // what leads nowhere from here
        ...(networks.get(one.networkId)?.internal ? { Gateway: '', IPv6Gateway: '' } : {}),
        ...(one.networkName === 'none' && running ? { EndpointID: one.id } : {}),
      };
      return [one.networkName, { ...described, ...hidden }];
    }),
  );
}

function networkSettings(ctx: ContainerContext, record: ContainerRecord, endpoints: readonly EndpointRow[]): object {
  // the fields beside `Networks` are those of the default bridge alone
  const endpoint = endpoints.find(({ networkName }) => networkName === 'bridge');
  const running = isRunning(record.row);
  const sandbox = running && !record.hostConfig.NetworkMode.startsWith('container:');
  return {
    Bridge: '',
    SandboxID: sandbox ? record.row.id : '',
    // the namespace has no name on the host: it is held by the shim and seen through its processes
    SandboxKey: sandbox ? `/proc/${record.row.pid}/ns/net` : '',
    Ports: running && endpoints.some(leadsOut) ? describePorts(record, ctx.graph.networks.portsOf(record.row.id)) : {},
    HairpinMode: false,
    LinkLocalIPv6Address: '',
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: endpoint?.address != null ? endpoint.id : '',
    Gateway: endpoint?.gateway ?? '',
    GlobalIPv6Address: endpoint?.address6 ?? '',
    GlobalIPv6PrefixLen: endpoint?.prefixLength6 ?? 0,
    IPAddress: endpoint?.address ?? '',
    IPPrefixLen: endpoint?.prefixLength ?? 0,
    IPv6Gateway: endpoint?.gateway6 ?? '',
    MacAddress: endpoint ? (endpoint.mac ?? settingsOf(endpoint).mac) : '',
    Networks: describeNetworks(ctx, record, endpoints),
  };
}

/** As this daemon knows it, or as the row kept it. */
export function healthOf(ctx: ContainerContext, row: Pick<ContainerRow, 'id' | 'health'>): HealthState | undefined {
  return ctx.live.of(row.id).health ?? (row.health === null ? undefined : (JSON.parse(row.health) as HealthState));
}

function describeState(ctx: ContainerContext, { row }: ContainerRecord): object {
  const health = healthOf(ctx, row);
  return {
    ...(health ? { Health: health } : {}),
    Status: row.status,
    // Docker: a container between two runs of its policy counts as running
    Running: isRunning(row) || row.status === 'restarting',
    Paused: row.status === 'paused',
    Restarting: row.status === 'restarting',
    OOMKilled: row.oomKilled,
    Dead: row.status === 'dead',
    Pid: row.pid,
    ExitCode: row.exitCode,
    Error: row.error,
    StartedAt: row.startedAt,
    FinishedAt: row.finishedAt,
  };
}

function graphDriver(ctx: ContainerContext, record: ContainerRecord): object {
  const { lower, upper, work } = overlayOf(ctx, record);
  return {
    Data: { ID: record.row.id, LowerDir: lower.join(':'), MergedDir: '', UpperDir: upper, WorkDir: work },
    Name: 'overlay2',
  };
}

export async function inspect(ctx: ContainerContext, idOrName: string, withSize: boolean): Promise<object> {
  const { record, described } = ctx.graph.db.read(() => {
    const found = readRecord(ctx.graph.containers.resolve(idOrName));
    return { record: found, described: describe(ctx, found) };
  });
  return withSize ? { ...described, ...(await sizes(ctx, record)) } : described;
}

function describe(ctx: ContainerContext, record: ContainerRecord): object {
  const { row, config, hostConfig, detail } = record;
  const [path = '', ...args] = programOf(config);
  const dir = ctx.paths.containerDir(row.id);
  const endpoints = ctx.graph.networks.endpointsOf(row.id);
  const own = endpoints.find(({ networkName, networkId }) => [networkName, networkId].includes(hostConfig.NetworkMode));
  const mac = own ? settingsOf(own).mac : '';
  const execs = ctx.graph.execs.of(row.id).filter(({ status }) => status !== 'exited');
  return {
    Id: row.id,
    Created: row.created,
    Path: path,
    Args: args,
    State: describeState(ctx, record),
    Image: row.imageId,
    ResolvConfPath: join(dir, 'resolv.conf'),
    HostnamePath: join(dir, 'hostname'),
    HostsPath: join(dir, 'hosts'),
    // a file that other programs read: Docker names only this driver's
    LogPath: hostConfig.LogConfig.Type === 'json-file' ? detail.logPath : '',
    Name: `/${row.name}`,
    RestartCount: row.restartCount,
    Driver: 'overlay2',
    Platform: 'linux',
    MountLabel: '',
    ProcessLabel: '',
    // as Docker: chosen at the first start
    AppArmorProfile:
      row.startedAt === NEVER
        ? ''
        : apparmorProfile(parseSecurityOptions(hostConfig.SecurityOpt, ctx.host), hostConfig, ctx.host),
    ExecIDs: execs.length > 0 ? execs.map(({ id }) => id) : null,
    HostConfig: { ...hostConfig, Links: describeLinks(ctx, record) },
    GraphDriver: graphDriver(ctx, record),
    // volumes and binds; Docker does not list what it makes by --tmpfs
    Mounts: ctx.pluginVolumes.mounts
      .placed(row.id, detail.mountPoints)
      .filter(({ type, destination }) => type !== 'tmpfs' || !Object.hasOwn(hostConfig.Tmpfs ?? {}, destination))
      .map(describeMount),
    Config: { ...config, ...(mac === '' ? {} : { MacAddress: mac }) },
    NetworkSettings: networkSettings(ctx, record, endpoints),
  };
}

/** Bytes of the container's own layer, and with those of its image. */
export async function sizes(
  ctx: ContainerContext,
  record: ContainerRecord,
): Promise<{ SizeRw: number; SizeRootFs: number }> {
  const own = await ctx.native.treeSize(overlayOf(ctx, record).upper);
  const image = record.row.chainId === null ? [] : ctx.graph.layers.chain(record.row.chainId);
  return { SizeRw: own, SizeRootFs: own + image.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) };
}
