/**
 * One container's log on its way to its receiver: records are read from the files that the shim writes, and how far they
 * have arrived stands in a file beside them. Who is killed between the two sends the last records again; none is lost as
 * long as the files that hold it are there.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../../../async.ts';
import type { Native } from '../../native/index.ts';
import { Frames } from './frames.ts';
import type { LogRecord, Sender } from './sender.ts';

export type Report = (level: 'warn' | 'info', message: string, fields: Record<string, unknown>) => void;

export interface FollowerOptions {
  native: Pick<Native, 'socketPair' | 'serveLog' | 'endLog'>;
  sender: Sender;
  report: Report;
  /** For `endLog`. */
  handle: number;
  /** The log, in the local format. */
  path: string;
  /** Where the position is kept. */
  positionPath: string;
}

export class Follower {
  /** Everything has been sent, or it was given up. */
  readonly done: Promise<void>;
  readonly #options: FollowerOptions;
  readonly #socket: Socket;
  readonly #aborted = new AbortController();
  #lastChance = false;
  #failing = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
    const { native, handle, path, positionPath } = options;
    const [ours, theirs] = native.socketPair();
    this.#socket = new Socket({ fd: ours });
    const behind = readPosition(positionPath);
    const served = native.serveLog({
      driver: 'local',
      path,
      stdout: true,
      stderr: true,
      timestamps: false,
      details: false,
      follow: true,
      raw: true,
      records: behind === undefined ? {} : { behind },
      handle,
      fd: theirs,
      head: '',
      chunked: false,
    });
    this.done = this.#run(served);
  }

  /** The container has ended: what it has written is sent, and no more is waited for. */
  ended(): void {
    this.#options.native.endLog(this.#options.handle);
  }

  /** The log goes away: all is sent that can be sent at once. */
  async finish(limitMs: number): Promise<void> {
    this.#lastChance = true;
    this.ended();
    const late = new AbortController();
    const limit = sleep(limitMs, undefined, { signal: late.signal }).catch(() => undefined);
    // one that fails by now would only fail again
    if (!this.#failing) await Promise.race([this.done, limit]);
    late.abort();
    await this.abort();
  }

  /** As the daemon's end would: what has not been sent can be sent later. */
  async abort(): Promise<void> {
    this.#aborted.abort();
    this.#socket.destroy();
    await this.done;
  }

  async #run(served: Promise<void>): Promise<void> {
    const { sender, report, positionPath } = this.#options;
    let fd: number | undefined;
    try {
      fd = openSync(positionPath, constants.O_RDWR | constants.O_CREAT, 0o640);
      const frames = new Frames();
      for await (const chunk of this.#socket) {
        const { records, behind } = frames.push(chunk as Buffer);
        if (records.length > 0) await this.#deliver(records);
        if (this.#aborted.signal.aborted) break;
        if (behind !== undefined) writeSync(fd, behind, 0, 'latin1');
      }
    } catch (error) {
      if (!this.#aborted.signal.aborted)
        report('warn', 'a log is not forwarded any more', { reason: messageOf(error) });
    } finally {
      if (fd !== undefined) closeSync(fd);
      sender.close();
      this.#socket.destroy();
      await served.catch((error: unknown) => report('warn', 'a log cannot be read', { reason: messageOf(error) }));
    }
  }

  /** Until they have arrived, or the driver's options or the container's removal say that it is enough. */
  async #deliver(records: LogRecord[]): Promise<void> {
    const { sender, report } = this.#options;
    const { signal } = this.#aborted;
    for (let failed = 1; !signal.aborted; failed++) {
      try {
        await abortable(sender.send(records), signal);
        if (this.#failing) report('info', 'the receiver of a log is back', {});
        this.#failing = false;
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (!this.#failing) report('warn', 'the receiver of a log does not take it', { reason: messageOf(error) });
        this.#failing = true;
        const waitMs = sender.retryMs(failed);
        if (waitMs === undefined || this.#lastChance) {
          report('warn', 'records of a log were given up', { records: records.length });
          return;
        }
        await sleep(waitMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function readPosition(path: string): string | undefined {
  try {
    return /^[0-9a-f]{48}/.exec(readFileSync(path, 'latin1'))?.[0];
  } catch {
    return undefined;
  }
}
