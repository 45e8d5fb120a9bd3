import type { Database, Statement } from './db.ts';

/** Ids of one table by prefix: at most two, so that the caller can tell none, one and several apart. */
export class PrefixLookup {
  readonly #statement: Statement<[string, string], { id: string }>;

  constructor(db: Database, table: string, column: string) {
    // A range over the primary key; LIKE would not use the index. 'g' sorts behind every hexadecimal digit.
    this.#statement = db.prepare(
      `SELECT ${column} AS id FROM ${table} WHERE ${column} >= ? AND ${column} < ? ORDER BY ${column} LIMIT 2`,
    );
  }

  /** `prefix` is hexadecimal, with `sha256:` in front where the table's ids have it. */
  find(prefix: string): string[] {
    return this.#statement.all(prefix, `${prefix}g`).map((row) => row.id);
  }
}

const HEX = /^[0-9a-f]{1,64}$/;

export const isHexPrefix = (text: string): boolean => HEX.test(text);
