/** A real daemon over roots of its own, driven by the real docker client. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../ts/packageRoot.ts';
import { buildImage, busyboxTar, ociArchive } from './image.ts';

export interface CommandResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface HttpResult {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

let counter = 0;

export class TestDaemon implements AsyncDisposable {
  readonly dir: string;
  /** Distinguishes this daemon's bridge, table and cgroup parent from every other's. */
  readonly tag: string;
  readonly socket: string;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly cgroupParent: string;
  readonly bridge: string;
  /** Programs in front of the daemon's own, which must become it: `nsenter`. */
  launcher: string[] = [];
  /** Another daemon with dockerd's flags in our place; it has a bridge of its own choice. */
  peer: string | undefined;
  #flags: string[];
  #child: ChildProcess | undefined;

  constructor(flags: string[] = []) {
    this.tag = `ct${process.pid.toString(36)}${(counter++).toString(36)}`;
    this.dir = mkdtempSync(join(tmpdir(), 'caisson-test-'));
    this.socket = join(this.dir, 'caisson.sock');
    this.dataRoot = join(this.dir, 'data');
    this.execRoot = join(this.dir, 'exec');
    this.cgroupParent = `/${this.tag}`;
    this.bridge = `${this.tag}0`;
    this.#flags = flags;
    mkdirSync(join(this.dir, 'docker-config'));
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error('the daemon does not run');
    return pid;
  }

  /** Its end is seen a moment after its clients see theirs. */
  get alive(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get logs(): string {
    return readFileSync(join(this.dir, 'daemon.log'), 'utf8');
  }

  /** `flags`: of this start alone, beside those of the constructor. */
  async start(env: Record<string, string> = {}, flags: string[] = []): Promise<this> {
    const log = openSync(join(this.dir, 'daemon.log'), 'a');
    const name = [...this.#flags, ...flags].includes('--bridge') ? [] : ['--bridge-name', this.bridge];
    const own = [join(packageRoot, 'bin/caisson'), 'daemon', ...name];
    const command = this.peer === undefined ? own : [this.peer, '--config-file', '/dev/null', '--live-restore'];
    const [program = '', ...prefix] = [...this.launcher, ...command];
    const child = spawn(
      program,
      [
        ...prefix,
        '-H',
        `unix://${this.socket}`,
        '--data-root',
        this.dataRoot,
        '--exec-root',
        this.execRoot,
        '--pidfile',
        join(this.dir, 'daemon.pid'),
        '--cgroup-parent',
        this.cgroupParent,
        ...this.#flags,
        ...flags,
      ],
      { stdio: ['ignore', log, log], env: { ...process.env, ...env } },
    );
    closeSync(log);
    this.#child = child;
    // an emulated machine on a busy one takes more than a minute
    const deadline = Date.now() + 150_000;
    for (;;) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`daemon ended (${child.exitCode ?? child.signalCode}):\n${this.logs}`);
      const ok = await this.http('GET', '/_ping').then(
        (r) => r.status === 200,
        () => false,
      );
      if (ok) return this;
      if (Date.now() > deadline) throw new Error(`daemon does not answer:\n${this.logs}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Ends the daemon by a signal and waits until it has gone; containers stay. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  /** Resolves when the daemon has ended by itself (a crash point). */
  async ended(): Promise<void> {
    const child = this.#child;
    if (child && child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }

  http(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<HttpResult> {
    return new Promise((resolve, reject) => {
      const data =
        body === undefined
          ? undefined
          : Buffer.isBuffer(body) || typeof body === 'string'
            ? body
            : JSON.stringify(body);
      const req = request(
        {
          socketPath: this.socket,
          method,
          path,
          headers: {
            ...(data !== undefined && {
              'content-type': 'application/json',
              'content-length': Buffer.byteLength(data),
            }),
            ...headers,
          },
        },
        (res) => {
          const chunks: Buffer[] = [];
          res.on('data', (chunk: Buffer) => chunks.push(chunk));
          res.on('end', () =>
            resolve({ status: res.statusCode ?? 0, headers: res.headers, body: Buffer.concat(chunks).toString() }),
          );
          res.on('error', reject);
        },
      );
      req.on('error', reject);
      req.end(data);
    });
  }

  /** The unmodified docker client. Never throws on an exit code. */
  docker(
    args: string[],
    options: { input?: string | Buffer; timeoutMs?: number; cwd?: string } = {},
  ): Promise<CommandResult> {
    return run('docker', args, {
      ...options,
      env: {
        ...process.env,
        DOCKER_HOST: `unix://${this.socket}`,
        DOCKER_CONFIG: join(this.dir, 'docker-config'),
        DOCKER_CONTENT_TRUST: '',
        DOCKER_BUILDKIT: '0',
      },
    });
  }

  /** Our own CLI, as docker(). */
  caisson(args: string[], options: { input?: string; cwd?: string } = {}): Promise<CommandResult> {
    return run(join(packageRoot, 'bin/caisson'), args, {
      ...options,
      env: {
        ...process.env,
        CAISSON_HOST: `unix://${this.socket}`,
        DOCKER_CONFIG: join(this.dir, 'docker-config'),
      },
    });
  }

  /** As docker(), but a code other than 0 is an error; gives trimmed stdout. */
  async dockerOk(...args: string[]): Promise<string> {
    const result = await this.docker(args);
    if (result.code !== 0)
      throw new Error(`docker ${args.join(' ')}: exit ${result.code}\n${result.stderr}${result.stdout}`);
    return result.stdout.trim();
  }

  /** The image `busybox`, with further files and settings. */
  async loadBusybox(files: Record<string, string> = {}, config: Parameters<typeof buildImage>[1] = {}): Promise<void> {
    const image = buildImage([await busyboxTar(files)], config);
    const loaded = await this.docker(['load'], { input: await ociArchive(image, 'docker.io/library/busybox:latest') });
    if (loaded.code !== 0) throw new Error(`docker load: ${loaded.stderr}`);
  }

  /** With their anonymous volumes, running or not. */
  async removeContainers(): Promise<void> {
    const ids = (await this.dockerOk('ps', '-aq')).split('\n').filter((id) => id !== '');
    if (ids.length > 0) await this.dockerOk('rm', '-f', '-v', ...ids);
  }

  /** Removes all containers, ends the daemon and deletes its roots and what it left on the host. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      const ids = JSON.parse((await this.http('GET', '/containers/json?all=1')).body) as { Id: string }[];
      for (const { Id } of ids) await this.http('DELETE', `/containers/${Id}?force=1&v=1`);
      await this.http('POST', '/networks/prune');
    } catch {
      // the daemon does not run: the caller ended it on purpose
    }
    await this.kill('SIGTERM');
    rmSync(this.dir, { recursive: true, force: true });
    this.#leaveHost();
  }

  /** What a daemon leaves to the next one: its bridge, its table, its cgroup parent. Here there is no next one. */
  #leaveHost(): void {
    for (const [command = '', ...args] of [
      ['ip', 'link', 'delete', this.bridge],
      ['nft', 'delete', 'table', 'inet', `caisson_${this.bridge}`],
    ]) {
      // fails where the daemon made none, or never came up
      spawnSync(command, args, { stdio: 'ignore' });
    }
    for (const hierarchy of ['', ...readdirSync('/sys/fs/cgroup')]) {
      const parent = join('/sys/fs/cgroup', hierarchy, this.cgroupParent);
      if (!existsSync(parent)) continue;
      for (const path of [join(parent, 'shims'), parent]) if (existsSync(path)) rmdirSync(path);
    }
  }
}

export function run(
  command: string,
  args: string[],
  options: { input?: string | Buffer; timeoutMs?: number; env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      {
        encoding: 'utf8',
        maxBuffer: 256 << 20,
        timeout: options.timeoutMs ?? 60_000,
        killSignal: 'SIGKILL',
        env: options.env ?? process.env,
        cwd: options.cwd,
      },
      (error, stdout, stderr) => {
        if (error && typeof error.code !== 'number')
          return reject(new Error(`${command} ${args.join(' ')}: ${error.message} (${error.signal ?? ''})\n${stderr}`));
        resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
      },
    );
    child.stdin?.on('error', () => {}); // the program may end before it has read all
    child.stdin?.end(options.input ?? '');
  });
}
