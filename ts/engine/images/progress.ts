/** The JSON lines that a client sees while layers come: Docker's words, at most ten lines a second for each layer. */

export interface ProgressLine {
  status?: string;
  id?: string;
  progressDetail?: { current?: number; total?: number };
  stream?: string;
  aux?: object;
}

export type Emit = (line: ProgressLine) => void;

const INTERVAL_MS = 100;

/** Of a digest, what users see. */
export const shortId = (digest: string): string => digest.slice(digest.indexOf(':') + 1, digest.indexOf(':') + 13);

export class LayerProgress {
  readonly #emit: Emit;
  readonly #id: string;
  readonly #total: number | undefined;
  #current = 0;
  #lastMs = 0;

  constructor(emit: Emit, id: string, total: number | undefined) {
    this.#emit = emit;
    this.#id = id;
    this.#total = total;
  }

  status(status: string): void {
    this.#emit({ status, progressDetail: {}, id: this.#id });
  }

  /** That many bytes more have come. */
  downloaded(bytes: number): void {
    this.#current += bytes;
    const now = performance.now();
    if (now - this.#lastMs < INTERVAL_MS) return;
    this.#lastMs = now;
    this.#line('Downloading');
  }

  /** All bytes have come and are unpacked as they came. */
  received(): void {
    this.#line('Downloading');
    this.status('Verifying Checksum');
    this.status('Download complete');
    this.#line('Extracting');
  }

  #line(status: string): void {
    const total = this.#total === undefined ? {} : { total: this.#total };
    this.#emit({ status, progressDetail: { current: this.#current, ...total }, id: this.#id });
  }
}
