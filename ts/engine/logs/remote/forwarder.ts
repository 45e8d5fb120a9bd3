/**
 * Logs that go elsewhere (syslog, fluentd, gelf, journald): the daemon's end of the thread that forwards them. The shim
 * writes each such log to files as it does those of the local driver, so that `docker logs` works and a daemon may be killed
 * at any time; whoever comes next goes on behind the last record that has arrived.
 */
import { mkdirSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { CaissonError } from '../../../errdefs.ts';
import type { Logger } from '../../../log.ts';
import type { LogSubject } from './sender.ts';

/** From where to where. */
export interface Route {
  driver: string;
  options: Record<string, string>;
  subject: LogSubject;
  path: string;
  positionPath: string;
}

export type Order = { call: number } & (
  | { type: 'open'; route: Route; mustReach: boolean; running: boolean }
  | { type: 'ended'; id: string }
  | { type: 'finish'; id: string }
);

export type Answer =
  | { type: 'answer'; call: number; error?: string }
  | { type: 'done'; id: string }
  | { type: 'report'; level: 'warn' | 'info'; message: string; fields: Record<string, unknown> };

type Request = Order extends infer O ? (O extends Order ? Omit<O, 'call'> : never) : never;

interface Call {
  resolve: () => void;
  reject: (error: Error) => void;
}

/** One that cannot even begin must not take the machine. */
const RESTART_MS = 1000;

export class LogForwarder {
  readonly #log: Logger;
  #worker: Worker | undefined;
  #nextCall = 1;
  readonly #calls = new Map<number, Call>();
  /** What is being forwarded. */
  readonly #routes = new Map<string, Route & { running: boolean }>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Of a container that is about to start. Fails in dockerd's words when its receiver cannot be reached. */
  async begin(route: Route): Promise<void> {
    // one in which a follower may wait for the file
    mkdirSync(dirname(route.path), { recursive: true, mode: 0o710 });
    try {
      await this.#ask({ type: 'open', route, mustReach: true, running: true });
    } catch (error) {
      const message = `failed to create task for container: failed to initialize logging driver: ${(error as Error).message}`;
      throw new CaissonError('System', message, { code: 'LOG_RECEIVER_UNREACHABLE', cause: error });
    }
    this.#routes.set(route.subject.id, { ...route, running: true });
  }

  /** Of one that an earlier daemon has started. */
  resume(route: Route, running: boolean): void {
    this.#routes.set(route.subject.id, { ...route, running });
    void this.#ask({ type: 'open', route, mustReach: false, running }).catch((error: unknown) => {
      this.#log.warn({ err: error, container: route.subject.id }, 'a log cannot be forwarded');
    });
  }

  /** The container has ended: all that it has written is still sent. */
  ended(id: string): void {
    const route = this.#routes.get(id);
    if (route === undefined) return;
    route.running = false;
    void this.#ask({ type: 'ended', id }).catch(() => undefined);
  }

  /** The log is about to be removed: what cannot be sent now is lost. */
  async finish(id: string): Promise<void> {
    if (!this.#routes.has(id)) return;
    await this.#ask({ type: 'finish', id }).catch(() => undefined);
    this.#routes.delete(id);
  }

  #ask(request: Request): Promise<void> {
    const call = this.#nextCall++;
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#worker ??= this.#start();
      this.#worker.postMessage({ ...request, call } as Order);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
      // the addon opens and closes descriptors too
      trackUnmanagedFds: false,
    });
    worker.unref();
    worker.on('message', (answer: Answer) => this.#heard(answer));
    worker.on('error', (error) => this.#lost(error as Error));
    return worker;
  }

  #heard(answer: Answer): void {
    if (answer.type === 'report') this.#log[answer.level](answer.fields, answer.message);
    else if (answer.type === 'answer') this.#answered(answer);
    else if (this.#routes.get(answer.id)?.running === false) this.#routes.delete(answer.id);
  }

  #answered(answer: Answer & { type: 'answer' }): void {
    const call = this.#calls.get(answer.call);
    this.#calls.delete(answer.call);
    if (answer.error === undefined) call?.resolve();
    else call?.reject(new Error(answer.error));
  }

  /** A mistake in it ends the thread: the next one goes on where it was. */
  #lost(error: Error): void {
    this.#log.error({ err: error }, 'the thread that forwards logs has ended; another one goes on');
    this.#worker = undefined;
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
    const again = setTimeout(() => {
      for (const { running, ...route } of [...this.#routes.values()]) this.resume(route, running);
    }, RESTART_MS);
    again.unref();
  }
}
