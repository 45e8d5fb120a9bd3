/** `rm`: rows and name go first, so that both are free at once; then what is on disk, which a restart would finish. */
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { ContainerRow } from '../../graph/containers.ts';
import { type JobKind, lock } from '../jobs/kinds.ts';
import { LOCAL } from '../volumes/drivers.ts';
import type { ContainerContext } from './context.ts';
import type { Live } from './live.ts';
import { isRunning, readRecord } from './record.ts';
import { cgroupOf } from './spawn.ts';

export interface RemovePlan {
  id: string;
  stateDir: string;
  cgroup: string;
  volumes: boolean;
  automatic: boolean;
  /** Anonymous volumes that go with it. */
  removeVolumes: string[];
  /** The same of plugins. */
  pluginVolumes: { name: string; driver: string }[];
}

export interface RemoveOptions {
  /** Anonymous volumes too. */
  volumes: boolean;
  /** By `--rm`: nobody was promised that it is durable. */
  automatic?: boolean;
  /** Ends it first. */
  kill?: (id: string) => Promise<void>;
}

export class Remover {
  readonly kinds: JobKind<RemovePlan>[];
  readonly #ctx: ContainerContext;
  readonly #byUser: JobKind<RemovePlan>;
  readonly #automatic: JobKind<RemovePlan>;

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
    this.#byUser = this.#kind('remove', true);
    this.#automatic = this.#kind('autoremove', false);
    this.kinds = [this.#byUser, this.#automatic];
  }

  async remove(idOrName: string, options: RemoveOptions): Promise<void> {
    const { graph, live, paths } = this.#ctx;
    const row = graph.containers.resolve(idOrName);
    const state = live.of(row.id);
    const { hostConfig } = readRecord(row);
    if ((isRunning(row) || row.status === 'restarting') && !options.kill) throw inUse(row.name, row.status);
    const automatic = options.automatic ?? false;
    const plan = {
      id: row.id,
      stateDir: paths.stateDir(row.id),
      cgroup: cgroupOf(this.#ctx, hostConfig, row.id),
      volumes: options.volumes,
      automatic,
      removeVolumes: [],
      pluginVolumes: [],
    };
    // from here on nothing starts it, but what had begun to
    state.removing = true;
    state.callOffRestart();
    try {
      do {
        if (isRunning(graph.containers.resolve(row.id))) await options.kill?.(row.id);
        await state.cleanup;
        await this.#ctx.forwarder.finish(row.id);
      } while (!(await this.#removed(automatic ? this.#automatic : this.#byUser, plan, options)));
    } catch (error) {
      state.removing = false;
      // with its row the container has gone; what is left of it is the job's to remove when it is tried again
      if (graph.containers.get(row.id) === undefined) this.#gone(row, state);
      throw error;
    }
    this.#gone(row, state);
  }

  /** False when a start that was under way came before, and its container can be ended. */
  async #removed(kind: JobKind<RemovePlan>, plan: RemovePlan, { kill }: RemoveOptions): Promise<boolean> {
    try {
      await this.#ctx.runner.run(kind, plan);
      return true;
    } catch (error) {
      if (kill && error instanceof CaissonError && error.code === 'CONTAINER_RUNNING') return false;
      throw error;
    }
  }

  /** Who waits for the removal is told. */
  #gone(row: ContainerRow, state: Live): void {
    this.#ctx.pending.close(row.id);
    state.notify(['removed', 'not-running', 'next-exit'], { exitCode: state.lastExit?.exitCode ?? row.exitCode });
    this.#ctx.live.forget(row.id);
  }

  #kind(kind: string, durable: boolean): JobKind<RemovePlan> {
    const { native, paths } = this.#ctx;
    return {
      kind,
      subject: ({ id }) => id,
      claims: ({ id }) => [lock(`container:${id}`)],
      begin: (plan) => this.#begin(plan),
      commitPoint: 0,
      durable,
      steps: [
        {
          name: 'kernel',
          medium: 'kernel',
          do: ({ id, stateDir, cgroup }) => native.destroyContainer({ id, stateDir, cgroup }),
        },
        {
          name: 'disk',
          medium: 'disk',
          do: async ({ id, removeVolumes, pluginVolumes = [] }) => {
            await Promise.all([
              native.removeTree(join(paths.overlay, id)),
              native.removeTree(paths.containerDir(id)),
              ...removeVolumes.map((name) => this.#removeVolume(name)),
              ...pluginVolumes.map((volume) => this.#ctx.pluginVolumes.forget(volume)),
            ]);
          },
        },
      ],
    };
  }

  async #removeVolume(name: string): Promise<void> {
    // made again under the same name meanwhile: then it is not ours to remove
    if (!this.#ctx.graph.volumes.get(name)) await this.#ctx.volumes.removeDirectory(name);
  }

  /** The rows, in the job's first transaction. */
  #begin(plan: RemovePlan): RemovePlan {
    const { graph, events } = this.#ctx;
    const row = graph.containers.resolve(plan.id);
    if (isRunning(row)) throw inUse(row.name, row.status);
    const record = readRecord(row);
    const mounted = graph.volumes.usedBy(row.id).map(({ volumeName }) => volumeName);
    events.container(record, 'destroy');
    graph.containers.delete(row.id);
    const orphans = plan.volumes ? [...new Set(mounted)].filter((name) => this.#isOrphan(name)) : [];
    const gone = orphans.map((name) => ({ name, driver: graph.volumes.resolve(name).driver }));
    for (const { name, driver } of gone) {
      graph.volumes.delete(name);
      this.#ctx.volumes.event('destroy', name, driver);
    }
    return {
      ...plan,
      removeVolumes: gone.filter(({ driver }) => driver === LOCAL).map(({ name }) => name),
      pluginVolumes: gone.filter(({ driver }) => driver !== LOCAL),
    };
  }

  /** Anonymous, and no other container mounts it. */
  #isOrphan(name: string): boolean {
    const { volumes } = this.#ctx.graph;
    return volumes.get(name)?.anonymous === true && volumes.users(name).length === 0;
  }
}

const inUse = (name: string, status: string): CaissonError =>
  new CaissonError(
    'Conflict',
    `cannot remove container "${name}": container is ${status}: stop the container before removing or force remove`,
    { code: 'CONTAINER_RUNNING' },
  );
