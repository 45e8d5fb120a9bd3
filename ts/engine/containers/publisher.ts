/**
 * Published ports of containers that run: they follow the endpoints that lead out, and what is asked for. What stays as it
 * is is not touched, so that its connections go on.
 */
import { CaissonError } from '../../errdefs.ts';
import type { PortRow } from '../../graph/networks.ts';
import { portRequests, publishedPorts, type ReservedPorts, rebindPorts, reservePorts } from '../network/ports.ts';
import type { HostConfig } from './config.ts';
import type { ContainerContext } from './context.ts';
import { readRecord } from './record.ts';

const same = (a: PortRow, b: PortRow): boolean =>
  samePlace(a, b) && a.containerIp === b.containerIp && a.direct === b.direct;

const samePlace = (a: PortRow, b: PortRow): boolean =>
  a.proto === b.proto && a.hostIp === b.hostIp && a.hostPort === b.hostPort && a.containerPort === b.containerPort;

export class Publisher {
  readonly #ctx: ContainerContext;

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
  }

  /** Brings the ports of a container that runs to its endpoints and these settings; a port keeps its number on the host. */
  async publish(id: string, settings?: Pick<HostConfig, 'PortBindings'>): Promise<void> {
    const { graph, devices, native, log } = this.#ctx;
    const before = graph.networks.portsOf(id);
    const { sockets, rows } = await this.#reserve(id, before, settings);
    const gone = before.filter((row) => !rows.some((now) => same(row, now)));
    const added = rows.filter((row) => !before.some((past) => same(row, past)));
    try {
      await devices.firewall.removePorts(publishedPorts(gone));
      await devices.firewall.addPorts(publishedPorts(added));
      for (const { containerId: _, direct: __, ...row } of gone) {
        const moved = added.find((now) => samePlace(now, { ...row, containerId: id, direct: false }));
        if (row.hostPort !== 0) await native.changePort(id, { ...row, containerIp: moved?.containerIp ?? '', fd: -1 });
      }
    } catch (error) {
      for (const { fd } of sockets) native.closeFd(fd);
      // the rows say what was: so must the table, or nothing would ever mend it
      await devices.firewall
        .removePorts(publishedPorts(added))
        .then(() => devices.firewall.addPorts(publishedPorts(gone)))
        .catch((err: unknown) => log.error({ err, container: id }, 'published ports could not be put back'));
      throw error;
    }
    for (const socket of sockets) await native.changePort(id, socket);
    graph.db.transaction(() => {
      graph.networks.deletePorts(id);
      graph.networks.insertPorts(id, rows);
    });
  }

  /** As `publish`, where nothing may fail any more: what cannot be had is closed. */
  async follow(id: string): Promise<void> {
    try {
      await this.publish(id);
    } catch (error) {
      this.#ctx.log.warn({ err: error, container: id }, 'published ports of a container could not follow its networks');
    }
  }

  /** After a daemon that was killed in the middle of a change: the shim holds what the rows say. */
  async restore(id: string): Promise<void> {
    const { graph, native, log } = this.#ctx;
    const rows = graph.networks.portsOf(id).filter(({ hostPort }) => hostPort !== 0);
    try {
      const missing = await native.keepPorts(
        id,
        rows.map((row) => ({ ...row, fd: -1 })),
      );
      const lost = missing.flatMap((place) => rows[place] ?? []);
      for (const socket of await rebindPorts(native, lost)) await native.changePort(id, socket);
    } catch (error) {
      log.warn(
        { err: error, container: id },
        'published ports of a container could not be brought to what is recorded',
      );
    }
  }

  async #reserve(
    id: string,
    held: PortRow[],
    settings?: Pick<HostConfig, 'PortBindings'>,
  ): Promise<Pick<ReservedPorts, 'sockets' | 'rows'>> {
    const { graph, endpoints, native } = this.#ctx;
    const target = endpoints.portTarget(id, graph.networks.endpointsOf(id));
    if (!target) return { sockets: [], rows: [] };
    const { config, hostConfig } = readRecord(graph.containers.resolve(id));
    const requests = portRequests(config, { ...hostConfig, ...settings });
    try {
      return await reservePorts(native, requests, target, held);
    } catch (error) {
      if (!(error instanceof CaissonError) || error.kind !== 'Conflict') throw error;
      throw new CaissonError('System', error.message, { code: 'PORT_IN_USE', cause: error });
    }
  }
}
