/**
 * `start`: prepare (network namespace, port sockets, files) → build (shim, veth, firewall elements, at the same time) →
 * release (streams handed over, init let go). Committed when init has become the user's program.
 */
import { CaissonError, isKind } from '../../errdefs.ts';
import type { RuntimeSpec } from '../../oci.ts';
import type { JobKind } from '../jobs/kinds.ts';
import { lock } from '../jobs/kinds.ts';
import type { SpawnedContainer, SpawnOptions } from '../native/containers.ts';
import { fixOf, NativeError } from '../native/failure.ts';
import { ignoreMissing } from '../network/devices.ts';
import { announcerOf, type EndpointPlan, leadsOut } from '../network/endpoints.ts';
import { NetnsPool } from '../network/netnsPool.ts';
import { portHolder } from '../network/portHolder.ts';
import { type PortRequest, portRequests, type ReservedPorts, reservePorts } from '../network/ports.ts';
import { LOCAL } from '../volumes/drivers.ts';
import { hasIpv6, hasOwnNetworks, networksOf } from './attachments.ts';
import type { HostConfig } from './config.ts';
import type { ContainerContext } from './context.ts';
import { makeDirectories } from './create.ts';
import { logRoute } from './logRoute.ts';
import { followLinks, writeNames } from './nameFiles.ts';
import { type ContainerDetail, type ContainerRecord, isRunning, readRecord } from './record.ts';
import { cgroupOf, sharedNetns, spawnOptions } from './spawn.ts';
import { nowRfc3339 } from './time.ts';

export interface StartPlan {
  id: string;
  stateDir: string;
  cgroup: string;
  endpoints: EndpointPlan[];
  /** Number of restarts by the policy so far; a user's start sets it to 0. */
  restartCount: number;
  /** By the policy: `restartsCalledOff` when it was decided. */
  unlessCalledOff?: number;
}

interface StartState {
  spawned: SpawnedContainer;
}

/** What a start holds that no row can say: descriptors of this process. */
interface Held {
  record?: ContainerRecord;
  options?: Omit<SpawnOptions, 'ports'>;
  /** Of the network namespace. */
  sysctls?: Record<string, string>;
  netnsFd?: number;
  ports?: ReservedPorts;
}

/** Who wants to know how a start went. */
export interface StartOutcome {
  started(id: string): void;
  failed(id: string): void;
}

export class Starter {
  readonly kind: JobKind<StartPlan, StartState>;
  readonly #ctx: ContainerContext;
  readonly #held = new Map<string, Held>();
  readonly #namespaces: NetnsPool;
  readonly #outcome: StartOutcome;

  constructor(ctx: ContainerContext, outcome: StartOutcome) {
    this.#ctx = ctx;
    this.#outcome = outcome;
    this.#namespaces = new NetnsPool(ctx.native, ctx.log);
    this.kind = {
      kind: 'start',
      subject: ({ id }) => id,
      claims: ({ id }) => [lock(`container:${id}`)],
      begin: (plan) => this.#begin(plan),
      rollback: ({ id }) => {
        ctx.graph.networks.releaseEndpoints(id);
        ctx.graph.networks.deletePorts(id);
      },
      commitPoint: 3,
      durable: false,
      steps: [
        { name: 'prepare', medium: 'kernel', do: (plan) => this.#prepare(plan), undo: (plan) => this.#unprepare(plan) },
        { name: 'build', medium: 'kernel', do: (plan) => this.#build(plan), undo: (plan) => this.#unbuild(plan) },
        { name: 'release', medium: 'kernel', do: (plan, state) => this.#release(plan, state) },
      ],
    };
  }

  /** Runs the job; a failure is kept in the row, as inspect and `ps` show it. */
  async start(id: string, policy: Pick<StartPlan, 'restartCount' | 'unlessCalledOff'> = { restartCount: 0 }) {
    const { graph, paths } = this.#ctx;
    const row = graph.containers.resolve(id);
    const plan: StartPlan = {
      id: row.id,
      stateDir: paths.stateDir(row.id),
      cgroup: '',
      endpoints: [],
      ...policy,
    };
    try {
      await this.#known(row.id, this.#ctx.runner.run(this.kind, plan));
      this.#outcome.started(row.id);
      setImmediate(() => void this.#namespaces.fill());
    } catch (thrown) {
      if (isKind(thrown, 'NotModified') || isKind(thrown, 'Cancelled')) throw thrown;
      const error = asStartError(thrown);
      if (graph.containers.get(row.id) && !isRunning(graph.containers.resolve(row.id))) {
        graph.containers.updateState(row.id, { exitCode: exitCodeOf(error), error: error.message });
      }
      this.#ctx.pending.close(row.id);
      this.#outcome.failed(row.id);
      throw error;
    }
  }

  /** For whoever needs the container to run, as long as it goes on. */
  async #known(id: string, start: Promise<unknown>): Promise<void> {
    const state = this.#ctx.live.of(id);
    state.starting = start;
    try {
      await start;
    } finally {
      if (state.starting === start) Object.assign(state, { starting: undefined, isReleased: false });
    }
  }

  #record(id: string): ContainerRecord {
    return readRecord(this.#ctx.graph.containers.resolve(id));
  }

  #begin(plan: StartPlan): StartPlan {
    const record = this.#record(plan.id);
    const { row, hostConfig } = record;
    if (row.status === 'paused') {
      throw new CaissonError('Conflict', 'cannot start a paused container, try unpause instead');
    }
    if (isRunning(row)) throw new CaissonError('NotModified', `container ${row.id} is already running`);
    const live = this.#ctx.live.of(row.id);
    if (live.removing) {
      throw new CaissonError('Conflict', 'container is marked for removal and cannot be started');
    }
    if (plan.unlessCalledOff !== undefined && plan.unlessCalledOff !== live.restartsCalledOff) {
      throw new CaissonError('Cancelled', `the restart of container ${row.id} was called off`);
    }
    live.callOffRestart();
    checkSharedNetwork(this.#ctx, hostConfig.NetworkMode);
    const endpoints = hasOwnNetworks(hostConfig) ? this.#allocate(row.id, hostConfig) : [];
    return { ...plan, cgroup: cgroupOf(this.#ctx, hostConfig, row.id), endpoints };
  }

  #allocate(id: string, hostConfig: HostConfig): EndpointPlan[] {
    try {
      return this.#ctx.endpoints.allocate(id, hasIpv6(hostConfig));
    } catch (error) {
      throw asNetworkError(error);
    }
  }

  async #prepare(plan: StartPlan): Promise<void> {
    const { live } = this.#ctx;
    const held: Held = {};
    this.#held.set(plan.id, held);
    const record = this.#record(plan.id);
    held.record = record;
    const { hostConfig, detail } = record;
    makeDirectories(this.#ctx, plan.id, localVolumes(detail));
    if (!hostConfig.NetworkMode.startsWith('container:')) writeNames(this.#ctx, record);
    // what the run before has left must be gone: its ports, its cgroup, its state directory
    await live.of(plan.id).cleanup;
    await this.#ctx.pluginVolumes.mounts.mount(plan.id, detail.mountPoints);
    const route = logRoute(record);
    if (route !== undefined) await this.#ctx.forwarder.begin(route);
    const netns =
      plan.endpoints.length > 0 ? this.#namespaces.take() : sharedNetns(this.#ctx, plan.id, hostConfig.NetworkMode);
    const options = spawnOptions(this.#ctx, record);
    const [netnsResult, optionsResult] = await Promise.allSettled([netns, options]);
    if (netnsResult.status === 'fulfilled' && netnsResult.value !== undefined) held.netnsFd = netnsResult.value;
    if (optionsResult.status === 'fulfilled') {
      held.options = optionsResult.value;
      if (plan.endpoints.length > 0) held.sysctls = takeSysctls(held.options.spec, hostConfig);
    }
    if (netnsResult.status === 'rejected') throw netnsResult.reason;
    if (optionsResult.status === 'rejected') throw optionsResult.reason;
  }

  /** Docker's sentence; the hint names the container that has the port, if it is one of ours. */
  #portFailure(error: unknown, { id, endpoints }: StartPlan, ports: PortRequest[]): unknown {
    if (!(error instanceof CaissonError) || error.kind !== 'Conflict') return error;
    const { graph } = this.#ctx;
    const { row } = this.#record(id);
    const where = `driver failed programming external connectivity on endpoint ${row.name} (${endpoints.find(leadsOut)?.id ?? ''})`;
    const message = `${where}: ${error.message}`;
    const [, address = '', number] = /(?:Bind for|host port) (\S+):(\d+)/.exec(error.message) ?? [];
    const host = address.replace(/^\[(.*)\]$/, '$1');
    const isAny = (ip: string): boolean => ip === '0.0.0.0' || ip === '::';
    const holder = graph.networks
      .ports()
      .filter(({ proto, hostPort }) => hostPort === Number(number) && ports.some((asked) => asked.proto === proto))
      .find(({ hostIp }) => hostIp === host || isAny(hostIp) || isAny(host));
    const fix = 'publish another port of the host, or end what has this one';
    if (!holder) {
      const proto = ports.find(({ hostPorts }) => hostPorts[0] === Number(number))?.proto ?? 'tcp';
      const process = portHolder(proto, Number(number));
      const hint = `${process === undefined ? 'Another process' : process} has it: ${fix}.`;
      return new CaissonError('System', message, { code: 'PORT_IN_USE', hint, cause: error });
    }
    const name = graph.containers.get(holder.containerId)?.name ?? holder.containerId;
    const hint = `Container ${name} publishes ${holder.hostPort}/${holder.proto}: ${fix}.`;
    return new CaissonError('System', message, { code: 'PORT_IN_USE', hint, cause: error });
  }

  async #unprepare({ id }: StartPlan): Promise<void> {
    const held = this.#held.get(id);
    if (held?.netnsFd !== undefined) this.#ctx.native.closeFd(held.netnsFd);
    for (const { fd } of held?.ports?.sockets ?? []) this.#ctx.native.closeFd(fd);
    this.#ctx.resolvers.close(id);
    this.#ctx.forwarder.ended(id);
    this.#held.delete(id);
    await this.#ctx.pluginVolumes.mounts.release(id);
  }

  async #build(plan: StartPlan): Promise<{ state: StartState }> {
    const { native, resolvers } = this.#ctx;
    const held = this.#held.get(plan.id) ?? {};
    const { netnsFd, options, sysctls = {} } = held;
    if (options === undefined) throw new Error('the container is not prepared');
    const isNamed = plan.endpoints.some(({ userDefined }) => userDefined);
    const resolver = netnsFd !== undefined && isNamed ? await resolvers.open(plan.id, netnsFd) : [];
    const own = netnsFd !== undefined && plan.endpoints.length > 0 ? native.dupFd(netnsFd) : undefined;
    // spawnShim consumes the descriptors, also when it fails
    delete held.netnsFd;
    // what takes longest begins first
    const spawn = native.spawnShim({
      ...options,
      ...(netnsFd === undefined ? {} : { netnsFd }),
      ports: resolver,
    });
    const work: Promise<unknown>[] = [this.#publish(plan, held)];
    if (own !== undefined) {
      work.push(this.#attachAll(plan.endpoints, own, sysctls).finally(() => native.closeFd(own)));
    }
    const networking = work.map((one) => one.catch((error: unknown) => Promise.reject(asNetworkError(error))));
    const [spawned, ...others] = await Promise.allSettled([spawn, ...networking]);
    for (const result of [...others, spawned]) if (result.status === 'rejected') throw result.reason;
    const { sockets = [] } = held.ports ?? {};
    if (held.ports) held.ports = { ...held.ports, sockets: [] };
    if (sockets.length > 0) await native.givePorts(plan.id, sockets);
    return { state: { spawned: (spawned as PromiseFulfilledResult<SpawnedContainer>).value } };
  }

  /** Beside the shim's work: sockets, rows and the firewall's part of hundreds of ports take as long as that. */
  async #publish(plan: StartPlan, held: Held): Promise<void> {
    const { native, devices, graph, endpoints } = this.#ctx;
    const target = endpoints.portTarget(plan.id, plan.endpoints);
    const requests = target && held.record ? portRequests(held.record.config, held.record.hostConfig) : [];
    if (!target || requests.length === 0) return;
    try {
      held.ports = await reservePorts(native, requests, target);
    } catch (error) {
      throw this.#portFailure(error, plan, requests);
    }
    const { published, rows } = held.ports;
    const write = async () => graph.db.transaction(() => graph.networks.insertPorts(plan.id, rows));
    for (const result of await Promise.allSettled([devices.firewall.addPorts(published), write()])) {
      if (result.status === 'rejected') throw result.reason;
    }
  }

  /** One after the other, so that devices are in the order of their names; they are born with the namespace's defaults. */
  async #attachAll(plans: EndpointPlan[], netnsFd: number, sysctls: Record<string, string>): Promise<void> {
    if (Object.keys(sysctls).length > 0) await this.#ctx.native.setSysctls(netnsFd, sysctls);
    for (const plan of plans) await this.#ctx.endpoints.attach(plan, netnsFd);
  }

  async #unbuild(plan: StartPlan): Promise<void> {
    const { native, devices, resolvers } = this.#ctx;
    const { id, stateDir, cgroup, endpoints } = plan;
    resolvers.close(id);
    for (const endpoint of endpoints) native.stopAdvertising(announcerOf(endpoint));
    await native.destroyContainer({ id, stateDir, cgroup });
    const published = this.#held.get(id)?.ports?.published ?? [];
    // after a restart of the daemon the whole table is written anew from the rows
    await devices.firewall.removePorts(published);
    // links without an end on the host went with the namespace
    for (const { hostName } of endpoints) if (hostName !== null) await native.deleteLink(hostName).catch(ignoreMissing);
  }

  async #release(plan: StartPlan, { spawned }: StartState): Promise<{ rows: () => void }> {
    const { native, live } = this.#ctx;
    const state = live.of(plan.id);
    const streams = this.#ctx.pending.take(plan.id);
    state.isReleased = true;
    for (const stream of streams) await native.attach(plan.id, stream);
    state.lastExit = undefined;
    state.lost = false;
    await native.startContainer(plan.id);
    state.startedAtMs = performance.now();
    return { rows: () => this.#writeRows(plan, spawned) };
  }

  #writeRows(plan: StartPlan, spawned: SpawnedContainer): void {
    const { graph, events, bootId } = this.#ctx;
    // kept until the rows are written: undoing needs it when they cannot be
    graph.db.afterCommit(() => this.#held.delete(plan.id));
    graph.db.afterCommit(() => followLinks(this.#ctx, plan.id));
    graph.containers.updateState(plan.id, {
      status: 'running',
      health: null,
      pid: spawned.initPid,
      pidStart: spawned.initStartTime,
      shimPid: spawned.shimPid,
      shimStart: spawned.shimStartTime,
      bootId,
      exitCode: 0,
      error: '',
      oomKilled: false,
      startedAt: nowRfc3339(),
      restartCount: plan.restartCount,
      manuallyStopped: false,
    });
    const record = this.#record(plan.id);
    events.volumes('mount', record);
    for (const network of networksOf(this.#ctx, record)) events.network('connect', network, plan.id);
    events.container(record, 'start');
  }
}

/** What the user sets of the network namespace, out of the shim's hands: devices are born after it, not beside it. */
function takeSysctls({ linux }: RuntimeSpec, { Sysctls: asked }: HostConfig): Record<string, string> {
  const own = Object.entries(asked ?? {}).filter(([name]) => name.startsWith('net.'));
  for (const [name] of own) delete linux.sysctl?.[name];
  return Object.fromEntries(own);
}

/** Docker's words in front of whatever kept a container from its networks. */
function asNetworkError(error: unknown): unknown {
  if (!(error instanceof CaissonError)) return error;
  const { kind, code, hint, path, cause } = error;
  const details = { code, ...(hint === undefined ? {} : { hint }), ...(path === undefined ? {} : { path }), cause };
  return new CaissonError(kind, `failed to set up container networking: ${error.message}`, details);
}

const localVolumes = ({ mountPoints }: ContainerDetail): string[] =>
  mountPoints.flatMap(({ type, name, driver }) =>
    type === 'volume' && name !== undefined && driver === LOCAL ? [name] : [],
  );

/** As Docker, at the start and not at create: 404 there would make the client pull the image. */
function checkSharedNetwork({ graph }: ContainerContext, mode: string): void {
  if (!mode.startsWith('container:')) return;
  const name = mode.slice('container:'.length);
  try {
    graph.containers.resolve(name);
  } catch (error) {
    const message = `joining network namespace of container: ${error instanceof Error ? error.message : error}`;
    throw new CaissonError('System', message, { code: 'CONTAINER_NOT_FOUND', cause: error });
  }
}

/** 127: no such program; 126: it cannot be executed; 128: anything else that went wrong before it ran. */
function exitCodeOf(error: CaissonError): number {
  const failure = error.cause instanceof NativeError ? error.cause.failure : undefined;
  if (failure?.kind !== 'exec') return 128;
  return failure.errno === ENOENT ? 127 : 126;
}

const ENOENT = 2;

const FAILED_TO_CREATE = 'failed to create task for container: failed to create shim task';

/**
 * Docker's chain of names in front, which the CLI reads to choose its exit code (127 or 126) and scripts match on.
 */
function asStartError(thrown: unknown): CaissonError {
  if (!(thrown instanceof CaissonError)) {
    return new CaissonError('System', thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
  }
  const failure = thrown.cause instanceof NativeError ? thrown.cause.failure : undefined;
  if (failure?.kind !== 'exec') {
    if (failure?.op !== 'runtime') return thrown;
    return new CaissonError(thrown.kind, `${FAILED_TO_CREATE}: ${thrown.message}`, { cause: thrown.cause });
  }
  const missing = failure.errno === ENOENT;
  return new CaissonError(
    'InvalidParameter',
    `${FAILED_TO_CREATE}: OCI runtime create failed: unable to start container process: ${failure.message}`,
    { code: missing ? 'PROGRAM_NOT_FOUND' : 'PROGRAM_NOT_EXECUTABLE', ...fixOf(failure), cause: thrown.cause },
  );
}
