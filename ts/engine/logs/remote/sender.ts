/** What sends a container's log elsewhere, one for each driver; the follower hands it records and tries again. */

/** A piece of a line that is longer than a record (16 KiB), or that the container has not ended. */
export interface Piece {
  /** The same of all pieces of a line. */
  id: string;
  /** From 1. */
  ordinal: number;
  last: boolean;
}

export interface LogRecord {
  stream: 'stdout' | 'stderr';
  timeNs: bigint;
  /** Without the newline. */
  text: Buffer;
  piece?: Piece;
}

/** What messages tell of their container, as it was when it started. */
export interface LogSubject {
  id: string;
  name: string;
  imageId: string;
  imageName: string;
  command: string;
  /** RFC 3339. */
  created: string;
  tag: string;
  /** Labels and environment variables that `labels`, `env` and their expressions choose. */
  extra: Record<string, string>;
}

export interface Sender {
  /** Fails in dockerd's words when the receiver cannot be reached. A driver that need not reach it does nothing. */
  connect(): Promise<void>;
  /** Connects where it is not. When it fails, all of the records are sent again. */
  send(records: LogRecord[]): Promise<void>;
  /** How long to wait before the next attempt, after so many have failed; undefined: the records are given up. */
  retryMs(failed: number): number | undefined;
  /** Flushes and hangs up. */
  close(): void;
}

/** Without end, ever more slowly. */
export const patiently = (failed: number): number => Math.min(100 * 2 ** (failed - 1), 5000);

export const milliseconds = ({ timeNs }: Pick<LogRecord, 'timeNs'>): number => Number(timeNs / 1_000_000n);
