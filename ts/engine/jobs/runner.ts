/** Runs jobs, and picks up those that an earlier daemon left: see kinds.ts for the vocabulary. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { CaissonError } from '../../errdefs.ts';
import type { Database } from '../../graph/db.ts';
import type { JobRow, JobStore } from '../../graph/jobs.ts';
import type { Logger } from '../../log.ts';
import { ClaimTable } from './claims.ts';
import { crashPoints, type Faults } from './faults.ts';
import { type AnyKind, type Claim, cancelled, type JobKind, type KindRegistry, type StepContext } from './kinds.ts';

export interface RunnerOptions {
  db: Database;
  jobs: JobStore;
  registry: KindRegistry;
  /** /proc/sys/kernel/random/boot_id. */
  bootId: string;
  log: Logger;
  faults?: Faults | undefined;
  /** Delay before the nth retry (from 1) of a job that could not be undone or finished. */
  backoffMs?: (attempt: number) => number;
}

export interface RunOptions {
  signal?: AbortSignal | undefined;
  onProgress?: (detail: unknown) => void;
  /** From `lock`: claims that it holds are not waited for. */
  lock?: Lock;
}

/** Locks held in this process without a job, for what is one transaction, or several jobs in a row. */
export interface Lock {
  readonly holder: string;
  release(): void;
}

export interface UnfinishedJob {
  id: string;
  kind: string;
  subject: string;
  plan: unknown;
  /** Why its last attempt failed; null while it is under way. */
  error: string | null;
}

export interface RecoveryReport {
  undone: number;
  finished: number;
  failed: number;
  /** Not ended within the budget. */
  underWay: number;
}

/** A job of this process. */
interface Active {
  row: JobRow;
  kind: AnyKind;
  plan: unknown;
  state: object;
  /** Of another boot: steps whose medium is the kernel are void. */
  otherBoot: boolean;
  /** The attempt under way. */
  attempt: Promise<void> | undefined;
  timer: NodeJS.Timeout | undefined;
}

const RECOVERY_BUDGET_MS = 1500;
const FIRST_BACKOFF_MS = 250;
const MAX_BACKOFF_MS = 300_000;
const NEVER_ABORTED = new AbortController().signal;

export class JobRunner {
  readonly #options: RunnerOptions;
  readonly #claims = new ClaimTable();
  readonly #active = new Map<string, Active>();
  /** Rows whose kind this version does not know: they keep their claims. */
  readonly #unknown = new Map<string, JobRow>();
  readonly #running = new Set<Promise<unknown>>();
  #closed = false;
  /** Hears of each job that has come to its end, and of its time without the wait for its claims. */
  onDone: ((kind: string, seconds: number) => void) | undefined;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /**
   * Waits for the claims, then runs the job to its end and returns its state. Rejects with the failure of the step (or of
   * `begin`) once what was done has been undone; if that fails too, the job stays, is shown by `unfinished` and retried.
   */
  async run<P, S extends object>(kind: JobKind<P, S>, plan: P, options: RunOptions = {}): Promise<S> {
    if (this.#options.registry.get(kind.kind) !== kind) throw new Error(`job kind ${kind.kind} is not registered`);
    const id = randomBytes(8).toString('hex');
    const claims = kind.claims(plan);
    const resources = claims.map((claim) => claim.resource);
    await this.#retryHolders(resources);
    this.#refuseWhenClosed();
    await this.#claims.acquire(id, claims, options.signal, options.lock?.holder);
    const job = this.#begin(id, kind, plan, resources);
    const result = this.#complete(job, options);
    const begunMs = performance.now();
    this.#running.add(result);
    try {
      await result;
      this.onDone?.(kind.kind, (performance.now() - begunMs) / 1000);
    } finally {
      this.#running.delete(result);
    }
    return job.state as S;
  }

  /** Holds claims without a job. Kind Conflict when a job that cannot be finished holds one of them. */
  async lock(claims: readonly (string | Claim)[], signal?: AbortSignal): Promise<Lock> {
    const wanted = claims.map((claim) => (typeof claim === 'string' ? { resource: claim } : claim));
    await this.#retryHolders(wanted.map(({ resource }) => resource));
    this.#refuseWhenClosed();
    const holder = `lock-${randomBytes(8).toString('hex')}`;
    await this.#claims.acquire(holder, wanted, signal);
    return { holder, release: () => this.#claims.release(holder) };
  }

  /** True while a job or a lock holds it. */
  isHeld(resource: string): boolean {
    return this.#claims.holderOf(resource) !== undefined;
  }

  /**
   * Once, at start, before anything runs: undoes or finishes every job that an earlier daemon left. Resolves when each has
   * been tried, or after `budgetMs`: a stop that waits for its container must not keep the daemon from serving. What is
   * under way or could not be finished stays, with its claims, in `unfinished`. Never rejects for a job's sake.
   */
  async recover(budgetMs = RECOVERY_BUDGET_MS): Promise<RecoveryReport> {
    const { registry, faults, log } = this.#options;
    if (faults !== undefined) log.info({ crashPoints: crashPoints(registry) }, 'faults are injected');
    const claims = Map.groupBy(this.#options.jobs.claims(), (claim) => claim.jobId);
    const report = { undone: 0, finished: 0, failed: 0, underWay: 0 };
    const attempts: Promise<void>[] = [];
    for (const row of this.#options.jobs.all()) {
      const resources = claims.get(row.id)?.map((claim) => claim.resource) ?? [];
      this.#claims.take(row.id, resources);
      const kind = registry.get(row.kind);
      if (kind === undefined) {
        row.error = `this version of caisson knows no job kind ${row.kind}`;
        this.#unknown.set(row.id, row);
        log.error({ job: row.id, subject: row.subject }, row.error);
        report.failed++;
        continue;
      }
      const job = this.#activate(row, kind, JSON.parse(row.plan), JSON.parse(row.state) as object);
      report.underWay++;
      attempts.push(
        this.#attempt(job).then(() => {
          report.underWay--;
          if (this.#active.has(row.id)) report.failed++;
          else if (row.direction === 'undo') report.undone++;
          else report.finished++;
        }),
      );
    }
    const late = new AbortController();
    const budget = sleep(budgetMs, undefined, { signal: late.signal }).catch(() => undefined);
    await Promise.race([Promise.all(attempts), budget]);
    late.abort();
    return { ...report };
  }

  /** Jobs under way and jobs that failed to be undone or finished: their plans say which kernel objects are spoken for. */
  unfinished(): UnfinishedJob[] {
    const view = (row: JobRow, plan: unknown): UnfinishedJob => ({
      id: row.id,
      kind: row.kind,
      subject: row.subject,
      plan,
      error: row.error,
    });
    return [
      ...[...this.#active.values()].map((job) => view(job.row, job.plan)),
      ...[...this.#unknown.values()].map((row) => view(row, JSON.parse(row.plan))),
    ];
  }

  /** No new jobs, no retries; who waits for a claim is refused. Resolves when the jobs under way have ended. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const job of this.#active.values()) clearTimeout(job.timer);
    this.#claims.rejectWaiters(new CaissonError('Unavailable', 'the daemon is shutting down'));
    const attempts = [...this.#active.values()].map((job) => job.attempt);
    await Promise.allSettled([...this.#running, ...attempts]);
  }

  #begin(id: string, kind: AnyKind, given: unknown, resources: readonly string[]): Active {
    let plan = given;
    const row: JobRow = {
      id,
      kind: kind.kind,
      subject: '',
      plan: '',
      state: '{}',
      step: 0,
      direction: 'do',
      bootId: this.#options.bootId,
      error: null,
      attempts: 0,
      createdMs: Date.now(),
    };
    try {
      this.#options.db.transaction(() => {
        plan = kind.begin?.(plan) ?? plan;
        row.subject = kind.subject(plan);
        row.plan = JSON.stringify(plan);
        this.#options.jobs.insert(row, resources);
      });
    } catch (error) {
      this.#claims.release(id);
      throw error;
    }
    return this.#activate(row, kind, plan, {});
  }

  #activate(row: JobRow, kind: AnyKind, plan: unknown, state: object): Active {
    const otherBoot = row.bootId !== this.#options.bootId;
    const job: Active = { row, kind, plan, state, otherBoot, attempt: undefined, timer: undefined };
    this.#active.set(row.id, job);
    return job;
  }

  async #complete(job: Active, options: RunOptions): Promise<void> {
    try {
      await this.#forward(job, options);
    } catch (error) {
      await this.#afterFailure(job, error);
      throw error;
    }
    this.#forget(job);
  }

  async #forward(job: Active, options: RunOptions): Promise<void> {
    const { row, kind, plan } = job;
    const { db, jobs, faults } = this.#options;
    const { steps, commitPoint, durable } = kind;
    // what a power cut takes along does not wait for what outlives it
    const begun = durable && commitPoint === 0 && row.step === 0 ? db.durable() : undefined;
    begun?.catch(() => {}); // is thrown where it is waited for
    while (row.step < steps.length) {
      const step = steps[row.step] as AnyKind['steps'][number];
      const committed = row.step >= commitPoint;
      const signal = committed ? NEVER_ABORTED : (options.signal ?? NEVER_ABORTED);
      if (signal.aborted) throw cancelled(`${kind.kind} of ${row.subject}`, signal);
      let rows: (() => void) | undefined;
      if (!(job.otherBoot && step.medium === 'kernel')) {
        if (step.medium !== 'kernel') await begun;
        faults?.reached(kind.kind, step.name, 'before');
        const context: StepContext = {
          jobId: row.id,
          signal,
          progress: (detail) => options.onProgress?.(detail),
        };
        const outcome = await step.do(plan, job.state, context);
        faults?.reached(kind.kind, step.name, 'after');
        if (outcome?.state !== undefined) Object.assign(job.state, outcome.state);
        rows = outcome?.rows;
      }
      const next = row.step + 1;
      const state = next < steps.length ? persisted(kind, job.state) : '{}';
      db.transaction(() => {
        rows?.();
        if (next < steps.length) jobs.advance(row.id, next, state);
        else jobs.delete(row.id);
      });
      row.step = next;
      if (durable && next === commitPoint) await db.durable();
    }
    await begun;
  }

  async #undo(job: Active): Promise<void> {
    const { row, kind, plan } = job;
    const { db, jobs, faults } = this.#options;
    while (row.step >= 0) {
      const step = kind.steps[row.step] as AnyKind['steps'][number];
      let rows: (() => void) | undefined;
      if (!(job.otherBoot && step.medium === 'kernel')) {
        rows = (await step.undo?.(plan)) ?? undefined;
        faults?.reached(kind.kind, step.name, 'undone');
      }
      const next = row.step - 1;
      db.transaction(() => {
        rows?.();
        if (next >= 0) return jobs.turn(row.id, 'undo', next);
        kind.rollback?.(plan);
        jobs.delete(row.id);
      });
      row.step = next;
    }
  }

  /** The first failure of a job that this process runs: undo it, or leave it to the retries. */
  async #afterFailure(job: Active, error: unknown): Promise<void> {
    const { row, kind } = job;
    if (row.step >= kind.steps.length) return this.#forget(job);
    if (row.step >= kind.commitPoint) return this.#keep(job, error);
    await this.#attempt(job);
  }

  /** Undoes or finishes, as its position says. Does not reject: a failure keeps the job for the next retry. */
  #attempt(job: Active): Promise<void> {
    job.attempt ??= this.#undoOrFinish(job).finally(() => {
      job.attempt = undefined;
    });
    return job.attempt;
  }

  async #undoOrFinish(job: Active): Promise<void> {
    const { row, kind } = job;
    clearTimeout(job.timer);
    try {
      if (row.direction === 'do' && row.step < kind.commitPoint) {
        row.direction = 'undo';
        // Not written when the disk is full; the row then still says "below the commit point", which means the same.
        this.#journal(() => this.#options.jobs.turn(row.id, 'undo', row.step));
      }
      if (row.direction === 'undo') await this.#undo(job);
      else await this.#forward(job, {});
      this.#forget(job);
    } catch (error) {
      this.#keep(job, error);
    }
  }

  #keep(job: Active, error: unknown): void {
    const { row, kind } = job;
    row.error = error instanceof Error ? error.message : String(error);
    row.attempts++;
    this.#journal(() => this.#options.jobs.fail(row.id, row.error, row.attempts));
    const what = row.direction === 'undo' ? 'undone' : 'finished';
    this.#options.log.warn(
      { job: row.id, kind: row.kind, subject: row.subject, step: kind.steps[row.step]?.name, err: error },
      `a job could not be ${what}; it will be tried again`,
    );
    // A lender's locks stay with the job that needs them.
    this.#claims.take(
      row.id,
      kind.claims(job.plan).map((claim) => claim.resource),
    );
    this.#claims.rejectWaiters(heldByFailed(row), row.id);
    if (this.#closed) return;
    const backoff =
      this.#options.backoffMs ?? ((attempt: number) => Math.min(FIRST_BACKOFF_MS * 4 ** (attempt - 1), MAX_BACKOFF_MS));
    job.timer = setTimeout(() => void this.#attempt(job), backoff(row.attempts));
    job.timer.unref();
  }

  #forget(job: Active): void {
    this.#active.delete(job.row.id);
    this.#claims.release(job.row.id);
  }

  /** A job that failed holds what this operation needs: its time to be tried is now. */
  async #retryHolders(resources: readonly string[]): Promise<void> {
    for (const resource of resources) {
      const holder = this.#claims.holderOf(resource);
      if (holder === undefined) continue;
      const unknown = this.#unknown.get(holder);
      if (unknown !== undefined) throw heldByFailed(unknown);
      const job = this.#active.get(holder);
      if (job === undefined || job.row.error === null) continue;
      await this.#attempt(job);
      if (this.#active.get(job.row.id) === job && job.row.error !== null) throw heldByFailed(job.row);
    }
  }

  #journal(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#options.log.error({ err: error }, 'the journal of a job could not be written');
    }
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new CaissonError('Unavailable', 'the daemon is shutting down');
  }
}

function persisted(kind: AnyKind, state: object): string {
  if (kind.persist === undefined) return '{}';
  const kept = kind.persist.map((key) => [key, (state as Record<string, unknown>)[key]]);
  return JSON.stringify(Object.fromEntries(kept));
}

const heldByFailed = (row: JobRow): CaissonError =>
  new CaissonError('Conflict', `${row.kind} of ${row.subject} has not ended: ${row.error}`, {
    code: 'JOB_UNFINISHED',
    hint: 'It is tried again by itself and with the next operation on the same object.',
  });
