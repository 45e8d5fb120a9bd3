/** All that can be done with containers: one object that the routes and the daemon use. */
import { asCaissonError, CaissonError } from '../../errdefs.ts';
import type { ContainerRow } from '../../graph/containers.ts';
import type { HijackedConnection } from '../api/hijack.ts';
import { labelsAllow, madeUntil } from '../api/pruneFilters.ts';
import type { Filters } from '../api/query.ts';
import type { CreateBody } from '../api/schemas/containers.ts';
import type { Engine } from '../engine.ts';
import { type JobKind, type KindRegistry, lock } from '../jobs/kinds.ts';
import type { JobRunner } from '../jobs/runner.ts';
import { LogForwarder } from '../logs/remote/forwarder.ts';
import type { ClientStream, LogRequest, RuntimeEvent } from '../native/containers.ts';
import { upstreamServers } from '../network/containerFiles.ts';
import { NetworkDevices } from '../network/devices.ts';
import { Resolvers } from '../network/dns/resolvers.ts';
import { Endpoints } from '../network/endpoints.ts';
import type { EndpointBody } from '../network/settings.ts';
import { SeccompCache } from '../runtime/seccomp.ts';
import type { VolumeDrivers } from '../volumes/drivers.ts';
import { LocalVolumes } from '../volumes/local.ts';
import { PluginMounts } from '../volumes/pluginMounts.ts';
import { PluginVolumes } from '../volumes/pluginVolumes.ts';
import { Archives } from './archive.ts';
import { Attachments } from './attachments.ts';
import type { ContainerContext, ImageLookup } from './context.ts';
import { type Created, type CreateOptions, type CreatePlan, containerName, create, createKind } from './create.ts';
import { ContainerEvents } from './events.ts';
import { Execs } from './exec.ts';
import { Freezer } from './freezer.ts';
import { HealthMonitor } from './health.ts';
import { inspect } from './inspect.ts';
import { Killer } from './kill.ts';
import { removeLink } from './links.ts';
import { ContainerList, type ListOptions } from './list.ts';
import { LiveTable, type WaitCondition, type WaitResult } from './live.ts';
import { Monitor } from './monitor.ts';
import { namingOptions } from './nameFiles.ts';
import { checkName } from './names.ts';
import { PendingStreams } from './pendingStreams.ts';
import { Publisher } from './publisher.ts';
import { Reconciler } from './reconcile.ts';
import { type ContainerRecord, isRunning, readRecord, settledRow } from './record.ts';
import { Remover } from './remove.ts';
import { readSpecHost } from './specHost.ts';
import { Starter } from './start.ts';
import { StatsReader } from './stats.ts';
import { type StopOptions, Stopper } from './stop.ts';
import { openStream, type StreamChoice } from './streams.ts';
import { top } from './top.ts';
import { Updater } from './update.ts';

export interface ContainersOptions {
  engine: Pick<Engine, 'graph' | 'native' | 'config' | 'log' | 'paths' | 'host'>;
  runner: JobRunner;
  registry: KindRegistry;
  bootId: string;
  images: ImageLookup;
  volumeDrivers: VolumeDrivers;
}

export class Containers {
  readonly devices: NetworkDevices;
  readonly volumes: LocalVolumes;
  readonly pluginVolumes: PluginVolumes;
  readonly archives: Archives;
  readonly updater: Updater;
  readonly execs: Execs;
  /** Probes since the start of this daemon. */
  readonly healthChecks: HealthMonitor['checks'];
  readonly #ctx: ContainerContext;
  readonly #list: ContainerList;
  readonly #create: JobKind<CreatePlan>;
  readonly #attachments: Attachments;
  readonly #starter: Starter;
  readonly #freezer: Freezer;
  readonly #killer: Killer;
  readonly #stopper: Stopper;
  readonly #remover: Remover;
  readonly #monitor: Monitor;
  readonly #reconciler: Reconciler;
  #nextLogHandle = 1;

  constructor({ engine, runner, registry, bootId, images, volumeDrivers }: ContainersOptions) {
    const { graph, native, config, log, paths, host } = engine;
    this.devices = new NetworkDevices(graph, native, config, log);
    this.volumes = new LocalVolumes(graph, native, paths, images);
    this.pluginVolumes = new PluginVolumes(graph, volumeDrivers, new PluginMounts(graph, volumeDrivers, log), log);
    const live = new LiveTable();
    const ctx: ContainerContext = {
      config,
      paths,
      log,
      native,
      host,
      specHost: readSpecHost(host),
      graph,
      runner,
      bootId,
      images,
      seccomp: new SeccompCache(native, paths.execRoot, host),
      devices: this.devices,
      endpoints: new Endpoints(graph, native, config, this.devices),
      resolvers: new Resolvers({ graph, native, log, paths, upstreams: (id) => this.#upstreams(id) }),
      volumes: this.volumes,
      pluginVolumes: this.pluginVolumes,
      events: new ContainerEvents(graph.events),
      live,
      pending: new PendingStreams(native, live),
      forwarder: new LogForwarder(log),
    };
    this.#ctx = ctx;
    this.#list = new ContainerList(ctx);
    this.archives = new Archives(ctx);
    const publisher = new Publisher(ctx);
    this.updater = new Updater(ctx, publisher);
    registry.register(this.updater.kind);
    this.execs = new Execs(ctx);
    this.#create = registry.register(createKind(ctx));
    this.#starter = new Starter(ctx, {
      started: (id) => this.#monitor.started(id),
      failed: (id) => this.#monitor.startFailed(id),
    });
    this.#freezer = new Freezer(ctx);
    this.#killer = new Killer(ctx, this.#freezer, (id) => this.#monitor.endShim(id));
    this.#stopper = new Stopper(ctx, this.#freezer, this.#killer, (id) => this.#monitor.startAgain(id));
    this.#attachments = new Attachments(ctx, publisher);
    this.#remover = new Remover(ctx);
    const health = new HealthMonitor(ctx, this.execs);
    this.healthChecks = health.checks;
    this.#monitor = new Monitor(ctx, this.#starter, this.#remover, this.execs, health);
    this.#reconciler = new Reconciler(ctx, this.#monitor, publisher);
    const [connecting, disconnecting] = this.#attachments.kinds;
    registry.register(connecting);
    registry.register(disconnecting);
    registry.register(this.#starter.kind);
    registry.register(this.#stopper.kind);
    registry.register(this.execs.kind);
    for (const kind of [...this.#remover.kinds, ...this.#freezer.kinds]) registry.register(kind);
    const [kill, signal] = this.#killer.kinds();
    registry.register(kill);
    registry.register(signal);
  }

  #upstreams(id: string): string[] {
    const row = this.#ctx.graph.containers.get(id);
    return row ? upstreamServers(namingOptions(this.#ctx, readRecord(row))) : [];
  }

  /** For startRuntime. */
  onEvent(event: RuntimeEvent): void {
    this.#monitor.onEvent(event);
  }

  /** At the daemon's start: `adopt`, then the jobs are recovered, then `settle`, then the API is served. */
  adopt(): Promise<void> {
    return this.#reconciler.adopt();
  }

  async settle(): Promise<void> {
    await this.#reconciler.settle();
    await this.#removeOfBuilds();
  }

  connect(network: string, container: string, body: EndpointBody | null | undefined): Promise<void> {
    return this.#attachments.connect(network, container, body);
  }

  disconnect(network: string, container: string, force: boolean): Promise<void> {
    return this.#attachments.disconnect(network, container, force);
  }

  create(body: CreateBody, options: CreateOptions): Promise<Created> {
    return create(this.#ctx, this.#create, body, options);
  }

  /** `secretEnv`: variables beyond those of its config, which nothing shows. */
  async start(idOrName: string, { secretEnv = [] }: { secretEnv?: readonly string[] } = {}): Promise<void> {
    const { id } = this.find(idOrName);
    Object.assign(this.#ctx.live.of(id), { restartDelayMs: 0, secretEnv });
    await this.#starter.start(id);
  }

  stop(idOrName: string, options: StopOptions): Promise<void> {
    return this.#stopper.stop(idOrName, options);
  }

  async restart(idOrName: string, options: StopOptions): Promise<void> {
    const { row } = this.record(idOrName);
    try {
      await this.#stopper.restart(row.id, options, (id) => this.start(id));
    } catch (error) {
      const { message, code, hint } = asCaissonError(error);
      throw new CaissonError('System', `Cannot restart container ${idOrName}: ${message}`, {
        code,
        ...(hint !== undefined && { hint }),
        cause: error,
      });
    }
    this.#ctx.events.container(this.record(row.id), 'restart');
  }

  kill(idOrName: string, signal: string): Promise<void> {
    return this.#killer.kill(idOrName, signal);
  }

  async pause(idOrName: string): Promise<void> {
    await this.#freezer.pause(idOrName);
  }

  async unpause(idOrName: string): Promise<void> {
    await this.#freezer.unpause(idOrName);
  }

  remove(idOrName: string, options: { force: boolean; volumes: boolean }): Promise<void> {
    const kill = (id: string): Promise<void> => this.#killer.kill(id, 'KILL').catch(ignoreNotRunning);
    return this.#remover.remove(idOrName, { volumes: options.volumes, ...(options.force ? { kill } : {}) });
  }

  /** `rm --link`. */
  async removeLink(name: string): Promise<void> {
    const { graph } = this.#ctx;
    removeLink(this.#ctx, name);
    await graph.db.durable();
  }

  async rename(idOrName: string, name: string): Promise<void> {
    const { graph, events, runner } = this.#ctx;
    const row = this.find(idOrName);
    if (name === '') throw new CaissonError('InvalidParameter', 'Neither old nor new names may be empty');
    const checked = checkName(name);
    if (checked === row.name) {
      throw new CaissonError('InvalidParameter', 'Renaming a container with the same name as its current name');
    }
    // held together with the name, which a create under way may have claimed
    const held = await runner.lock([lock(`container:${row.id}`), containerName(checked)]);
    try {
      graph.db.transaction(() => {
        graph.containers.rename(row.id, checked);
        for (const { id, aliases } of graph.networks.endpointsOf(row.id)) {
          const names = (JSON.parse(aliases) as string[]).map((name) => (name === row.name ? checked : name));
          graph.networks.setAliases(id, [...new Set(names)]);
        }
        events.container(readRecord(graph.containers.resolve(row.id)), 'rename', { oldName: `/${row.name}` });
      });
      await graph.db.durable();
    } finally {
      held.release();
    }
  }

  /** Kind NotFound with Docker's text. */
  find(idOrName: string): ContainerRow {
    return this.#ctx.graph.containers.resolve(idOrName);
  }

  record(idOrName: string): ContainerRecord {
    return readRecord(this.find(idOrName));
  }

  inspect(idOrName: string, size: boolean): Promise<object> {
    return inspect(this.#ctx, idOrName, size);
  }

  list(options: ListOptions): Promise<object[]> {
    return this.#list.list(options);
  }

  top(idOrName: string, args: string): Promise<object> {
    return top(this.#ctx, idOrName, args);
  }

  /** One reader per request: it remembers the reading before. */
  stats(): StatsReader {
    return new StatsReader(this.#ctx);
  }

  /** Registers the waiter before it returns, so that nothing started afterwards can be missed. */
  wait(idOrName: string, condition: WaitCondition, signal: AbortSignal): Promise<WaitResult> {
    const row = this.find(idOrName);
    if (condition === 'not-running' && !isRunning(row) && row.status !== 'restarting') {
      return Promise.resolve({ exitCode: row.exitCode });
    }
    return this.#ctx.live.of(row.id).wait(condition, signal);
  }

  /** Throws what the client must hear before its connection is taken. */
  checkAttach(idOrName: string): ContainerRecord {
    const record = this.record(idOrName);
    const { row } = record;
    if (row.status === 'paused') {
      throw new CaissonError('Conflict', `container ${row.id} is paused, unpause the container before attach`);
    }
    if (row.status === 'restarting') {
      throw new CaissonError('Conflict', `container ${row.id} is restarting, wait until the container is running`);
    }
    return record;
  }

  /** Before the start the stream waits here, and goes to the shim before init is let go: no byte is lost. */
  async attach(
    record: ContainerRecord,
    connection: HijackedConnection,
    choice: StreamChoice,
    { log, goesOn }: { log?: LogRequest | undefined; goesOn: boolean },
  ): Promise<void> {
    const { native, live, pending, graph, events } = this.#ctx;
    const { row, config } = record;
    let stream: ClientStream;
    try {
      stream = openStream(connection, { ...choice, stdin: choice.stdin && config.OpenStdin });
      if (log !== undefined) await this.#replay(log, connection.fd);
    } catch (error) {
      native.closeFd(connection.fd);
      throw error;
    }
    if (!goesOn) return native.closeFd(connection.fd);
    events.container(record, 'attach');
    const now = graph.containers.get(row.id);
    const state = live.of(row.id);
    if (state.isReleased || (now && isRunning(now))) await native.attach(row.id, stream);
    else pending.add(row.id, stream);
  }

  /** What the container has said so far, before what it says from now on. */
  #replay(log: LogRequest, fd: number): Promise<void> {
    const { native } = this.#ctx;
    return native.serveLog({ ...log, handle: this.#nextLogHandle++, fd: native.dupFd(fd), head: '', chunked: false });
  }

  async resize(idOrName: string, width: number, height: number): Promise<void> {
    const row = await settledRow(this.#ctx, idOrName);
    if (!isRunning(row)) throw new CaissonError('Conflict', `container ${row.id} is not running`);
    const record = readRecord(row);
    // as Docker: without a terminal nothing happens
    if (record.config.Tty) await this.#ctx.native.resize(row.id, { width, height });
    this.#ctx.events.container(record, 'resize', { height: String(height), width: String(width) });
  }

  /** Serves the log on a connection taken from a client; ends with the container when it follows. */
  async serveLog(record: ContainerRecord, request: LogRequest, fd: number, head: string): Promise<void> {
    const { native, live } = this.#ctx;
    const running = isRunning(await settledRow(this.#ctx, record.row.id));
    const handle = this.#nextLogHandle++;
    const { logHandles } = live.of(record.row.id);
    logHandles.add(handle);
    try {
      await native.serveLog({ ...request, follow: request.follow && running, handle, fd, head, chunked: true });
    } finally {
      logHandles.delete(handle);
    }
  }

  /** One that a build leaves to the user. */
  async keepOfBuild(id: string): Promise<void> {
    const { graph } = this.#ctx;
    const { ofBuild: _, ...detail } = this.record(id).detail;
    graph.containers.updateDefinition(id, { detail: JSON.stringify(detail) });
    await graph.db.durable();
  }

  /** At the daemon's start, when no build is under way. */
  async #removeOfBuilds(): Promise<void> {
    for (const row of this.#ctx.graph.containers.all())
      if (readRecord(row).detail.ofBuild) await this.remove(row.id, { force: true, volumes: true });
  }

  /** Removes what does not run; returns ids and bytes. */
  async prune(filters: Filters): Promise<{ ids: string[]; bytes: number }> {
    const { graph, native, paths } = this.#ctx;
    const isOld = madeUntil(filters);
    const ids: string[] = [];
    let bytes = 0;
    for (const row of graph.containers.all()) {
      if (isRunning(row) || row.status === 'restarting' || !isOld(row.created)) continue;
      if (!labelsAllow(readRecord(row).config.Labels, filters)) continue;
      const size = await native.treeSize(`${paths.overlay}/${row.id}`);
      await this.remove(row.id, { force: false, volumes: false }).catch(ignoreNotRunning);
      ids.push(row.id);
      bytes += size;
    }
    return { ids, bytes };
  }
}

function ignoreNotRunning(error: unknown): void {
  if (error instanceof CaissonError && ['Conflict', 'NotFound'].includes(error.kind)) return;
  throw error;
}
