/**
 * Ends of containers: recorded once, told to who waits, cleaned up behind, started again if the policy says so.
 *
 * The shim's exit file is the truth, and the row is written from it in one transaction; so an end needs no job: whoever
 * comes next (this daemon or the following one) reads the same file and does the same.
 */
import { type ErrorKind, isKind } from '../../errdefs.ts';
import type { ContainerRow } from '../../graph/containers.ts';
import type { ExitStatus, RuntimeEvent } from '../native/containers.ts';
import type { PublishedPort } from '../native/network.ts';
import { announcerOf } from '../network/endpoints.ts';
import { publishedPorts } from '../network/ports.ts';
import { networksOf } from './attachments.ts';
import type { ContainerContext } from './context.ts';
import type { Execs } from './exec.ts';
import type { HealthMonitor } from './health.ts';
import { followLinks } from './nameFiles.ts';
import { type ContainerRecord, isRunning, readRecord } from './record.ts';
import type { Remover } from './remove.ts';
import { nextDelayMs, shouldRestart } from './restartPolicy.ts';
import { cgroupOf } from './spawn.ts';
import type { Starter } from './start.ts';
import { nowRfc3339, toMs } from './time.ts';

const SIGKILLED = 137;

export class Monitor {
  readonly #ctx: ContainerContext;
  readonly #starter: Starter;
  readonly #remover: Remover;
  readonly #execs: Execs;
  readonly #health: HealthMonitor;
  #settled = false;

  constructor(ctx: ContainerContext, starter: Starter, remover: Remover, execs: Execs, health: HealthMonitor) {
    this.#ctx = ctx;
    this.#execs = execs;
    this.#starter = starter;
    this.#remover = remover;
    this.#health = health;
  }

  /** From the addon's event thread, on the JS thread. */
  onEvent(event: RuntimeEvent): void {
    try {
      this.#dispatch(event);
    } catch (error) {
      this.#ctx.log.error(
        { err: error, event: event.type, container: event.id },
        'an event of a shim was not recorded',
      );
    }
  }

  #dispatch(event: RuntimeEvent): void {
    if (event.type === 'exit') this.exited(event.id, event.exit);
    else if (event.type === 'execExit') this.#execExited(event.id, event.execId, event.exitCode);
    else if (event.type === 'oom') this.#oom(event.id);
    else if (event.type === 'detached') this.#detached(event.id, event.execId);
    else if (event.type === 'clientGone') this.#ctx.pending.gone(event.id, event.client);
    else this.#shimGone(event.id);
  }

  /** Records the end of a run. Does nothing when it is recorded already, or when the start is not committed yet. */
  exited(id: string, exit: ExitStatus): void {
    const { graph, live, native } = this.#ctx;
    const row = graph.containers.get(id);
    const state = live.of(id);
    state.lastExit = exit;
    if (!row || !isRunning(row)) return;
    const record = readRecord(row);
    const ranMs = this.#ranMs(row, exit);
    const ending = {
      exitCode: exit.exitCode,
      manuallyStopped: row.manuallyStopped || state.stopping,
      restartCount: row.restartCount,
    };
    const restart = !state.removing && shouldRestart(record.hostConfig.RestartPolicy, ending);
    const published = publishedPorts(graph.networks.portsOf(id));
    this.#health.ended(id);
    for (const endpoint of graph.networks.endpointsOf(id)) native.stopAdvertising(announcerOf(endpoint));
    graph.db.transaction(() => this.#writeExit(record, exit, restart, ranMs));
    followLinks(this.#ctx, id);
    const result = { exitCode: exit.exitCode };
    // as Docker: who waits for the end is told of this one, also when the policy starts it again
    state.notify(['next-exit', 'not-running'], result);
    for (const handle of state.logHandles) native.endLog(handle);
    this.#ctx.forwarder.ended(id);
    this.#ctx.resolvers.close(id);
    state.cleanup = this.#cleanUp(record, published);
    if (restart) this.#scheduleRestart(record, ranMs);
    else if (record.hostConfig.AutoRemove && !state.removing && !state.restarting) this.removeEnded(id);
  }

  /** By a clock that nobody sets, wherever this daemon saw the start. */
  #ranMs({ id, startedAt }: ContainerRow, exit: ExitStatus): number {
    const { startedAtMs } = this.#ctx.live.of(id);
    const ran = startedAtMs === undefined ? toMs(exit.exitedAt) - toMs(startedAt) : performance.now() - startedAtMs;
    return Math.max(0, ran);
  }

  #writeExit(record: ContainerRecord, exit: ExitStatus, restart: boolean, ranMs: number): void {
    const { graph, events, live } = this.#ctx;
    const { row } = record;
    graph.containers.updateState(row.id, {
      status: restart || live.of(row.id).restarting ? 'restarting' : 'exited',
      pid: 0,
      pidStart: 0,
      shimPid: 0,
      shimStart: 0,
      exitCode: exit.exitCode,
      oomKilled: exit.oomKilled,
      error: exit.reason ?? '',
      finishedAt: exit.exitedAt,
    });
    graph.networks.releaseEndpoints(row.id);
    graph.networks.deletePorts(row.id);
    graph.execs.deleteUnstarted(row.id);
    for (const exec of graph.execs.of(row.id)) {
      if (exec.status === 'running') graph.execs.update(exec.id, { status: 'exited', exitCode: SIGKILLED });
    }
    const seconds = String(Math.floor(ranMs / 1000));
    for (const network of networksOf(this.#ctx, record)) events.network('disconnect', network, row.id);
    events.volumes('unmount', record);
    events.container(record, 'die', { execDuration: seconds, exitCode: String(exit.exitCode) });
    if (live.of(row.id).stopping) events.container(record, 'stop');
  }

  async #cleanUp({ row, hostConfig }: ContainerRecord, published: PublishedPort[]): Promise<void> {
    const { native, devices, paths, log, pluginVolumes } = this.#ctx;
    const cgroup = cgroupOf(this.#ctx, hostConfig, row.id);
    try {
      await Promise.all([
        devices.firewall.removePorts(published),
        native.destroyContainer({ id: row.id, stateDir: paths.stateDir(row.id), cgroup }),
      ]);
    } catch (error) {
      // the sweep at the next start of the daemon removes what is left
      log.warn({ err: error, container: row.id }, 'not everything of an ended container could be removed');
    }
    await pluginVolumes.mounts.release(row.id);
  }

  #scheduleRestart(record: ContainerRecord, ranMs: number): void {
    const { row } = record;
    const state = this.#ctx.live.of(row.id);
    state.restartDelayMs = nextDelayMs(state.restartDelayMs, ranMs);
    this.restartLater(row.id, row.restartCount + 1);
  }

  /** Until the daemon has settled nothing is started: what waits says so in its row. */
  applyPolicies(): void {
    this.#settled = true;
  }

  /** The rest of a restart that an earlier daemon has begun. */
  startAgain(id: string): void {
    const { graph, live } = this.#ctx;
    const row = graph.containers.get(id);
    if (!row || isRunning(row) || live.of(id).removing) return;
    graph.containers.updateState(id, { status: 'restarting' });
    this.restartLater(id, 0);
  }

  /** Starts after the delay; a start that fails is tried again with a longer one. */
  restartLater(id: string, restartCount: number): void {
    if (!this.#settled) return;
    const state = this.#ctx.live.of(id);
    clearTimeout(state.restartTimer);
    const policy = { restartCount, unlessCalledOff: state.restartsCalledOff };
    state.restartTimer = setTimeout(() => void this.#restart(id, policy), state.restartDelayMs);
    state.restartTimer.unref();
  }

  async #restart(id: string, policy: { restartCount: number; unlessCalledOff: number }): Promise<void> {
    const { graph, log, live } = this.#ctx;
    const row = graph.containers.get(id);
    const state = live.of(id);
    if (!row || isRunning(row) || state.removing) return;
    if (row.status === 'restarting' && !this.#stillWanted(row)) return this.#giveUp(row);
    try {
      await this.#starter.start(id, policy);
    } catch (error) {
      if (['NotModified', 'Cancelled', 'Unavailable'].some((kind) => isKind(error, kind as ErrorKind))) return;
      const now = graph.containers.get(id);
      // removed, or stopped while it was being started
      if (!now || state.restartsCalledOff > policy.unlessCalledOff + 1) return;
      log.warn({ err: error, container: id }, 'restarting a container failed; it will be tried again');
      const { hostConfig } = readRecord(row);
      const ending = { exitCode: 128, manuallyStopped: now.manuallyStopped, restartCount: policy.restartCount };
      if (!shouldRestart(hostConfig.RestartPolicy, ending)) return this.#giveUp(now);
      graph.containers.updateState(id, { status: 'restarting' });
      state.restartDelayMs = nextDelayMs(state.restartDelayMs, 0);
      this.restartLater(id, policy.restartCount + 1);
    }
  }

  /** The policy may have been changed since; what a user has asked to run again is not the policy's to judge. */
  #stillWanted(row: ContainerRow): boolean {
    return row.manuallyStopped || shouldRestart(readRecord(row).hostConfig.RestartPolicy, row);
  }

  #giveUp({ id, exitCode }: ContainerRow): void {
    this.#ctx.graph.containers.updateState(id, { status: 'exited' });
    this.#ctx.live.of(id).notify(['not-running'], { exitCode });
  }

  /** A container of `--rm` that could not be started has ended too: docker's client waits for its removal. */
  startFailed(id: string): void {
    const row = this.#ctx.graph.containers.get(id);
    if (row && !isRunning(row) && readRecord(row).hostConfig.AutoRemove) this.removeEnded(id);
  }

  /** `--rm`: failures are logged and told to whoever waits; the next start of the daemon tries again. */
  removeEnded(id: string): void {
    this.#remover.remove(id, { volumes: true, automatic: true }).catch((error: unknown) => {
      if (isKind(error, 'NotFound')) return;
      this.#ctx.log.warn({ err: error, container: id }, 'automatic removal failed');
      // docker run waits for it: better told than left waiting
      const state = this.#ctx.live.of(id);
      state.notify(['removed'], { exitCode: state.lastExit?.exitCode ?? 0, error: (error as Error).message });
    });
  }

  /** A probe has no row; the shim is to forget it all the same. */
  #execExited(id: string, execId: string, exitCode: number): void {
    this.#health.probeEnded(id, execId, exitCode);
    this.#execs.ended(id, execId, exitCode);
  }

  #oom(id: string): void {
    const row = this.#ctx.graph.containers.get(id);
    if (!row) return;
    this.#ctx.graph.db.transaction(() => {
      this.#ctx.graph.containers.updateState(id, { oomKilled: true });
      this.#ctx.events.container(readRecord(row), 'oom');
    });
  }

  #detached(id: string, execId: string | undefined): void {
    const row = this.#ctx.graph.containers.get(id);
    if (!row) return;
    if (execId === undefined) this.#ctx.events.container(readRecord(row), 'detach');
    else this.#ctx.events.container(readRecord(row), 'exec_detach', { execID: execId });
  }

  /** Without an exit before it: the shim was killed. What it ran has no keeper any more and is ended. */
  #shimGone(id: string): void {
    const row = this.#ctx.graph.containers.get(id);
    if (row && isRunning(row)) void this.settleLost(id);
    else this.#ctx.live.of(id).lost = true;
  }

  /** A start is written down now; a short program may have ended before that, and its end waited for this. */
  started(id: string): void {
    const { lastExit, lost } = this.#ctx.live.of(id);
    this.#health.started(id);
    if (lastExit) this.exited(id, lastExit);
    else if (lost) void this.settleLost(id);
  }

  /** A container that the daemon before this one has started runs on. */
  adopted(id: string): void {
    this.#health.resumed(id);
  }

  /** Reads what the shim has left; without an exit file the container ends as killed, with the reason. */
  async settleLost(id: string): Promise<void> {
    const { native, paths, graph, log } = this.#ctx;
    try {
      const row = graph.containers.get(id);
      if (!row || !isRunning(row)) return;
      const state = await native.adoptShim({ id, stateDir: paths.stateDir(id) });
      if (state.exit) return this.exited(id, state.exit);
      if (state.status === 'running' || state.status === 'paused') return this.#execs.settle(id, state.execs);
      await this.endShim(id);
    } catch (error) {
      log.error({ err: error, container: id }, 'a container whose shim has gone could not be settled');
    }
  }

  /** Ends what is left of a container that has no shim any more, or one that hangs, and records that. */
  async endShim(id: string): Promise<void> {
    const { native, paths, graph } = this.#ctx;
    const row = graph.containers.get(id);
    if (!row || !isRunning(row)) return;
    const { hostConfig } = readRecord(row);
    const shim = { pid: row.shimPid, startTime: row.shimStart, signal: 9 };
    await native.signalProcess(shim).catch((error: unknown) => {
      if (!isKind(error, 'NotFound')) throw error;
    });
    await native.destroyContainer({ id, stateDir: paths.stateDir(id), cgroup: cgroupOf(this.#ctx, hostConfig, id) });
    this.exited(id, { exitCode: SIGKILLED, oomKilled: false, exitedAt: nowRfc3339(), reason: 'shim lost' });
  }
}
