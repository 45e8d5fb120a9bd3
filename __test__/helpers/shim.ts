/** Containers straight through the addon, without a daemon: the shim and what it does, seen from Node. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type {
  ClientStream,
  ContainerConfig,
  ExitStatus,
  RuntimeEvent,
  SpawnOptions,
} from '../../ts/engine/native/containers.ts';
import type { Native } from '../../ts/engine/native/index.ts';
import { packageRoot } from '../../ts/packageRoot.ts';
import { busyboxTar } from './image.ts';

export interface LogRecord {
  log: string;
  stream: string;
  time: string;
  attrs?: Record<string, string>;
}

type Stdio = Partial<ContainerConfig['stdio']>;

export class ShimLab implements AsyncDisposable {
  readonly native: Native;
  readonly dir: string;
  readonly cgroup: string;
  readonly events: RuntimeEvent[] = [];
  #waiting: (() => void)[] = [];
  #ids: string[] = [];

  private constructor(native: Native, dir: string) {
    this.native = native;
    this.dir = dir;
    this.cgroup = `/caisson-test-shim-${process.pid}`;
  }

  static async open(native: Native): Promise<ShimLab> {
    const lab = new ShimLab(native, mkdtempSync(join(tmpdir(), 'caisson-shim-')));
    mkdirSync(join(lab.dir, 'rootfs'));
    writeFileSync(join(lab.dir, 'rootfs.tar'), await busyboxTar());
    execFileSync('tar', ['-xf', join(lab.dir, 'rootfs.tar'), '-C', join(lab.dir, 'rootfs')]);
    await native.startRuntime({
      shimPath: join(packageRoot, 'build/caisson-shim'),
      onEvent: (event) => {
        lab.events.push(event);
        for (const wake of lab.#waiting.splice(0)) wake();
      },
    });
    return lab;
  }

  /** Resolves with the first event, past or future, that fits. */
  async event<T extends RuntimeEvent['type']>(
    id: string,
    type: T,
    fits: (event: Extract<RuntimeEvent, { type: T }>) => boolean = () => true,
  ): Promise<Extract<RuntimeEvent, { type: T }>> {
    for (;;) {
      for (const event of this.events) {
        if (event.id === id && event.type === type && fits(event as Extract<RuntimeEvent, { type: T }>))
          return event as Extract<RuntimeEvent, { type: T }>;
      }
      await new Promise<void>((wake) => this.#waiting.push(wake));
    }
  }

  options(args: string[], stdio: Stdio = {}, log: Partial<ContainerConfig['log']> = {}): SpawnOptions {
    const id = randomBytes(32).toString('hex');
    this.#ids.push(id);
    const all = ['CAP_CHOWN', 'CAP_KILL', 'CAP_SETUID', 'CAP_SETGID'];
    return {
      id,
      stateDir: this.stateDir(id),
      shimCgroup: `${this.cgroup}/shims`,
      spec: {
        ociVersion: '1.2.0',
        hostname: 'lab',
        process: {
          terminal: stdio.tty ?? false,
          user: { uid: 0, gid: 0 },
          args,
          env: ['PATH=/bin', 'TERM=xterm'],
          cwd: '/',
          noNewPrivileges: false,
          capabilities: { bounding: all, effective: all, permitted: all, inheritable: [], ambient: [] },
        },
        mounts: [
          { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
          { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
          {
            destination: '/dev/pts',
            type: 'devpts',
            source: 'devpts',
            options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'],
          },
        ],
        linux: {
          namespaces: [{ type: 'pid' }, { type: 'mount' }, { type: 'network' }, { type: 'ipc' }, { type: 'uts' }],
          cgroupsPath: this.cgroupOf(id),
          resources: {},
        },
      },
      rootfs: { path: join(this.dir, 'rootfs') },
      process: { user: '', additionalGroups: [] },
      stdio: { tty: false, openStdin: false, stdinOnce: false, ...stdio },
      log: { driver: 'json-file', path: this.logPath(id), ...log },
      init: false,
      ports: [],
    };
  }

  /** Spawned and started. */
  async start(options: SpawnOptions): Promise<string> {
    await this.native.spawnShim(options);
    await this.native.startContainer(options.id);
    return options.id;
  }

  async run(args: string[], stdio: Stdio = {}, log: Partial<ContainerConfig['log']> = {}): Promise<string> {
    return await this.start(this.options(args, stdio, log));
  }

  async exit(id: string): Promise<ExitStatus> {
    return (await this.event(id, 'exit')).exit;
  }

  stateDir(id: string): string {
    return join(this.dir, id);
  }

  cgroupOf(id: string): string {
    return `${this.cgroup}/${id}`;
  }

  logPath(id: string): string {
    return join(this.dir, `${id}-json.log`);
  }

  log(id: string): LogRecord[] {
    const lines = readFileSync(this.logPath(id), 'utf8').split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as LogRecord);
  }

  /** All text of one stream. */
  text(id: string, stream: 'stdout' | 'stderr' = 'stdout'): string {
    return this.log(id)
      .filter((record) => record.stream === stream)
      .map((record) => record.log)
      .join('');
  }

  async destroy(id: string): Promise<void> {
    await this.native.destroyContainer({ id, stateDir: this.stateDir(id), cgroup: this.cgroupOf(id) });
  }

  /** What a container has left behind on this host. */
  leftovers(id: string): string[] {
    const found = existsSync(this.stateDir(id)) ? [this.stateDir(id)] : [];
    for (const controller of readdirSync('/sys/fs/cgroup')) {
      const path = `/sys/fs/cgroup/${controller}${this.cgroupOf(id)}`;
      if (existsSync(path)) found.push(path);
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of this.#ids) await this.destroy(id);
    for (const controller of readdirSync('/sys/fs/cgroup')) {
      for (const path of [`${this.cgroup}/shims`, this.cgroup])
        if (existsSync(`/sys/fs/cgroup/${controller}${path}`))
          execFileSync('rmdir', [`/sys/fs/cgroup/${controller}${path}`]);
    }
    rmSync(this.dir, { recursive: true });
  }
}

/** A client's end of a connection, and the descriptor of the other end, as a server's connection has it. */
export class Connection {
  readonly socket: Socket;
  readonly fd: number;
  #received = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #ended = false;

  private constructor(socket: Socket, fd: number) {
    this.socket = socket;
    this.fd = fd;
    const wake = () => this.#wake();
    socket.on('data', (data: Buffer) => {
      this.#received = Buffer.concat([this.#received, data]);
      wake();
    });
    socket.on('close', () => {
      this.#ended = true;
      wake();
    });
    socket.on('end', () => {
      this.#ended = true;
      wake();
    });
    socket.on('error', wake);
  }

  static async open(native: Native, dir: string): Promise<Connection> {
    const path = join(dir, `client-${randomBytes(6).toString('hex')}.sock`);
    const server: Server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
    const socket = connect({ path, allowHalfOpen: true });
    const theirs = (await accepted) as Socket & { _handle: { fd: number } };
    const fd = native.dupFd(theirs._handle.fd);
    theirs.destroy();
    server.close();
    return new Connection(socket, fd);
  }

  stream(options: Partial<ClientStream> = {}): ClientStream {
    return {
      fd: this.fd,
      head: 'HTTP/1.1 101 UPGRADED\r\n\r\n',
      early: new Uint8Array(),
      stdin: false,
      stdout: true,
      stderr: true,
      raw: false,
      detachKeys: [16, 17],
      ...options,
    };
  }

  /** Everything received so far, once it fits. */
  async until(fits: (received: Buffer) => boolean): Promise<Buffer> {
    while (!fits(this.#received)) {
      if (this.#ended) throw new Error(`the stream ended with ${JSON.stringify(this.#received.toString('latin1'))}`);
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
    return this.#received;
  }

  /** Everything up to the end of the stream, without the head. */
  async rest(): Promise<Buffer> {
    while (!this.#ended) {
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
    this.socket.destroy();
    return this.#received.subarray(this.#received.indexOf('\r\n\r\n') + 4);
  }
}

/** Docker's frames taken apart. */
export function frames(stream: Buffer): { stdout: string; stderr: string } {
  const out = ['', '', ''];
  let at = 0;
  while (at < stream.length) {
    const length = stream.readUInt32BE(at + 4);
    const name = stream[at] as number;
    out[name] += stream.subarray(at + 8, at + 8 + length).toString('latin1');
    at += 8 + length;
  }
  if (at !== stream.length) throw new Error(`the last frame is cut: ${at} is past ${stream.length}`);
  return { stdout: out[1] as string, stderr: out[2] as string };
}
