/**
 * The DNS servers of all containers on networks of users. Their sockets live in the containers' namespaces and are held by
 * the shims; the daemon answers on duplicates, so that questions wait while it is restarted.
 */
import type { Graph } from '../../../graph/graph.ts';
import type { Logger } from '../../../log.ts';
import type { EnginePaths } from '../../engine.ts';
import type { PortSocket } from '../../native/containers.ts';
import type { Native } from '../../native/index.ts';
import { EMBEDDED_SERVER } from '../containerFiles.ts';
import { knowsNames } from '../endpoints.ts';
import { AnswerCache } from './cache.ts';
import { NameIndex } from './names.ts';
import { Resolver } from './resolver.ts';

interface ResolversOptions {
  graph: Graph;
  native: Native;
  log: Logger;
  paths: EnginePaths;
  /** Servers that a container's questions are passed on to. */
  upstreams: (containerId: string) => string[];
}

interface Sockets {
  udpFd: number;
  tcpFd: number;
}

export class Resolvers {
  readonly #options: ResolversOptions;
  readonly #names: NameIndex;
  readonly #cache = new AnswerCache();
  readonly #resolvers = new Map<string, Resolver>();

  constructor(options: ResolversOptions) {
    this.#options = options;
    this.#names = new NameIndex(options.graph);
  }

  /** Before a container's shim is started: gives what it is to hold. */
  async open(containerId: string, netnsFd: number): Promise<PortSocket[]> {
    const { native } = this.#options;
    const sockets = await native.createResolverSockets(netnsFd);
    const held = (['udp', 'tcp'] as const).map((kind) => ({
      fd: native.dupFd(kind === 'udp' ? sockets.udpFd : sockets.tcpFd),
      proto: `resolver-${kind}` as const,
      hostIp: '',
      hostPort: 0,
      containerIp: EMBEDDED_SERVER,
      containerPort: 53,
    }));
    this.#serve(containerId, sockets);
    return held;
  }

  /** For a container that runs and joins its first network of a user's. */
  async ensure(containerId: string, netnsFd: number): Promise<void> {
    if (this.#resolvers.has(containerId)) return;
    this.#serve(containerId, await this.#options.native.createResolverSockets(netnsFd));
  }

  close(containerId: string): void {
    this.#resolvers.get(containerId)?.close();
    this.#resolvers.delete(containerId);
  }

  /** After a restart of the daemon. */
  async adopt(running: readonly string[]): Promise<void> {
    const { graph, log } = this.#options;
    const served = running.filter((id) =>
      graph.networks.endpointsOf(id).some(({ networkName }) => knowsNames(networkName)),
    );
    await Promise.all(
      served.map((id) =>
        this.#adopt(id).catch((error: unknown) => {
          log.warn({ err: error, container: id }, 'the DNS server of a container could not be taken over');
        }),
      ),
    );
  }

  async #adopt(id: string): Promise<void> {
    const { native, paths } = this.#options;
    try {
      const held = (proto: PortSocket['proto']): Promise<number> => native.heldSocket(id, paths.stateDir(id), proto);
      const udpFd = await held('resolver-udp');
      this.#serve(id, { udpFd, tcpFd: await held('resolver-tcp') });
    } catch {
      // joined while it ran, or a kernel that lends no descriptors (ptrace_scope 3): new ones take their place
      const netnsFd = await native.containerNetns(id);
      await this.ensure(id, netnsFd).finally(() => native.closeFd(netnsFd));
    }
  }

  #serve(containerId: string, sockets: Sockets): void {
    this.close(containerId);
    const { log, upstreams } = this.#options;
    const options = {
      containerId,
      names: this.#names,
      upstreams: () => upstreams(containerId),
      cache: this.#cache,
      log,
    };
    this.#resolvers.set(containerId, new Resolver(options, sockets));
  }
}
