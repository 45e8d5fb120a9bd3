/** Digests that a commit is under way for: between the file's coming and its row the collector leaves them alone. */
export class Pins {
  readonly #held = new Map<string, number>();

  isHeld(digest: string): boolean {
    return this.#held.has(digest);
  }

  async hold<T>(digest: string, work: () => Promise<T>): Promise<T> {
    this.#held.set(digest, (this.#held.get(digest) ?? 0) + 1);
    try {
      return await work();
    } finally {
      const left = (this.#held.get(digest) ?? 1) - 1;
      if (left === 0) this.#held.delete(digest);
      else this.#held.set(digest, left);
    }
  }
}
