/** `pause` and `unpause`. A pause that was cut off is taken back, an unpause goes on: a container rather runs than stands. */
import { CaissonError, isKind } from '../../errdefs.ts';
import { type JobKind, lock } from '../jobs/kinds.ts';
import type { ContainerContext } from './context.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';
import { cgroupOf } from './spawn.ts';

export interface FreezePlan {
  id: string;
  cgroup: string;
}

export class Freezer {
  readonly kinds: JobKind<FreezePlan>[];
  readonly #ctx: ContainerContext;
  readonly #pause: JobKind<FreezePlan>;
  readonly #unpause: JobKind<FreezePlan>;

  constructor(ctx: ContainerContext) {
    this.#ctx = ctx;
    const about: Pick<JobKind<FreezePlan>, 'subject' | 'claims' | 'durable'> = {
      subject: ({ id }) => id,
      claims: ({ id }) => [lock(`container:${id}`)],
      durable: false,
    };
    this.#pause = {
      ...about,
      kind: 'pause',
      begin: (plan) => this.#check(plan.id, 'running'),
      commitPoint: 1,
      steps: [{ name: 'freeze', medium: 'kernel', do: (plan) => this.#freeze(plan), undo: (plan) => this.#undo(plan) }],
    };
    this.#unpause = {
      ...about,
      kind: 'unpause',
      begin: (plan) => this.#check(plan.id, 'paused'),
      commitPoint: 0,
      steps: [{ name: 'thaw', medium: 'kernel', do: async (plan) => ({ rows: await this.#thaw(plan) }) }],
    };
    this.kinds = [this.#pause, this.#unpause];
  }

  pause(idOrName: string): Promise<object> {
    return this.#ctx.runner.run(this.#pause, this.#plan(idOrName));
  }

  unpause(idOrName: string): Promise<object> {
    return this.#ctx.runner.run(this.#unpause, this.#plan(idOrName));
  }

  /** As a part of ending a container that may be paused. */
  async thaw(plan: FreezePlan): Promise<void> {
    const rows = await this.#thaw(plan);
    this.#ctx.graph.db.transaction(rows);
  }

  #plan(idOrName: string): FreezePlan {
    const { row, hostConfig } = readRecord(this.#ctx.graph.containers.resolve(idOrName));
    return { id: row.id, cgroup: cgroupOf(this.#ctx, hostConfig, row.id) };
  }

  #check(id: string, wanted: 'running' | 'paused'): void {
    const row = this.#ctx.graph.containers.resolve(id);
    if (wanted === 'paused') {
      if (row.status !== wanted) throw new CaissonError('Conflict', `Container ${id} is not paused`);
      return;
    }
    if (row.status === 'restarting') {
      throw new CaissonError('Conflict', `Container ${id} is restarting, wait until the container is running`);
    }
    if (!isRunning(row)) throw new CaissonError('Conflict', `container ${id} is not running`);
    if (row.status !== wanted) throw new CaissonError('Conflict', `Container ${id} is already paused`);
  }

  async #freeze({ id, cgroup }: FreezePlan): Promise<{ rows: () => void }> {
    try {
      await this.#ctx.native.cgroupFreeze(cgroup, true);
    } catch (error) {
      if (!isKind(error, 'NotFound')) throw error;
      // it is just ending
      throw new CaissonError('Conflict', `container ${id} is not running`, { cause: error });
    }
    return { rows: () => this.#write(id, 'running', 'paused') };
  }

  async #undo({ id, cgroup }: FreezePlan): Promise<void> {
    const row = this.#ctx.graph.containers.get(id);
    if (row && isRunning(row)) await this.#ctx.native.cgroupFreeze(cgroup, false).catch(ignoreGone);
  }

  async #thaw({ id, cgroup }: FreezePlan): Promise<() => void> {
    await this.#ctx.native.cgroupFreeze(cgroup, false).catch(ignoreGone);
    return () => this.#write(id, 'paused', 'running');
  }

  /** It may have ended meanwhile: then there is nothing to write. */
  #write(id: string, from: ContainerRecord['row']['status'], to: 'paused' | 'running'): void {
    const { graph, events } = this.#ctx;
    const row = graph.containers.get(id);
    if (row?.status !== from) return;
    graph.containers.updateState(id, { status: to });
    events.container(readRecord(row), to === 'paused' ? 'pause' : 'unpause');
  }
}

function ignoreGone(error: unknown): void {
  if (!isKind(error, 'NotFound')) throw error;
}
