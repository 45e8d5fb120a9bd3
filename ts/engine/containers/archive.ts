/** `cp` both ways and `diff`. How paths are resolved is in crates/libcontainer-sys/src/layer/archive. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CaissonError } from '../../errdefs.ts';
import { NEVER } from '../../graph/containers.ts';
import type { ImageRunConfig } from '../../oci.ts';
import type { CommitSource } from '../images/commit.ts';
import { NativeError } from '../native/failure.ts';
import type { ArchivePathStat, ArchiveView } from '../native/files.ts';
import { containerFiles } from '../network/containerFiles.ts';
import type { ContainerConfig, MountPoint } from './config.ts';
import type { ContainerContext } from './context.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';
import { cgroupOf, filesDir, overlayOf, rootHolder } from './spawn.ts';

export interface WriteOptions {
  /** A directory may not replace another kind of thing, nor be replaced by one. */
  keepKinds: boolean;
  /** Everything belongs to the container's user. */
  ownedByUser: boolean;
}

export interface FileChange {
  /** 0 modified, 1 added, 2 deleted. */
  Kind: number;
  Path: string;
}

const CHANGE_KINDS = { modified: 0, added: 1, deleted: 2 };

export class Archives {
  readonly #ctx: ContainerContext;

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
  }

  stat(idOrName: string, path: string): Promise<ArchivePathStat> {
    return this.#withView(idOrName, path, false, (view) => this.#ctx.native.statArchive(view, path));
  }

  /** The stream breaks off with an error when the archive cannot be completed. */
  async read(idOrName: string, path: string): Promise<{ stat: ArchivePathStat; stream: Readable }> {
    const { native, events, graph } = this.#ctx;
    const stat = await this.stat(idOrName, path);
    const [readFd, writeFd] = native.pipe();
    const stream = new Socket({ fd: readFd, readable: true, writable: false });
    const first = once(stream, 'readable');
    const packed = this.#withView(idOrName, path, false, (view) => native.readArchive(view, path, {}, writeFd));
    packed.catch((error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))));
    // what fails before the first byte is an answer of its own
    await Promise.race([first, packed]);
    await first;
    events.container(readRecord(graph.containers.resolve(idOrName)), 'archive-path');
    return { stat, stream };
  }

  async write(idOrName: string, path: string, options: WriteOptions, body: AsyncIterable<Buffer>): Promise<void> {
    const { native, events, graph } = this.#ctx;
    const record = readRecord(graph.containers.resolve(idOrName));
    const owner = options.ownedByUser && record.config.User !== '' ? { owner: record.config.User } : {};
    await this.#withView(idOrName, path, true, async (view) => {
      const [readFd, writeFd] = native.pipe();
      const stream = new Socket({ fd: writeFd, readable: false, writable: true });
      const unpacked = native.writeArchive(view, path, { keepKinds: options.keepKinds, ...owner }, readFd);
      // whoever unpacks and stops early closes the pipe; why, he says himself
      await Promise.all([unpacked, pipeline(Readable.from(body), stream).catch(ignoreClosed)]);
    });
    events.container(record, 'extract-to-dir');
  }

  async changes(idOrName: string): Promise<FileChange[]> {
    const { upper, lower } = overlayOf(this.#ctx, readRecord(this.#ctx.graph.containers.resolve(idOrName)));
    const changes = await this.#ctx.native.listChanges({ upper, lower });
    return changes.map(({ kind, path }) => ({ Kind: CHANGE_KINDS[kind], Path: path }));
  }

  /** The root filesystem without what is mounted in it, to the client's connection; `fd` is consumed. */
  async export(record: ContainerRecord, fd: number, head: string): Promise<void> {
    const { upper, lower } = overlayOf(this.#ctx, record);
    const process = isRunning(record.row) ? { process: rootHolder(this.#ctx, record) } : {};
    await this.#ctx.native.exportTree({ ...process, layers: [upper, ...lower], fd, head });
    this.#ctx.events.container(record, 'export');
  }

  /** What `docker commit` makes a layer of, and what the container runs with. */
  committable(idOrName: string): CommitSource {
    const record = readRecord(this.#ctx.graph.containers.resolve(idOrName));
    const { row, config, hostConfig } = record;
    const { upper } = overlayOf(this.#ctx, record);
    return {
      id: row.id,
      imageId: row.imageId,
      chainId: row.chainId,
      config: runConfig(config),
      upper,
      cgroup: cgroupOf(this.#ctx, hostConfig, row.id),
      running: row.status === 'running',
      attributes: { ...config.Labels, image: row.imageName, name: row.name },
    };
  }

  async #withView<T>(
    idOrName: string,
    path: string,
    write: boolean,
    use: (view: ArchiveView) => Promise<T>,
  ): Promise<T> {
    const { graph, live, runner } = this.#ctx;
    const { id } = graph.containers.resolve(idOrName);
    if (path === '') throw new CaissonError('InvalidParameter', 'bad parameter: path cannot be empty');
    const row = graph.containers.resolve(id);
    try {
      if (isRunning(row)) return await use(this.#running(readRecord(row), write)).catch(rephrase(path, idOrName));
    } catch (error) {
      if (!hasEnded(error)) throw error;
      // between the look at the row and the opening it ended: now it is a stopped one
      if (isRunning(graph.containers.resolve(id))) await live.of(id).wait('next-exit');
      return this.#withView(id, path, write, use);
    }
    // mount points are made by the first start: until then they have to be made here
    const writable = write || row.startedAt === NEVER;
    if (!writable) return this.#stopped(readRecord(row), false, use).catch(rephrase(path, idOrName));
    const held = await runner.lock([`container:${id}`]);
    try {
      const now = graph.containers.resolve(id);
      await live.of(id).cleanup;
      return await this.#stopped(readRecord(now), true, use).catch(rephrase(path, idOrName));
    } finally {
      held.release();
    }
  }

  #running(record: ContainerRecord, writable: boolean): ArchiveView {
    const process = rootHolder(this.#ctx, record);
    if (process.root === undefined) return { process, overlay: overlayOf(this.#ctx, record) };
    const placed = this.#ctx.pluginVolumes.mounts.placed(record.row.id, record.detail.mountPoints);
    return { ...this.#view(record, writable, placed), process };
  }

  #stopped<T>(record: ContainerRecord, writable: boolean, use: (view: ArchiveView) => Promise<T>): Promise<T> {
    return this.#ctx.pluginVolumes.mounts.during(record.detail.mountPoints, (mountPoints) =>
      use(this.#view(record, writable, mountPoints)),
    );
  }

  /** Of its parts, as it would be started with them. */
  #view(record: ContainerRecord, writable: boolean, mountPoints: MountPoint[]): ArchiveView {
    const { hostConfig } = record;
    const overlay = overlayOf(this.#ctx, record);
    const mounts = mountPoints
      .filter(({ type, filesystem }) => type !== 'tmpfs' && type !== 'image' && !filesystem)
      .map(({ source, destination, subpath = '', writable: rw }) => ({ source, destination, subpath, readOnly: !rw }));
    const files = containerFiles(filesDir(this.#ctx, record));
    for (const [destination, source] of [
      ['/etc/resolv.conf', files.resolvConf],
      ['/etc/hostname', files.hostname],
      ['/etc/hosts', files.hosts],
    ] as const) {
      if (existsSync(source) && !mounts.some((mount) => mount.destination === destination)) {
        mounts.push({ source, destination, subpath: '', readOnly: false });
      }
    }
    const depth = (at: string): number => at.split('/').filter((part) => part !== '').length;
    mounts.sort((a, b) => depth(a.destination) - depth(b.destination));
    return { overlay, mounts, readOnly: hostConfig.ReadonlyRootfs, writable };
  }
}

/** The part of a container's config that an image may have. */
function runConfig(config: ContainerConfig): ImageRunConfig {
  const { User, ExposedPorts, Env, Entrypoint, Cmd, Volumes, WorkingDir, Labels, StopSignal, Shell, OnBuild } = config;
  const { Healthcheck } = config;
  const all = { User, ExposedPorts, Env, Entrypoint, Cmd, Volumes, WorkingDir, Labels, StopSignal, Shell, OnBuild };
  return Object.fromEntries(
    Object.entries({ ...all, Healthcheck }).filter(([, value]) => value != null),
  ) as ImageRunConfig;
}

const failureOf = (error: unknown) =>
  error instanceof CaissonError && error.cause instanceof NativeError ? error.cause.failure : undefined;

const hasEnded = (error: unknown): boolean => failureOf(error)?.kind === 'gone';

/** Docker's sentence for a path that is not there. */
function rephrase(path: string, container: string): (error: unknown) => never {
  return (error) => {
    if (failureOf(error)?.kind !== 'notFound') throw error;
    throw new CaissonError('NotFound', `Could not find the file ${path} in container ${container}`, {
      code: 'PATH_NOT_FOUND',
      cause: error,
    });
  };
}

function ignoreClosed(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'EPIPE' && (error as NodeJS.ErrnoException).code !== 'ECONNRESET')
    throw error;
}
