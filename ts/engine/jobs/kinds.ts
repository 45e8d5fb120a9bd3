/**
 * Jobs: the one mechanism of every operation that makes or removes something outside the database.
 *
 *   claims granted ─► begin ─► step 0 ─► step 1 ─┊ commit point ┊─► step 2 ─► … ─► job row deleted
 *                               ◄── undo ◄───────┘
 *
 * The *plan* names in advance everything that the job will make (ids, directories, devices, addresses), so that it can be
 * undone by whoever finds its row, without any result of a step. A *step* does one thing and can undo it, whether it ran
 * not at all, half or fully. After each step one transaction writes the step's rows and the new position. A failure or an
 * abort before the *commit point* undoes the steps downwards; after it the job only goes on, if need be after a restart
 * of the daemon. A *claim* is a lock or a name, held by a row as long as the job lives.
 *
 * A kind is a plain object: construct it with what its steps need, register it, and run it with a plan.
 */
import { CaissonError } from '../../errdefs.ts';

export interface StepContext {
  jobId: string;
  /** Aborts below the commit point only. */
  signal: AbortSignal;
  /** Tells the caller of `run` how far it is. */
  progress(detail: unknown): void;
}

export interface Outcome<S> {
  /** Merged into the state that later steps and the caller of `run` see. */
  state?: Partial<S>;
  /** Writes business rows, in the same transaction that records the step as done. */
  rows?: () => void;
}

// biome-ignore lint/suspicious/noConfusingVoidType: a step without an outcome is an async function without a return.
type Nothing = void;

export interface Step<P, S> {
  name: string;
  /**
   * What the step makes lives in the `kernel` (processes, namespaces, links, mounts, cgroups: gone after a reboot, so the
   * step is skipped when the job of another boot is undone or finished) or on `disk` (files and rows: never skipped).
   */
  medium: 'kernel' | 'disk';
  /** May run a second time after a crash when it stands behind the commit point: then what is there already is no error. */
  do(plan: P, state: S, context: StepContext): Promise<Outcome<S> | Nothing> | Outcome<S> | Nothing;
  /** Idempotent; knows only the plan. What it returns is written in the transaction that records it as undone. */
  undo?(plan: P): Promise<(() => void) | Nothing> | (() => void) | Nothing;
}

export interface Claim {
  /** `container:ID`, `name:NAME`, … */
  resource: string;
  /** Set for a name: the text of the Conflict when it is held. Absent for a lock: the job waits for its turn. */
  taken?: string;
}

export interface JobKind<P, S extends object = object> {
  /** A verb, unique: `start`. */
  kind: string;
  /** For people: the id or name that the job is about. */
  subject(plan: P): string;
  claims(plan: P): Claim[];
  /**
   * In the first transaction, with all claims held: checks what must be true (throws to refuse), writes first rows, and
   * may return the plan completed. Synchronous.
   */
  begin?(plan: P): P | Nothing;
  /** Takes back the rows of `begin`, in the transaction that ends an undone job. */
  rollback?(plan: P): void;
  steps: readonly Step<P, S>[];
  /** Number of steps that must be done for the job to count as done; 0: it never is undone. */
  commitPoint: number;
  /**
   * A power cut after the answer does not lose the job: waits for one fdatasync at its commit point; where that is 0, before
   * the first step on the disk or the end, beside steps in the kernel.
   */
  durable: boolean;
  /**
   * Keys of the state kept in the job's row. After a restart later steps see only these, so declare the other fields
   * optional. Never file descriptors.
   */
  persist?: readonly (keyof S & string)[];
}

/** A kind whatever its plan and state are: what the runner and the registry see. */
export type AnyKind = Omit<JobKind<unknown, object>, 'persist'> & { persist?: readonly string[] };

export class KindRegistry {
  readonly #kinds = new Map<string, AnyKind>();

  register<P, S extends object>(kind: JobKind<P, S>): JobKind<P, S> {
    if (this.#kinds.has(kind.kind)) throw new Error(`job kind ${kind.kind} is registered twice`);
    if (kind.steps.length === 0 || kind.commitPoint < 0 || kind.commitPoint > kind.steps.length) {
      throw new Error(`job kind ${kind.kind} has ${kind.steps.length} steps and commit point ${kind.commitPoint}`);
    }
    if (new Set(kind.steps.map((step) => step.name)).size < kind.steps.length) {
      throw new Error(`job kind ${kind.kind} has two steps of one name`);
    }
    this.#kinds.set(kind.kind, kind);
    return kind;
  }

  get(name: string): AnyKind | undefined {
    return this.#kinds.get(name);
  }

  all(): AnyKind[] {
    return [...this.#kinds.values()];
  }
}

/** A lock on something, waited for in turn. */
export const lock = (resource: string): Claim => ({ resource });

/** A name, refused with `taken` while another job holds it. Whether a finished object has it is checked in `begin`. */
export const exclusive = (resource: string, taken: string): Claim => ({ resource, taken });

export const cancelled = (what: string, signal: AbortSignal): CaissonError =>
  signal.reason instanceof CaissonError
    ? signal.reason
    : new CaissonError('Cancelled', `${what} was cancelled`, { cause: signal.reason });
