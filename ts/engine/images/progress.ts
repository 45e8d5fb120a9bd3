/** The JSON lines that a client sees while layers come: Docker's words, at most ten lines a second for each layer. */
import { humanSize } from '../../humanSize.ts';

export interface ProgressLine {
  status?: string;
  id?: string;
  progressDetail?: { current?: number; total?: number };
  /** The same for people, by clients that draw nothing themselves. */
  progress?: string;
  stream?: string;
  /** For programs. */
  aux?: object | string;
}

export type Emit = (line: ProgressLine) => void;

const INTERVAL_MS = 100;

/** Of a digest, what users see. */
export const shortId = (digest: string): string => digest.slice(digest.indexOf(':') + 1, digest.indexOf(':') + 13);

/** One layer on its way, in either direction. */
export class TransferProgress {
  readonly #emit: Emit;
  readonly #id: string;
  readonly #total: number;
  readonly #verb: string;
  #current = 0;
  #lastMs = 0;

  constructor(emit: Emit, id: string, total: number, verb: 'Downloading' | 'Pushing' | 'Importing') {
    this.#emit = emit;
    this.#id = id;
    this.#total = total;
    this.#verb = verb;
  }

  status(status: string): void {
    this.#emit({ status, progressDetail: {}, id: this.#id });
  }

  /** That many bytes more have gone. */
  moved(bytes: number): void {
    this.reached(this.#current + bytes);
  }

  /** So many bytes have gone. */
  reached(bytes: number): void {
    this.#current = bytes;
    const now = performance.now();
    if (now - this.#lastMs < INTERVAL_MS) return;
    this.#lastMs = now;
    this.line(this.#verb);
  }

  /** The last count is told, then the outcome. */
  ended(status: string): void {
    this.line(this.#verb);
    this.status(status);
  }

  line(status: string): void {
    this.#emit(progressLine(status, this.#id, { current: this.#current, total: this.#total }));
  }
}

/** With the bar of 50 signs that Docker has always sent. */
export function progressLine(status: string, id: string, detail: { current: number; total: number }): ProgressLine {
  const { current, total } = detail;
  if (current <= 0 && total <= 0) return { status, progressDetail: detail, id };
  const done = Math.min(50, Math.floor((current / total) * 50));
  const bar = total > 0 ? `[${'='.repeat(done)}>${' '.repeat(50 - done)}] ` : '';
  const of = total > 0 && current <= total ? `/${humanSize(total, 4)}` : '';
  return { status, progressDetail: detail, progress: `${bar}${humanSize(current, 4).padStart(8)}${of}`, id };
}

/** All bytes of a layer have come and are unpacked as they came. */
export function received(progress: TransferProgress): void {
  progress.line('Downloading');
  progress.status('Verifying Checksum');
  progress.status('Download complete');
  progress.line('Extracting');
}
