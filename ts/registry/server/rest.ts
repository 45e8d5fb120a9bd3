/** Tells when nobody asks for anything any more: a registry works for minutes and idles for days. */
const QUIET_MS = 10_000;

export class Rest {
  readonly #begins: () => void;
  readonly #timer: NodeJS.Timeout;
  #asked = false;
  #resting = false;

  /** `begins`: once for each time of quiet. */
  constructor(begins: () => void) {
    this.#begins = begins;
    this.#timer = setInterval(() => this.#look(), QUIET_MS);
    this.#timer.unref();
  }

  /** Somebody asks. */
  end(): void {
    this.#asked = true;
    this.#resting = false;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    if (!this.#asked && !this.#resting) {
      this.#resting = true;
      this.#begins();
    }
    this.#asked = false;
  }
}
