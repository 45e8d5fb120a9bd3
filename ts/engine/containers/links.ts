/**
 * `--link` on the default bridge, whose containers do not know each other by name otherwise: variables and a line of
 * /etc/hosts, as they are at the start. On networks of users the embedded DNS server answers for links.
 */
import { CaissonError } from '../../errdefs.ts';
import type { HostConfig } from './config.ts';
import type { ContainerContext } from './context.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';

interface Link {
  target: ContainerRecord;
  alias: string;
  address: string | undefined;
}

/** `NAME`, `NAME:ALIAS`, and `/NAME:/OWNER/ALIAS` as inspect of dockerd shows it. */
function parseLink(text: string): { name: string; alias: string } {
  const [name = '', alias = name, ...more] = text.split(':');
  const last = alias.slice(alias.lastIndexOf('/') + 1);
  if (name === '' || last === '' || more.length > 0) {
    throw new CaissonError('InvalidParameter', `bad format for links: ${text}`);
  }
  return { name: name.replace(/^\//, ''), alias: last };
}

const LINK_TO_HOST =
  "conflicting options: host type networking can't be used with links. This would result in undefined behavior";

const onDefaultBridge = (mode: string): boolean => ['', 'default', 'bridge'].includes(mode);

/**
 * At create: who is linked to must be there. On networks of users the links are the endpoints' own, and stay where they
 * are.
 */
export function takeLinks(ctx: ContainerContext, config: HostConfig): { alias: string; targetId: string }[] {
  if (!onDefaultBridge(config.NetworkMode)) return [];
  const links = (config.Links ?? []).map(parseLink).map(({ name, alias }) => {
    const target = owner(ctx, name);
    if (target.hostConfig.NetworkMode === 'host') throw new CaissonError('InvalidParameter', LINK_TO_HOST);
    return { alias, targetId: target.row.id };
  });
  config.Links = null;
  return [...new Map(links.map((link) => [link.alias, link])).values()];
}

/** The container that has the network namespace of the one of that name. */
function owner(ctx: ContainerContext, name: string): ContainerRecord {
  try {
    const record = readRecord(ctx.graph.containers.resolve(name));
    const { NetworkMode: mode } = record.hostConfig;
    return mode.startsWith('container:') ? owner(ctx, mode.slice('container:'.length)) : record;
  } catch (error) {
    const message = `could not get container for ${name}: ${(error as Error).message}`;
    throw new CaissonError('InvalidParameter', message, { code: 'CONTAINER_NOT_FOUND', cause: error });
  }
}

/** `HostConfig.Links` of inspect: `/target:/owner/alias`. Those on networks of users are their endpoints'. */
export function describeLinks({ graph }: ContainerContext, { row }: ContainerRecord): string[] | null {
  const links = graph.links.of(row.id);
  if (links.length === 0) return null;
  return links.map(({ alias, targetId }) => `/${graph.containers.resolve(targetId).name}:/${row.name}/${alias}`);
}

/** `rm --link owner/alias`: the container stays. */
export function removeLink({ graph }: ContainerContext, name: string): void {
  graph.containers.resolve(name);
  const [owner = '', alias] = name.replace(/^\//, '').split('/');
  if (alias === undefined) {
    throw new CaissonError('System', 'Conflict, cannot remove the default link name of the container');
  }
  graph.links.delete(graph.containers.resolve(owner).id, alias);
}

/** With the address of each; none for one that does not run. */
function linksOf(ctx: ContainerContext, { row }: ContainerRecord): Link[] {
  const bridge = ctx.graph.networks.byName('bridge')?.id;
  return ctx.graph.links.of(row.id).map(({ alias, targetId }) => {
    const target = readRecord(ctx.graph.containers.resolve(targetId));
    const endpoint = ctx.graph.networks.endpointsOf(targetId).find(({ networkId }) => networkId === bridge);
    return { target, alias, address: isRunning(target.row) ? (endpoint?.address ?? undefined) : undefined };
  });
}

/**
 * `ALIAS_PORT_80_TCP_ADDR=…` and its kin, as Docker documents them. At the start who is linked to must run; what is
 * executed later goes without those that have ended.
 */
export function linkVariables(ctx: ContainerContext, record: ContainerRecord, ended: 'refused' | 'left out'): string[] {
  return linksOf(ctx, record).flatMap(({ target, alias, address }) => {
    if (address === undefined) {
      if (ended === 'left out') return [];
      if (isRunning(target.row))
        throw new CaissonError('System', `container ${target.row.id} not attached to default bridge network`);
      const what = `/${target.row.name} AS /${record.row.name}/${alias}`;
      throw new CaissonError('Conflict', `Cannot link to a non running container: ${what}`);
    }
    const prefix = alias.replaceAll('-', '_').toUpperCase();
    const ports = Object.keys(target.config.ExposedPorts ?? {})
      .map((key) => key.split('/') as [string, string])
      .sort(([a], [b]) => Number(a) - Number(b));
    const [first] = ports;
    const url = ([port, proto]: [string, string]): string => `${proto}://${address}:${port}`;
    return [
      ...(first ? [`${prefix}_PORT=${url(first)}`] : []),
      ...ports.flatMap(([port, proto]) => {
        const one = `${prefix}_PORT_${port}_${proto.toUpperCase()}`;
        return [
          `${one}=${url([port, proto])}`,
          `${one}_ADDR=${address}`,
          `${one}_PORT=${port}`,
          `${one}_PROTO=${proto}`,
        ];
      }),
      `${prefix}_NAME=/${record.row.name}/${alias}`,
      ...target.config.Env.filter((entry) => !/^(HOME|PATH)=/.test(entry)).map((entry) => `${prefix}_ENV_${entry}`),
    ];
  });
}

/** Lines of /etc/hosts; without an address for one that does not run. */
export function linkHosts(
  ctx: ContainerContext,
  record: ContainerRecord,
): [address: string | undefined, names: string][] {
  return linksOf(ctx, record).map(({ target, alias, address }) => {
    const names = new Set([alias, target.config.Hostname, target.row.name]);
    return [address, [...names].join(' ')];
  });
}
