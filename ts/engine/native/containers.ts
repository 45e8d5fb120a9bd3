/** The TS/Rust boundary: what a container is to its shim, and what its shim tells. */
import type { RuntimeProcess, RuntimeSpec } from '../../oci.ts';

export interface OverlayRootfs {
  /** Absolute paths of the layers' directories, the top one first. */
  lower: string[];
  upper: string;
  work: string;
  volatile: boolean;
}

export interface LogConfig {
  driver: 'json-file' | 'local' | 'none';
  /** Absolute path of the current log file; rotated ones are `path.1`, `path.2`, …, compressed ones `path.1.gz`. */
  path?: string;
  /** Rotate before the file grows past this; absent: never. */
  maxSizeBytes?: number;
  /** Number of files kept, the current one included. */
  maxFiles?: number;
  compress?: boolean;
  /** Write the log from a process of its own: what waits for it takes this many bytes at most, more is dropped. */
  maxBufferBytes?: number;
  /** Extra attributes of each record (json-file `attrs`: labels, env, tag). */
  attrs?: Record<string, string>;
}

/** A socket in the host's namespace that reserves a published port and carries loopback traffic (spliced by the shim). */
export interface PortSocket {
  fd: number;
  /** `resolver-…`: merely held, for the next daemon. */
  proto: 'tcp' | 'udp' | 'sctp' | 'resolver-udp' | 'resolver-tcp';
  hostIp: string;
  hostPort: number;
  containerIp: string;
  containerPort: number;
}

export interface UserSpec {
  /** As in the image config or `--user`: `name`, `uid`, `name:group`, `uid:gid`; resolved in the container's own files. */
  user: string;
  /** `--group-add`: names or numbers. */
  additionalGroups: string[];
}

export interface ContainerConfig {
  /** 64 hex digits. */
  id: string;
  /** The OCI runtime spec. `root.path` is unused when `rootfs.overlay` is given; `linux.cgroupsPath` is the cgroup (`/parent/id`). */
  spec: RuntimeSpec;
  rootfs: { overlay: OverlayRootfs } | { path: string };
  /** Directory of the shim's files, made with mode 0700: `config.json`, `shim.sock`, `exit.json`. */
  stateDir: string;
  /** The cgroup that shims live in, for example `/caisson/shims`; never the container's. */
  shimCgroup: string;
  process: UserSpec;
  stdio: { tty: boolean; openStdin: boolean; stdinOnce: boolean; consoleSize?: { width: number; height: number } };
  log: LogConfig;
  /** Run an init as PID 1 that reaps and forwards signals (`--init`): the shim's own code, no outside program. */
  init: boolean;
  /** Who builds the container in place of the shim: an OCI runtime's command line. */
  runtime?: { path: string; args: string[] };
}

export interface SpawnOptions extends ContainerConfig {
  /** From createNetns; consumed. Absent: `spec.linux.namespaces` says (new empty one, a path, or the host's). */
  netnsFd?: number;
  /** Consumed. */
  ports: PortSocket[];
}

export interface SpawnedContainer {
  shimPid: number;
  /** Field 22 of /proc/pid/stat: with the pid it names a process for good. */
  shimStartTime: number;
  initPid: number;
  initStartTime: number;
}

export interface ExitStatus {
  /** 0 to 255; 128+n when a signal ended it. */
  exitCode: number;
  signal?: number;
  oomKilled: boolean;
  /** RFC 3339 with nanoseconds. */
  exitedAt: string;
  /** Set when the status is not the init's own: `shim lost`. */
  reason?: string;
}

/** State of a container as its shim tells it, or as the files in its state directory tell when the shim has gone. */
export interface ContainerRuntimeState {
  status: 'created' | 'running' | 'paused' | 'exited' | 'lost';
  container?: SpawnedContainer;
  exit?: ExitStatus;
  execs: { execId: string; pid: number; running: boolean; exitCode?: number }[];
}

/** A client's connection handed over to the shim, which writes `head` and then the stream. All of it consumed. */
export interface ClientStream {
  fd: number;
  /** The HTTP response head, up to and with the empty line. */
  head: string;
  /** Bytes that the HTTP parser had already read behind the request. */
  early: Uint8Array;
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** `false`: Docker's 8-byte frames; `true`: raw bytes (a tty). */
  raw: boolean;
  /** Bytes of the detach sequence, for example `[16, 17]`. */
  detachKeys: number[];
}

export interface ExecOptions {
  /** 64 hex digits. */
  execId: string;
  process: RuntimeProcess;
  user: UserSpec;
  privileged: boolean;
  tty: boolean;
  openStdin: boolean;
  consoleSize?: { width: number; height: number };
  /** Absent: detached. */
  client?: ClientStream;
}

export type RuntimeEvent =
  | { type: 'exit'; id: string; exit: ExitStatus }
  | { type: 'oom'; id: string }
  | { type: 'execExit'; id: string; execId: string; exitCode: number }
  | { type: 'detached'; id: string; execId?: string }
  /** Of `watchClient`. */
  | { type: 'clientGone'; id: string; client: number }
  /** The shim ended; `exit` comes before it, or never if it was killed. */
  | { type: 'shimGone'; id: string };

export interface LogRequest {
  driver: 'json-file' | 'local';
  path: string;
  stdout: boolean;
  stderr: boolean;
  timestamps: boolean;
  details: boolean;
  follow: boolean;
  /** Number of last lines; absent: all. */
  tail?: number;
  /** Nanoseconds since the epoch as decimal strings. */
  since?: string;
  until?: string;
  /** `false`: Docker's 8-byte frames. */
  raw: boolean;
  /** All records for one who forwards them, in frames of their own (crates/libcontainer-sys/src/logs/forward.rs), those
   * behind a position that an earlier frame has told, in hexadecimal digits; what chooses and words records means nothing. */
  records?: { behind?: string };
}

export interface CgroupStats {
  /** As Docker's stats JSON wants them; nanoseconds and bytes. */
  cpu: {
    totalUsage: number;
    percpuUsage: number[];
    kernelUsage: number;
    userUsage: number;
    periods: number;
    throttledPeriods: number;
    throttledTime: number;
  };
  memory: { usage: number; maxUsage: number; limit: number; failcnt: number; stats: Record<string, number> };
  pids: { current: number; limit: number };
  blkio: Record<string, { major: number; minor: number; op: string; value: number }[]>;
}
