/**
 * The job behind pull, load and import, and behind save and push, which read under a lease what those wrote. Its one step
 * makes the layers and writes the image, its names and the event in the transaction that ends the job: before that nothing
 * is seen, after it everything is.
 *
 * Directories of a step that was cut off by a crash have no row, so the snapshotter's sweep at start removes them. Layers
 * already committed stay: the lease goes with the job, and the garbage collector takes what no image uses.
 */
import { randomBytes } from 'node:crypto';
import type { Graph } from '../../graph/graph.ts';
import type { JobKind, KindRegistry } from '../jobs/kinds.ts';
import type { JobRunner } from '../jobs/runner.ts';

interface InstallPlan {
  id: string;
  subject: string;
}

/** Layers are made in `prepare`, under `lease`; rows are written by the function that it returns. */
export interface Installation {
  subject: string;
  prepare(lease: string, signal: AbortSignal): Promise<() => void>;
}

export class Installer {
  readonly #runner: JobRunner;
  readonly #kind: JobKind<InstallPlan, object>;
  readonly #live = new Map<string, Installation>();

  /** `kind`: a verb, and the name of the job's one step. */
  constructor(
    { graph, runner, registry, bootId }: { graph: Graph; runner: JobRunner; registry: KindRegistry; bootId: string },
    [kind, step]: readonly [string, string],
    { durable }: { durable: boolean },
  ) {
    this.#runner = runner;
    const { leases } = graph;
    this.#kind = registry.register({
      kind,
      subject: (plan) => plan.subject,
      claims: () => [],
      begin: (plan) => {
        leases.insert({
          id: plan.id,
          purpose: `${kind} ${plan.subject}`,
          bootId,
          createdMs: Date.now(),
          expiresMs: null,
        });
      },
      rollback: (plan) => leases.delete(plan.id),
      steps: [
        {
          name: step,
          medium: 'disk',
          do: async (plan, _state, { signal }) => {
            const installation = this.#live.get(plan.id);
            if (installation === undefined) throw new Error(`${kind} of ${plan.subject} belongs to an earlier daemon`);
            const write = await installation.prepare(plan.id, signal);
            return {
              rows: () => {
                write();
                leases.delete(plan.id);
              },
            };
          },
        },
      ],
      commitPoint: 1,
      durable,
    });
  }

  async run(installation: Installation, signal: AbortSignal): Promise<void> {
    const plan = { id: randomBytes(8).toString('hex'), subject: installation.subject };
    this.#live.set(plan.id, installation);
    try {
      await this.#runner.run(this.#kind, plan, { signal });
    } finally {
      this.#live.delete(plan.id);
    }
  }
}
