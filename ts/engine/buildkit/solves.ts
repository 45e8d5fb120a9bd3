/** Builds that are under way, by the name that their clients made up. */
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import type { ConnectError } from '@connectrpc/connect';
import { CaissonError } from '../../errdefs.ts';
import type { Source } from '../builder/builder.ts';
import type { Exporter } from './proto/control_pb.ts';
import type { Sources } from './sources.ts';
import { StatusLog } from './status.ts';

/** What a gateway client hands back in the end. */
export interface Returned {
  /** The name of a result of this build; undefined: nothing. */
  ref: string | undefined;
  error: ConnectError | undefined;
}

/** What a client asks for. */
export interface SolveAsked {
  /** A name that it made up. */
  ref: string;
  /** '' for none. */
  sessionId: string;
  entitlements: readonly string[];
  exporters: readonly Pick<Exporter, 'Type' | 'Attrs'>[];
  /** Of the client itself: no record is kept. */
  isInternal: boolean;
}

export class Solve {
  readonly status = new StatusLog();
  readonly request: SolveAsked;
  /** Ended with the build's own call. */
  readonly signal: AbortSignal;
  /** What was asked of the frontend, once it was. */
  asked: { frontend: string; attrs: Readonly<Record<string, string>> } | undefined;
  /** What stages began with: ids by whole names. */
  readonly images = new Map<string, string>();
  /** What was handed to a gateway client; null: no files. */
  readonly #results = new Map<string, Source>();
  readonly #sources = Promise.withResolvers<Sources>();
  readonly #returned = Promise.withResolvers<Returned>();

  constructor(request: SolveAsked, signal: AbortSignal) {
    this.request = request;
    this.signal = signal;
    const onAbort = (): void => this.#returned.reject(new CaissonError('Cancelled', 'the build was cancelled'));
    signal.addEventListener('abort', onAbort, { once: true });
    for (const { promise } of [this.#returned, this.#sources]) promise.catch(() => undefined);
  }

  /** Where graphs of operations take from, as long as the build goes on. */
  get sources(): Promise<Sources> {
    return this.#sources.promise;
  }

  begin(sources: Sources): void {
    this.#sources.resolve(sources);
  }

  /** Nothing more is told, and whoever waits for a beginning that never came is sent away. */
  end(): void {
    this.status.end();
    this.#sources.reject(new CaissonError('Cancelled', 'the build is over'));
  }

  /** Its name from here on. */
  keep(result: Source): string {
    const ref = randomBytes(12).toString('hex');
    this.#results.set(ref, result);
    return ref;
  }

  result(ref: string): Source {
    const result = this.#results.get(ref);
    if (result === undefined) throw new CaissonError('NotFound', `no such result of the build: ${ref}`);
    return result;
  }

  /** Resolves when the gateway client is done. */
  returned(): Promise<Returned> {
    return this.#returned.promise;
  }

  return(returned: Returned): void {
    this.#returned.resolve(returned);
  }
}

const WAIT_MS = 5_000;

/** How long, and how many. */
const KEPT = { ms: 30_000, solves: 16 };

export class Solves {
  readonly #open = new Map<string, Solve>();
  /** Done a moment ago: a client asks how it goes by another call, which may come after a short build. */
  readonly #done = new Map<string, Solve>();
  readonly #opened = new EventEmitter().setMaxListeners(0);

  /** Carries one out as long as `use` goes on. */
  async run<T>(solve: Solve, use: () => Promise<T>): Promise<T> {
    const { ref } = solve.request;
    if (this.#open.has(ref)) throw new CaissonError('Conflict', `a build named ${ref} is under way`);
    this.#open.set(ref, solve);
    this.#opened.emit(`opened ${ref}`);
    try {
      return await use();
    } finally {
      this.#open.delete(ref);
      solve.end();
      this.#keep(ref, solve);
    }
  }

  #keep(ref: string, solve: Solve): void {
    this.#done.set(ref, solve);
    setTimeout(() => this.#done.delete(ref), KEPT.ms).unref();
    const [oldest] = this.#done.keys();
    if (this.#done.size > KEPT.solves && oldest !== undefined) this.#done.delete(oldest);
  }

  /** Waits a little for one that is on its way: its client asks by several calls at once. */
  async get(ref: string): Promise<Solve> {
    const there = this.#open.get(ref) ?? this.#done.get(ref);
    if (there !== undefined) return there;
    await once(this.#opened, `opened ${ref}`, { signal: AbortSignal.timeout(WAIT_MS) }).catch(() => undefined);
    const solve = this.#open.get(ref);
    if (solve === undefined) throw new CaissonError('NotFound', `no such job ${ref}`);
    return solve;
  }
}
