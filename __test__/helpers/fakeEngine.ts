/** The containers of an engine over roots of its own and a native layer without a kernel, for unit tests. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DaemonConfig, loadConfig } from '../../ts/engine/config.ts';
import { Containers } from '../../ts/engine/containers/containers.ts';
import { EnginePaths } from '../../ts/engine/engine.ts';
import { KindRegistry } from '../../ts/engine/jobs/kinds.ts';
import { JobRunner } from '../../ts/engine/jobs/runner.ts';
import { Plugins } from '../../ts/engine/plugins/plugins.ts';
import { VolumeDrivers } from '../../ts/engine/volumes/drivers.ts';
import { CaissonError } from '../../ts/errdefs.ts';
import { Database } from '../../ts/graph/db.ts';
import { Graph } from '../../ts/graph/graph.ts';
import { createLogger } from '../../ts/log.ts';
import { FakeNative } from './fakeNative.ts';

const log = createLogger('silent');

/** One image, `busybox`. */
function find(name: string) {
  if (name !== 'busybox') throw new CaissonError('NotFound', `No such image: ${name}:latest`);
  const config = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers' as const, diff_ids: [] } };
  return {
    id: `sha256:${'1'.repeat(64)}`,
    chainId: null,
    config: { ...config, config: { Cmd: ['run'], Env: ['PATH=/bin'] } },
  };
}

export class FakeEngine implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'caisson-engine-'));
  readonly fake = new FakeNative();
  db!: Database;
  graph!: Graph;
  containers!: Containers;
  #runner: JobRunner | undefined;

  /** A daemon over the same roots, after the one before was killed; another `bootId` says that the machine went down. */
  async boot(bootId = 'boot-1'): Promise<this> {
    if (this.#runner !== undefined) await this.db.close();
    const { fake } = this;
    const paths = new EnginePaths(join(this.dir, 'data'), join(this.dir, 'exec'));
    for (const path of [paths.overlay, paths.containers, paths.volumes, paths.state])
      mkdirSync(path, { recursive: true });
    this.db = new Database(paths.database);
    this.graph = new Graph(this.db);
    const config: DaemonConfig = loadConfig(['--data-root', paths.dataRoot, '--exec-root', paths.execRoot]);
    const registry = new KindRegistry();
    const runner = new JobRunner({ db: this.db, jobs: this.graph.jobs, registry, bootId, log });
    this.#runner = runner;
    const engine = { graph: this.graph, native: fake, config, log, paths, host: await fake.probeHost() };
    const volumeDrivers = new VolumeDrivers(new Plugins());
    const containers = new Containers({ engine, runner, registry, bootId, images: { find }, volumeDrivers });
    this.containers = containers;
    await fake.startRuntime({ onEvent: (event) => containers.onEvent(event) });
    await containers.adopt();
    await runner.recover();
    await containers.settle();
    return this;
  }

  async create(cmd: string[], hostConfig: object = {}, name = ''): Promise<string> {
    return (await this.containers.create({ Image: 'busybox', Cmd: cmd, HostConfig: hostConfig }, { name })).id;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const row of this.graph.containers.all()) await this.containers.remove(row.id, { force: true, volumes: true });
    await this.db.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
