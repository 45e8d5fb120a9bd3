/** One run of the bench: what to measure, the interleaved pairs, and the rows that were measured. */
import { execFileSync } from 'node:child_process';
import type { Daemon } from './daemons.ts';
import { median, ratio } from './statistics.ts';

export interface Row {
  id: string;
  what: string;
  unit: string;
  ours: number[];
  theirs: number[];
  /** `peer / caisson`: above 1 means that caisson needs less. */
  peer: string;
}

export interface Pairs {
  id: string;
  what: string;
  unit: string;
  peer: string;
  /** How many pairs are kept. */
  count: number;
  /** Rest before each measurement in ms: 0 is a burst, 250 pays the kernel's grace periods. */
  gapMs?: number;
  ours: () => number;
  theirs: () => number;
}

export class Bench {
  readonly rows: Row[] = [];
  /** Number of pairs of the quick rows. */
  readonly pairCount: number;
  /** Scratch directory of this run. */
  readonly dir: string;
  /** The static client that times API calls. */
  readonly client: string;
  readonly #only: string[] | undefined;

  constructor(pairCount: number, only: string[] | undefined, dir: string, client: string) {
    this.pairCount = pairCount;
    this.#only = only;
    this.dir = dir;
    this.client = client;
  }

  /** Whether a row, or one that begins so, was asked for. */
  wanted(id: string): boolean {
    return !this.#only || this.#only.some((prefix) => id.startsWith(prefix) || prefix.startsWith(id));
  }

  clientMs(...args: string[]): number {
    return Number(execFileSync(this.client, args, { encoding: 'utf8' }).trim().split(' ').at(-1)) / 1000;
  }

  /** Pairs in random order after two warm-ups. */
  async pairs({ id, what, unit, peer, count, gapMs = 0, ours, theirs }: Pairs): Promise<void> {
    if (!this.wanted(id)) return;
    const row: Row = { id, what, unit, peer, ours: [], theirs: [] };
    for (let i = -2; i < count; i++) {
      const order = Math.random() < 0.5 ? (['ours', 'theirs'] as const) : (['theirs', 'ours'] as const);
      for (const side of order) {
        if (gapMs > 0) await new Promise((resolve) => setTimeout(resolve, gapMs));
        const value = side === 'ours' ? ours() : theirs();
        if (i >= 0) row[side].push(value);
      }
    }
    this.add(row);
  }

  add(row: Row): void {
    this.rows.push(row);
    const r = ratio(row.theirs, row.ours).median.toFixed(2);
    console.error(
      `${row.id.padEnd(16)} ${row.what}: caisson ${median(row.ours).toFixed(2)} ${row.unit}, ${row.peer} ${median(row.theirs).toFixed(2)} ${row.unit}, ratio ${r}`,
    );
  }
}

/** The docker CLI on a daemon's socket; gives what it prints. */
export const docker = (daemon: Daemon, ...args: string[]): string =>
  execFileSync('docker', ['-H', `unix://${daemon.socket}`, ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 30,
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim();

export const timedMs = (work: () => void): number => {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1e6;
};

/** What is compared: both daemons, the registry they pull from and the small image that both have. */
export interface Subjects {
  caisson: Daemon;
  dockerd: Daemon;
  registry: string;
  image: string;
}
