/**
 * The start of a daemon: rows, shims, kernel and disk are brought to agree, then restart policies apply. SIGKILL of the
 * former daemon at any moment is the normal way here.
 *
 *   shims adopted → unfinished jobs undone or finished → bridge and firewall written from the rows → orphans removed →
 *   policies
 */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerRow } from '../../graph/containers.ts';
import { difference } from '../jobs/orphans.ts';
import { publishedPorts } from '../network/ports.ts';
import type { ContainerContext } from './context.ts';
import { logRoute } from './logRoute.ts';
import type { Monitor } from './monitor.ts';
import type { Publisher } from './publisher.ts';
import { isRunning, readRecord } from './record.ts';
import { startsWithDaemon } from './restartPolicy.ts';
import { nowRfc3339 } from './time.ts';

/** As dockerd shows a container that the machine took down with it. */
const HOST_WENT_DOWN = 255;

const ADOPTION_BUDGET_MS = 1500;

export class Reconciler {
  readonly #ctx: ContainerContext;
  readonly #monitor: Monitor;
  readonly #publisher: Publisher;
  /** Were running when the former daemon or the machine went, and have ended since. */
  readonly #interrupted = new Set<string>();
  /** Their shims have answered. */
  readonly #answering = new Set<string>();
  /** Of the interrupted, what the machine took down with it. */
  readonly #fallen = new Set<string>();

  constructor(ctx: ContainerContext, monitor: Monitor, publisher: Publisher) {
    this.#ctx = ctx;
    this.#monitor = monitor;
    this.#publisher = publisher;
  }

  /**
   * Before jobs are recovered: what they signal and wait for must be watched. One budget for all: a shim that hangs must
   * not keep the daemon from serving the others; its container counts as running until it is known better.
   */
  async adopt(budgetMs = ADOPTION_BUDGET_MS): Promise<void> {
    const rows = this.#ctx.graph.containers.all();
    for (const row of rows) this.#resumeLog(row);
    const running = rows.filter(isRunning);
    const late = new AbortController();
    const budget = sleep(budgetMs, undefined, { signal: late.signal }).catch(() => undefined);
    await Promise.race([Promise.all(running.map((row) => this.#adopt(row))), budget]);
    late.abort();
  }

  /** What has not been sent of a log that goes elsewhere. */
  #resumeLog(row: ContainerRow): void {
    if (row.status === 'created') return;
    const route = logRoute(readRecord(row));
    if (route !== undefined) this.#ctx.forwarder.resume(route, isRunning(row));
  }

  /** After jobs are recovered. */
  async settle(): Promise<void> {
    const { devices, graph } = this.#ctx;
    await devices.prepare(publishedPorts(graph.networks.ports()));
    const running = graph.containers
      .all()
      .filter(isRunning)
      .map(({ id }) => id);
    // who has not answered yet is not waited for here either
    const restored = running.map((id) => [id, this.#publisher.restore(id)] as const);
    const answering = restored.filter(([id]) => this.#answering.has(id)).map(([, done]) => done);
    await Promise.all([this.#ctx.resolvers.adopt(running), ...answering]);
    await this.#sweep();
    // a plugin may be slow, or run in a container that is only about to be started
    void this.#ctx.pluginVolumes.mounts.sweep(new Set(running));
    this.#applyPolicies();
  }

  async #adopt(row: ContainerRow): Promise<void> {
    if (row.bootId === this.#ctx.bootId) await this.#monitor.settleLost(row.id);
    else {
      const reason = 'the host was restarted';
      this.#fallen.add(row.id);
      this.#monitor.exited(row.id, { exitCode: HOST_WENT_DOWN, oomKilled: false, exitedAt: nowRfc3339(), reason });
    }
    const now = this.#ctx.graph.containers.get(row.id);
    if (now && !isRunning(now)) this.#interrupted.add(row.id);
    else if (now) {
      this.#answering.add(row.id);
      this.#monitor.adopted(row.id);
    }
  }

  /** Containers that do not run and should; what `adopt` found ended has been judged by its policy already. */
  #applyPolicies(): void {
    this.#monitor.applyPolicies();
    for (const row of this.#ctx.graph.containers.all()) {
      const { id, status, restartCount, manuallyStopped } = row;
      if (isRunning(row) || status === 'created') continue;
      const { hostConfig } = readRecord(row);
      if (status === 'restarting') {
        // a restart by the user, or by the daemon's start, is not one of the policy's
        this.#monitor.restartLater(id, manuallyStopped || this.#fallen.has(id) ? 0 : restartCount + 1);
      } else if (this.#interrupted.has(id)) continue;
      else if (startsWithDaemon(hostConfig.RestartPolicy, manuallyStopped)) this.#monitor.restartLater(id, 0);
      else if (hostConfig.AutoRemove) this.#monitor.removeEnded(id);
    }
  }

  /** State directories with their cgroups, veth pairs and directories that neither a row nor an unfinished job knows. */
  async #sweep(): Promise<void> {
    const { graph, native, paths, config, devices, log } = this.#ctx;
    const rows = graph.containers.all();
    const all = new Set(rows.map(({ id }) => id));
    const running = rows.filter(isRunning).map(({ id }) => id);
    const planned = this.#plannedIds();
    // a cgroup of another id may be that of another daemon with the same parent; ours go before their state directories
    const { orphans } = difference(names(paths.state), running, planned);
    for (const id of orphans) {
      log.info({ container: id }, 'kernel objects of a container that does not run are removed');
      await native
        .destroyContainer({ id, stateDir: paths.stateDir(id), cgroup: join(config.cgroupParent, id) })
        .catch((error: unknown) => log.warn({ err: error, container: id }, 'an orphan could not be removed'));
    }
    const dirs = difference(names(paths.containers), all, planned).orphans;
    for (const id of dirs) await native.removeTree(paths.containerDir(id));
    await devices.sweep();
  }

  #plannedIds(): string[] {
    return this.#ctx.runner.unfinished().map(({ subject }) => subject);
  }
}

/** Entries that are container ids. */
function names(dir: string): string[] {
  try {
    return readdirSync(dir)
      .map((name) => basename(name))
      .filter((name) => /^[0-9a-f]{64}$/.test(name));
  } catch {
    return [];
  }
}
