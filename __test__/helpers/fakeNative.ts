/**
 * A native layer without a kernel, for unit tests of what the engine does around it: programs are words that say how they
 * end. `exit N` ends with N as soon as it is let go, `absent` cannot be executed, anything else runs until a signal.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import type {
  ClientStream,
  ContainerRuntimeState,
  ExecOptions,
  PortSocket,
  RuntimeEvent,
  SpawnedContainer,
  SpawnOptions,
} from '../../ts/engine/native/containers.ts';
import { NativeError } from '../../ts/engine/native/failure.ts';
import type { HostInfo, Native } from '../../ts/engine/native/index.ts';
import type { EndpointOptions, PublishedPort, RouteInfo, RulesetReport } from '../../ts/engine/native/network.ts';
import { CaissonError } from '../../ts/errdefs.ts';

interface Fake {
  options: SpawnOptions;
  pid: number;
  started: boolean;
  streams: ClientStream[];
  /** What its shim holds beside what it was spawned with. */
  ports: PortSocket[];
}

function absent(): CaissonError {
  const message = `exec: "absent": executable file not found in $PATH`;
  const cause = new NativeError({ kind: 'exec', op: 'execve', errno: 2, message });
  return new CaissonError('InvalidParameter', message, { cause });
}

/** A call that none of the unit tests needs. */
const none = (): never => {
  throw new Error('the fake of the addon does not have this call');
};

const HOST: HostInfo = {
  kernelVersion: '6.18.0',
  architecture: 'x86_64',
  cgroupVersion: 1,
  controllers: [],
  memoryLimit: true,
  swapLimit: true,
  oomKillDisable: false,
  cpuCfsPeriod: false,
  cpuCfsQuota: true,
  cpuShares: false,
  cpuSet: true,
  pidsLimit: true,
  blkioWeight: false,
  blkioWeightDevice: false,
  seccomp: true,
  apparmor: false,
  selinux: false,
  userNamespaces: false,
  timeNamespaces: false,
  overlayLowerdirPlus: false,
  cloneIntoCgroup: false,
  cgroupKill: false,
  totalMemoryBytes: 0,
  cpus: 2,
};

export class FakeNative implements Native {
  readonly containers = new Map<string, Fake>();
  readonly calls: string[] = [];
  readonly endpoints: EndpointOptions[] = [];
  readonly ports: PublishedPort[] = [];
  readonly takenPorts = new Set<number>();
  readonly openFds = new Set<number>();
  /** Network namespaces; the engine keeps a few ahead. */
  readonly netnsFds = new Set<number>();
  frozen = new Set<string>();
  /** What adoptShim finds, by id. */
  found = new Map<string, ContainerRuntimeState>();
  #onEvent: (event: RuntimeEvent) => void = () => undefined;
  #nextPid = 1_000_000;
  #nextClient = 0;

  async probeHost(): Promise<HostInfo> {
    return HOST;
  }

  async startRuntime(options: { onEvent: (event: RuntimeEvent) => void }): Promise<void> {
    this.#onEvent = options.onEvent;
  }

  #fd(): number {
    const fd = openSync('/dev/null', 'r+');
    this.openFds.add(fd);
    return fd;
  }

  closeFd(fd: number): void {
    if (!this.openFds.delete(fd) && !this.netnsFds.delete(fd)) throw new Error(`fd ${fd} closed twice`);
    closeSync(fd);
  }

  dupFd(_fd: number): number {
    return this.#fd();
  }

  async createNetns(): Promise<number> {
    const fd = openSync('/dev/null', 'r+');
    this.netnsFds.add(fd);
    return fd;
  }

  stopAdvertising(): void {}

  watchClient(): number {
    return this.#nextClient++;
  }

  unwatchClient(): void {}

  async createEndpoint(options: EndpointOptions): Promise<void> {
    this.endpoints.push(options);
  }

  async reservePorts(ports: { hostIp: string; hostPort: number }[]): Promise<{ fds: number[]; hostPorts: number[] }> {
    const taken = ports.find(({ hostPort }) => this.takenPorts.has(hostPort));
    if (taken)
      throw new CaissonError(
        'Conflict',
        `Bind for ${taken.hostIp}:${taken.hostPort} failed: port is already allocated`,
      );
    return { fds: ports.map(() => this.#fd()), hostPorts: ports.map(({ hostPort }) => hostPort || 49_153) };
  }

  async addPorts(_table: string, ports: PublishedPort[]): Promise<void> {
    this.ports.push(...ports);
  }

  async removePorts(_table: string, ports: PublishedPort[]): Promise<void> {
    for (const port of ports) {
      const at = this.ports.findIndex((one) => one.hostPort === port.hostPort);
      if (at >= 0) this.ports.splice(at, 1);
    }
  }

  async spawnShim(options: SpawnOptions): Promise<SpawnedContainer> {
    this.calls.push(`spawn ${options.id}`);
    for (const fd of [options.netnsFd, ...options.ports.map(({ fd }) => fd)]) if (fd !== undefined) this.closeFd(fd);
    const pid = this.#nextPid++;
    this.containers.set(options.id, { options, pid, started: false, streams: [], ports: [] });
    return { shimPid: pid + 500_000, shimStartTime: 1, initPid: pid, initStartTime: 1 };
  }

  async givePorts(id: string, ports: PortSocket[]): Promise<void> {
    for (const { fd } of ports) this.closeFd(fd);
    this.#get(id).ports.push(...ports);
  }

  async startContainer(id: string): Promise<void> {
    const fake = this.#get(id);
    const [program = '', argument] = fake.options.spec.process.args;
    if (program === 'absent') throw absent();
    fake.started = true;
    if (program === 'exit') this.end(id, Number(argument ?? 0));
  }

  /** The container's init ends. */
  end(id: string, exitCode: number): void {
    const fake = this.containers.get(id);
    if (!fake) return;
    for (const { fd } of fake.streams) this.closeFd(fd);
    fake.streams = [];
    const exit = { exitCode, oomKilled: false, exitedAt: new Date().toISOString() };
    queueMicrotask(() => this.#onEvent({ type: 'exit', id, exit }));
  }

  shimGone(id: string): void {
    this.#onEvent({ type: 'shimGone', id });
  }

  async adoptShim({ id }: { id: string }): Promise<ContainerRuntimeState> {
    return this.found.get(id) ?? { status: 'lost', execs: [] };
  }

  async destroyContainer({ id, stateDir }: { id: string; stateDir: string }): Promise<void> {
    this.calls.push(`destroy ${id}`);
    for (const { fd } of this.containers.get(id)?.streams ?? []) this.closeFd(fd);
    this.containers.delete(id);
    rmSync(stateDir, { recursive: true, force: true });
  }

  async attach(id: string, client: ClientStream): Promise<void> {
    const fake = this.#get(id);
    this.calls.push(`attach ${id} ${fake.started ? 'running' : 'created'}`);
    this.openFds.add(client.fd);
    fake.streams.push(client);
    writeSync(client.fd, client.head);
  }

  /** `stay` runs on, `absent` cannot be executed, anything else ends with 3. */
  async exec(id: string, { execId, process: { args }, client }: ExecOptions): Promise<{ pid: number }> {
    if (client) this.closeFd(client.fd);
    if (args[0] === 'absent') throw absent();
    if (args[0] !== 'stay') queueMicrotask(() => this.#onEvent({ type: 'execExit', id, execId, exitCode: 3 }));
    return { pid: this.#nextPid++ };
  }

  acknowledgeExec(_id: string, execId: string): void {
    this.calls.push(`acknowledge ${execId}`);
  }

  async resize(): Promise<void> {}

  signalContainer(): Promise<void> {
    throw new Error('no container of another runtime');
  }

  async signalProcess({ pid, signal }: { pid: number; signal: number }): Promise<void> {
    const [id, fake] = [...this.containers].find(([, one]) => one.pid === pid) ?? [];
    this.calls.push(`signal ${signal}`);
    if (id === undefined || !fake) throw new CaissonError('NotFound', 'no such process');
    if (signal === 9 || (signal === 15 && fake.options.spec.process.args[0] !== 'stubborn')) this.end(id, 128 + signal);
  }

  async cgroupFreeze(cgroup: string, frozen: boolean): Promise<void> {
    if (frozen) this.frozen.add(cgroup);
    else this.frozen.delete(cgroup);
  }

  async cgroupPids(): Promise<number[]> {
    return [process.pid];
  }

  async compileSeccomp(): Promise<void> {}
  async serveLog({ fd }: { fd: number }): Promise<void> {
    this.closeFd(fd);
  }
  endLog(): void {}
  async copyUp(): Promise<void> {}
  async finishCopyUp(): Promise<void> {}
  async removeTree(path: string): Promise<void> {
    rmSync(path, { recursive: true, force: true });
  }
  async treeSize(): Promise<number> {
    return 0;
  }
  async compareTrees(): Promise<string | null> {
    return null;
  }
  async ensureBridge(): Promise<boolean> {
    return true;
  }
  async deleteLink(): Promise<void> {}
  async applyRuleset(): Promise<RulesetReport> {
    return { owned: true, droppedBy: [], legacyDroppedBy: [] };
  }
  async watchFirewall(): Promise<void> {}
  async listRoutes(): Promise<RouteInfo[]> {
    return [];
  }
  async enableForwarding(): Promise<boolean> {
    return false;
  }

  changePort = none;
  connectDatagram = none;
  keepPorts = none;
  containerNetns = none;
  cgroupUpdate = none;
  cgroupKill = none;
  cgroupStats = none;
  pipe = none;
  socketPair = none;
  statArchive = none;
  checkUser = none;
  readArchive = none;
  writeArchive = none;
  isArchive = none;
  listChanges = none;
  openLayer = none;
  packLayer = none;
  recreateLayer = none;
  sendLayer = none;
  layerArchiveSize = none;
  exportTree = none;
  spreadTrees = none;
  createChild = none;
  ensureParent = none;
  deleteOwnLink = none;
  async linkAddresses(): Promise<string[]> {
    return [];
  }
  deleteChild = none;
  setSysctls = none;
  createResolverSockets = none;
  heldSocket = none;
  refreshForeign = none;
  addBridgeRules = none;
  removeBridgeRules = none;
  deleteRuleset = none;
  setDefaultRoutes = none;

  #get(id: string): Fake {
    const fake = this.containers.get(id);
    if (!fake) throw new CaissonError('NotFound', `no shim of ${id}`);
    return fake;
  }
}
