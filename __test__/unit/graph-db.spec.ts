import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import SqliteConnection from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Database, isTaken } from '../../ts/graph/db.ts';
import { MIGRATIONS } from '../../ts/graph/migrations.ts';

let dir: string;
let path: string;
const open: Database[] = [];

function database(options?: ConstructorParameters<typeof Database>[1]): Database {
  const db = new Database(path, options);
  open.push(db);
  return db;
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-db-'));
  path = join(dir, 'graph.db');
});

afterEach(async () => {
  for (const db of open.splice(0)) await db.close();
  rmSync(dir, { recursive: true });
});

const set = (db: Database, key: string, value: string): void => {
  db.prepare<[string, string]>('INSERT OR REPLACE INTO meta VALUES (?, ?)').run(key, value);
};
const get = (db: Database, key: string): unknown =>
  db.prepare<[string], { value: string }>('SELECT value FROM meta WHERE key = ?').get(key)?.value;

describe('transactions', () => {
  test('roll back as a whole, and an inner one alone', () => {
    const db = database();
    const heard: string[] = [];
    db.transaction(() => {
      set(db, 'a', '1');
      db.afterCommit(() => heard.push('outer'));
      expect(() =>
        db.transaction(() => {
          set(db, 'b', '1');
          db.afterCommit(() => heard.push('inner'));
          throw new Error('inner');
        }),
      ).toThrow('inner');
    });
    expect([get(db, 'a'), get(db, 'b')]).toEqual(['1', undefined]);
    expect(heard).toEqual(['outer']);
    expect(() =>
      db.transaction(() => {
        set(db, 'a', '2');
        throw new Error('outer');
      }),
    ).toThrow('outer');
    expect(get(db, 'a')).toBe('1');
  });

  test('tell which column is taken', () => {
    const db = database();
    let error: unknown;
    try {
      db.prepare("INSERT INTO meta VALUES ('k', ''), ('k', '')").run();
    } catch (caught) {
      error = caught;
    }
    expect(isTaken(error, 'meta.key')).toBe(true);
    expect(isTaken(error, 'meta.value')).toBe(false);
    expect(isTaken(new Error('UNIQUE constraint failed: meta.key'), 'meta.key')).toBe(false);
  });

  test('are in the log when a process is killed right behind the commit', () => {
    const script = `
      import { Database } from ${JSON.stringify(join(import.meta.dirname, '../../ts/graph/db.ts'))};
      const db = new Database(${JSON.stringify(path)});
      db.transaction(() => db.prepare("INSERT INTO meta VALUES ('k', 'kept')").run());
      process.kill(process.pid, 'SIGKILL');`;
    expect(() => execFileSync(process.execPath, ['--input-type=module', '-e', script], { stdio: 'pipe' })).toThrow();
    const db = database();
    expect(get(db, 'k')).toBe('kept');
    expect(db.integrityErrors()).toEqual([]);
  });
});

describe('durable', () => {
  test('is shared, and every caller is answered', async () => {
    const db = database();
    const first = db.durable();
    const second = db.durable();
    const third = db.durable();
    expect(second).not.toBe(first);
    expect(third).toBe(second);
    await Promise.all([first, second, third]);
    await db.durable();
  });
});

describe('checkpoint', () => {
  test('moves the log into the database on another connection and leaves the log usable', async () => {
    const db = database();
    for (let i = 0; i < 200; i++) set(db, `k${i}`, 'x'.repeat(1000));
    const before = statSync(path).size;
    await db.checkpoint();
    expect(statSync(path).size).toBeGreaterThan(before);
    set(db, 'after', '1');
    await db.durable();
    expect(get(db, 'after')).toBe('1');
    expect(db.integrityErrors()).toEqual([]);
  });

  test('comes by itself, so that the log does not grow for ever', async () => {
    const db = database({ checkpointAfterCommits: 20 });
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 25; i++) db.transaction(() => set(db, `k${i}`, 'x'.repeat(10_000)));
      await db.checkpoint();
    }
    // 125 commits of at least 3 pages each would be 1.5 MB without a reset.
    expect(statSync(`${path}-wal`).size).toBeLessThan(1_000_000);
  });
});

describe('files', () => {
  test('are private, and closing leaves one', async () => {
    const db = database();
    set(db, 'a', '1');
    for (const suffix of ['', '-wal', '-shm']) expect(statSync(path + suffix).mode & 0o777).toBe(0o600);
    await db.close();
    expect(() => statSync(`${path}-wal`)).toThrow(/ENOENT/);
  });

  test('that are no database are refused by path', () => {
    execFileSync('sh', ['-c', `yes rubbish | head -c 8192 > '${path}'`]);
    expect(() => database()).toThrow(path);
  });
});

describe('migrations', () => {
  const more = [...MIGRATIONS, { version: MIGRATIONS.length + 1, name: 'more', sql: 'CREATE TABLE more (a) ' }];

  test('are numbered from 1 without gaps', () => {
    expect(MIGRATIONS.map((migration) => migration.version)).toEqual(MIGRATIONS.map((_, index) => index + 1));
  });

  test('lead from every older version to the newest with the same schema', async () => {
    const schema = (file: string): unknown => {
      const connection = new SqliteConnection(file, { readonly: true });
      const rows = connection.prepare('SELECT name, sql FROM sqlite_schema ORDER BY name').all();
      connection.close();
      return rows;
    };
    const fresh = new Database(path, { migrations: more });
    await fresh.close();
    for (let version = 0; version <= MIGRATIONS.length; version++) {
      const old = join(dir, `v${version}.db`);
      await new Database(old, { migrations: MIGRATIONS.slice(0, version) }).close();
      await new Database(old, { migrations: more }).close();
      expect(schema(old)).toEqual(schema(path));
    }
  });

  test('refuse a newer database and leave it alone', async () => {
    await new Database(path, { migrations: more }).close();
    expect(() => database()).toThrow(
      `${path} has schema version ${more.length}, but this caisson knows versions up to ${MIGRATIONS.length}`,
    );
    const db = database({ migrations: more });
    expect(db.schemaVersion()).toBe(more.length);
  });

  test('are all or nothing', () => {
    const broken = [
      ...MIGRATIONS,
      { version: MIGRATIONS.length + 1, name: 'broken', sql: 'CREATE TABLE x (a); NONSENSE' },
    ];
    expect(() => database({ migrations: broken })).toThrow('NONSENSE');
    expect(database().schemaVersion()).toBe(MIGRATIONS.length);
  });
});
