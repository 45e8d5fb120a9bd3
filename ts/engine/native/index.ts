/**
 * The TS/Rust boundary: the only file that imports the addon. Coarse calls, plain objects in and out, all off the JS
 * thread; each undoes itself when it fails. Expected failures cross as data (`{ error }`) and are unwrapped here into a
 * CaissonError; an exception out of the addon is a bug.
 *
 * File descriptors cross as numbers. A call that takes one says whether it consumes it (closes it, also on failure).
 */
import { createRequire } from 'node:module';
import { ADDON, nativeFile } from '../../nativeFiles.ts';
import type { Resources } from '../../oci.ts';
import type {
  CgroupStats,
  ClientStream,
  ContainerRuntimeState,
  ExecOptions,
  LogRequest,
  PortSocket,
  RuntimeEvent,
  SpawnedContainer,
  SpawnOptions,
} from './containers.ts';
import { type NativeResult, unwrap } from './failure.ts';
import type {
  AppliedLayer,
  ArchivePathStat,
  ArchiveReadOptions,
  ArchiveView,
  ArchiveWriteOptions,
  KeptBlob,
  LayerChange,
  LayerOptions,
  LayerSink,
  LayerSource,
  PackOptions,
  RootHolder,
} from './files.ts';
import type {
  BridgeOptions,
  BridgeRules,
  ChildOptions,
  DeviceRoutes,
  EndpointOptions,
  PublishedPort,
  RouteInfo,
  Ruleset,
  RulesetReport,
} from './network.ts';

// -------------------------------------------------------------------------------------------------------------- host

export interface HostInfo {
  kernelVersion: string;
  architecture: 'x86_64' | 'aarch64';
  cgroupVersion: 1 | 2;
  /** Controllers that containers can use, for example `memory`, `pids`. */
  controllers: string[];
  memoryLimit: boolean;
  swapLimit: boolean;
  oomKillDisable: boolean;
  cpuCfsPeriod: boolean;
  cpuCfsQuota: boolean;
  cpuShares: boolean;
  cpuSet: boolean;
  pidsLimit: boolean;
  blkioWeight: boolean;
  blkioWeightDevice: boolean;
  seccomp: boolean;
  apparmor: boolean;
  selinux: boolean;
  userNamespaces: boolean;
  timeNamespaces: boolean;
  /** Overlay layers are added one by one through the mount API (6.7+), else mount(2) in a private namespace. */
  overlayLowerdirPlus: boolean;
  /** Clone into a cgroup (v2 only). */
  cloneIntoCgroup: boolean;
  cgroupKill: boolean;
  totalMemoryBytes: number;
  cpus: number;
}

// --------------------------------------------------------------------------------------------------------- the calls

export interface Native {
  probeHost(): Promise<HostInfo>;

  /** Opens the shim's binary and starts the event thread. Once, before all that follows. */
  startRuntime(options: { shimPath: string; onEvent: (event: RuntimeEvent) => void }): Promise<void>;
  /** clone3 + exec of a shim that builds the container up to its program; it waits for `start`. If the daemon dies before
   * `start`, the shim undoes everything and ends: its bootstrap socket tells it so. */
  spawnShim(options: SpawnOptions): Promise<SpawnedContainer>;
  /** Releases init to its program; resolves when the exec has succeeded, fails with kind `exec` when it has not. */
  startContainer(id: string): Promise<void>;
  /** After a restart of the daemon: connects to the shim in this state directory, or reads what it left. */
  adoptShim(options: { id: string; stateDir: string }): Promise<ContainerRuntimeState>;
  /** Ends shim and container with SIGKILL, removes cgroups and state directory. Idempotent, also half way through spawnShim. */
  destroyContainer(options: { id: string; stateDir: string; cgroup: string }): Promise<void>;
  attach(id: string, client: ClientStream): Promise<void>;
  /** Tells by the event `clientGone`, once, that both directions of a connection have ended; returns the number that it is
   * known by. A duplicate of `fd` is held until then, or until `unwatchClient`. */
  watchClient(id: string, fd: number): number;
  unwatchClient(client: number): void;
  /** Resolves with the exec's pid when its program runs; fails with kind `exec` when it could not be executed. */
  exec(id: string, options: ExecOptions): Promise<{ pid: number }>;
  /** The end of an exec is written down: its clients' streams end, and the shim forgets it. */
  acknowledgeExec(id: string, execId: string): void;
  resize(id: string, target: { execId?: string; width: number; height: number }): Promise<void>;
  /** Published ports of a container that is built and not started, for its shim to hold. Consumes each `fd`, also on failure. */
  givePorts(id: string, ports: PortSocket[]): Promise<void>;
  /** A port that a running container's shim holds: a new one with `fd` of at least 0, which is consumed; with -1 where the
   * one of this protocol, address and port leads from now on, or without `containerIp`, that it is given back. */
  changePort(id: string, port: PortSocket): Promise<void>;
  /** The shim holds these published ports from now on, and gives others back; resolves with the places in the list of those
   * that it does not hold. */
  keepPorts(id: string, ports: PortSocket[]): Promise<number[]>;
  /** The network namespace of a running container. */
  containerNetns(id: string): Promise<number>;

  /** To the init of a container, by whoever has built it. */
  signalContainer(id: string, signal: number): Promise<void>;
  /** By pidfd, after comparing the start time; kind `gone` when that process has ended. */
  signalProcess(process: { pid: number; startTime: number; signal: number }): Promise<void>;

  cgroupUpdate(cgroup: string, resources: Resources): Promise<void>;
  cgroupFreeze(cgroup: string, frozen: boolean): Promise<void>;
  cgroupKill(cgroup: string, signal: number): Promise<void>;
  cgroupPids(cgroup: string): Promise<number[]>;
  cgroupStats(cgroup: string): Promise<CgroupStats>;

  /** Compiles an OCI seccomp section to a file of classic BPF instructions; kind `invalid` names the rule. */
  compileSeccomp(options: { seccomp: object; path: string }): Promise<void>;

  /** Serves the log to the client's fd from a thread of its own: head, then the body, in HTTP's chunks if so asked. Resolves
   * when the client has it all, has left, or `endLog` was called and the file is at its end. Consumes `fd`. */
  serveLog(request: LogRequest & { handle: number; fd: number; head: string; chunked: boolean }): Promise<void>;
  /** The container has ended: followers stop at the end of the file. */
  endLog(handle: number): void;

  /** Takes the fd of a connection over from Node: a dup of `fd`, close-on-exec. */
  dupFd(fd: number): number;
  closeFd(fd: number): void;
  /** Close-on-exec; the reading end first. */
  pipe(): [number, number];
  /** Two ends of one connection, close-on-exec. */
  socketPair(): [number, number];
  /** A non-blocking unix datagram socket, connected to the path: each write is a message. */
  connectDatagram(path: string): Promise<number>;

  /** Kind `notFound`: no such path in the container; `gone`: the view's process has ended. */
  statArchive(view: ArchiveView, path: string): Promise<ArchivePathStat>;
  /** Kind `invalid`, in dockerd's words: the container's own files do not know that user or group. */
  checkUser(view: ArchiveView, user: string): Promise<void>;
  /** Writes a tar archive of the path to `fd`, and consumes that. */
  readArchive(view: ArchiveView, path: string, options: ArchiveReadOptions, fd: number): Promise<void>;
  /** Unpacks the archive (plain, gzip, zstd, xz or bzip2) that is read from `fd` below a directory. Consumes it. */
  writeArchive(view: ArchiveView, path: string, options: ArchiveWriteOptions, fd: number): Promise<void>;
  /** Whether a file of ours is a tar archive, plain or compressed with gzip, zstd, xz or bzip2. */
  isArchive(path: string): Promise<boolean>;
  /** What an upper directory changes of the layers below it, sorted by path. */
  listChanges(options: { upper: string; lower: string[] }): Promise<LayerChange[]>;

  openLayer(options: LayerOptions): LayerSink;
  /** A layer of what a container changed: archived with whiteouts, hashed and unpacked in one pass. */
  packLayer(options: PackOptions): Promise<AppliedLayer>;
  /** A layer's archive, made again out of its directory and recipe and compressed to a new file. Kind `corrupt` when the
   * directory is not what the layer came with, naming the file; `notFound` when the layer has no recipe. */
  recreateLayer(layer: LayerSource, blobPath: string): Promise<KeptBlob>;
  /** The same archive, not compressed, to `fd`, which is consumed. Resolves as well when the reader has left; rejects as
   * `recreateLayer` does, then behind what was sent. */
  sendLayer(layer: LayerSource, fd: number): Promise<void>;
  /** The bytes that `sendLayer` sends. Kind `notFound` when there is no recipe. */
  layerArchiveSize(recipe: string): Promise<number>;
  /** Sends the root filesystem of a container to a client as a tar, without what is mounted in it: the head, then a chunked
   * body. Of the init `process` while that runs, else of the layers (the top one first) seen over each other. Resolves when
   * the client has it all or has left. Consumes `fd`. */
  exportTree(options: { process?: RootHolder; layers: string[]; fd: number; head: string }): Promise<void>;
  /** Copies a directory of an image (seen through its overlay) into an empty volume, or into a directory of one (its
   * `subpath`, '' for none; nothing happens where it is missing): owners, modes, xattrs, links. */
  copyUp(options: { lower: string[]; upper?: string; source: string; target: string; subpath: string }): Promise<void>;
  /** Brings such a copy to its end if a kill cut it off when files already showed in the volume; removes it otherwise. */
  finishCopyUp(target: string, subpath: string): Promise<void>;
  /** Removes a tree below a directory of ours, whatever a container put into it. */
  removeTree(path: string): Promise<void>;
  /** Has the trees directly below a directory put into places of the disk of their own, where the filesystem can. */
  spreadTrees(path: string): Promise<void>;
  /** Bytes used below a directory (as du), not following links, not leaving the filesystem. */
  treeSize(path: string): Promise<number>;
  /** Where two trees differ first to a container, and how the first one is; null when they do not. */
  compareTrees(own: string, other: string): Promise<string | null>;

  /** A new network namespace with its lo up and default sysctls; the fd is the only thing that holds it. */
  createNetns(): Promise<number>;
  /** Makes the bridge (true) or brings an existing one of ours to these settings. */
  ensureBridge(options: BridgeOptions): Promise<boolean>;
  /** Kind `notFound` when there is none. Nobody finds it any more from then on. */
  deleteLink(name: string): Promise<void>;
  /** An endpoint is going: what tells of it holds its namespace. deleteLink does it as well for a host's end. */
  stopAdvertising(announcer: string): void;
  /** veth in one message with its peer born in the namespace, on the bridge, addresses, routes, up. */
  createEndpoint(options: EndpointOptions): Promise<void>;
  /**
   * The host's device for `createChild` is there and up. Of one that is not, `eth0.10` is made as VLAN 10 of eth0, a `dummy`
   * as one that leads nowhere; kind `notFound` for another name, `unsupported` where the kernel has no such devices.
   */
  ensureParent(name: string, dummy: boolean): Promise<void>;
  /** Deletes a bridge or a parent when it was made here, and leaves somebody else's. */
  deleteOwnLink(name: string): Promise<void>;
  /** With prefix lengths, link-local ones included. Kind `notFound` when there is no such device. */
  linkAddresses(name: string): Promise<string[]>;
  /** A device of its own on one of the host's; kind `unsupported` where the kernel has no such driver. */
  createChild(options: ChildOptions): Promise<void>;
  /** Takes a device of a container away, from within its namespace. */
  deleteChild(netnsFd: number, name: string): Promise<void>;
  /** `net.…` of a namespace; kind `invalid` for one that the kernel does not have. */
  setSysctls(netnsFd: number, sysctls: Record<string, string>): Promise<void>;
  /** Sockets that take what a container sends to 127.0.0.11:53; those of an earlier call are not reached any more. */
  createResolverSockets(netnsFd: number): Promise<{ udpFd: number; tcpFd: number }>;
  /** A duplicate of a socket that the container's shim holds, by its `proto`; kind `gone` when it holds none. */
  heldSocket(id: string, stateDir: string, proto: PortSocket['proto']): Promise<number>;
  /** Replaces our table in one transaction. */
  applyRuleset(ruleset: Ruleset): Promise<RulesetReport>;
  /** Brings our rules in others' chains to the mode; nothing else is touched. */
  refreshForeign(table: string, mode: Ruleset['firewall']): Promise<RulesetReport>;
  /** Tells of changes that others make: to our table, or to their own chains. Once, after applyRuleset. */
  watchFirewall(table: string, onChange: (change: 'ours' | 'foreign') => void): Promise<void>;
  addBridgeRules(table: string, rules: BridgeRules): Promise<void>;
  removeBridgeRules(table: string, rules: BridgeRules): Promise<void>;
  addPorts(table: string, ports: PublishedPort[]): Promise<void>;
  removePorts(table: string, ports: PublishedPort[]): Promise<void>;
  deleteRuleset(table: string): Promise<void>;
  /** Binds (and for tcp listens on) each; all or none. Kind `conflict` names the port and, where it can be told, the holder's pid and command. `hostPort` 0 picks from `range`. */
  reservePorts(
    ports: { proto: 'tcp' | 'udp' | 'sctp'; hostIp: string; hostPort: number }[],
  ): Promise<{ fds: number[]; hostPorts: number[] }>;
  listRoutes(): Promise<RouteInfo[]>;
  /** Forwarding of the host, of IPv4 or of IPv6: switched on if it was off (true), and then for our own traffic only. */
  enableForwarding(ipv6: boolean, dropsForeign: boolean): Promise<boolean>;
  /** Which of a container's devices leads out, in place of whichever did. `netnsFd` is not consumed. */
  setDefaultRoutes(options: { netnsFd: number; routes: DeviceRoutes[] }): Promise<void>;
}

// ----------------------------------------------------------------------------------------------------------- loading

/** The addon's own shape: every asynchronous call resolves to a NativeResult. */
type Raw = {
  [K in keyof Native]: Native[K] extends (...args: infer A) => Promise<infer R>
    ? (...args: A) => Promise<NativeResult<R extends undefined ? null : R>>
    : Native[K];
};

/** Calls that answer at once and cannot fail in an expected way. */
const DIRECT = new Set<keyof Native>([
  'acknowledgeExec',
  'endLog',
  'closeFd',
  'dupFd',
  'openLayer',
  'pipe',
  'socketPair',
  'stopAdvertising',
  'unwatchClient',
  'watchClient',
]);

/** Loads the addon of this build. Throws with the path when it is missing or was built for another Node. */
export function loadNative(): Native {
  const raw = createRequire(import.meta.url)(nativeFile(ADDON)) as Raw;
  const wrapped: Record<string, unknown> = {};
  for (const name of Object.keys(raw) as (keyof Native)[]) {
    const call = raw[name] as (...args: unknown[]) => Promise<NativeResult<unknown>>;
    wrapped[name] = DIRECT.has(name) ? call : async (...args: unknown[]) => unwrap(await call(...args));
  }
  return wrapped as unknown as Native;
}
