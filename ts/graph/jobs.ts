import type { Database, Statement } from './db.ts';

/** The journal of an operation under way: see engine/jobs. */
export interface JobRow {
  id: string;
  kind: string;
  /** For people: the id or name that it is about. */
  subject: string;
  /** JSON. */
  plan: string;
  /** JSON: what the steps done so far have found out and recovery needs. */
  state: string;
  /** Direction `do`: the step to do next. Direction `undo`: the step to undo next, downwards. */
  step: number;
  direction: 'do' | 'undo';
  bootId: string;
  /** Of the last attempt, when it failed; null otherwise. */
  error: string | null;
  attempts: number;
  createdMs: number;
}

const COLUMNS =
  'id, kind, subject, plan, state, step, direction, boot_id AS bootId, error, attempts, created_ms AS createdMs';

export class JobStore {
  readonly #insert: Statement<[JobRow], never>;
  readonly #claim: Statement<[string, string], never>;
  readonly #advance: Statement<[number, string, string], never>;
  readonly #turn: Statement<['do' | 'undo', number, string], never>;
  readonly #fail: Statement<[string | null, number, string], never>;
  readonly #delete: Statement<[string], never>;
  readonly #all: Statement<[], JobRow>;
  readonly #claims: Statement<[], { resource: string; jobId: string }>;

  constructor(db: Database) {
    this.#insert = db.prepare(
      `INSERT INTO job VALUES (@id, @kind, @subject, @plan, @state, @step, @direction, @bootId, @error, @attempts, @createdMs)`,
    );
    this.#claim = db.prepare('INSERT INTO claim VALUES (?, ?)');
    this.#advance = db.prepare('UPDATE job SET step = ?, state = ? WHERE id = ?');
    this.#turn = db.prepare('UPDATE job SET direction = ?, step = ? WHERE id = ?');
    this.#fail = db.prepare('UPDATE job SET error = ?, attempts = ? WHERE id = ?');
    this.#delete = db.prepare('DELETE FROM job WHERE id = ?');
    this.#all = db.prepare(`SELECT ${COLUMNS} FROM job ORDER BY created_ms, id`);
    this.#claims = db.prepare('SELECT resource, job_id AS jobId FROM claim ORDER BY resource');
  }

  insert(job: JobRow, claims: readonly string[]): void {
    this.#insert.run(job);
    for (const resource of claims) this.#claim.run(resource, job.id);
  }

  /** The steps below `step` are done. */
  advance(id: string, step: number, state: string): void {
    this.#advance.run(step, state, id);
  }

  turn(id: string, direction: 'do' | 'undo', step: number): void {
    this.#turn.run(direction, step, id);
  }

  fail(id: string, error: string | null, attempts: number): void {
    this.#fail.run(error, attempts, id);
  }

  /** Frees its claims. */
  delete(id: string): void {
    this.#delete.run(id);
  }

  /** The oldest first. */
  all(): JobRow[] {
    return this.#all.all();
  }

  claims(): { resource: string; jobId: string }[] {
    return this.#claims.all();
  }
}
