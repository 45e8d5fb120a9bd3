/** The database and the journal on a full disk: refused, never half done, and usable again when there is room. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { missing } from '../helpers/requires.ts';

const ts = (path: string): string => JSON.stringify(join(import.meta.dirname, '../../ts', path));

/** Runs in a mount namespace of its own, where `process.argv[1]` is a tmpfs of 2 MiB. */
const PROGRAM = `
import { rmSync, writeFileSync } from 'node:fs';
import { KindRegistry, lock } from ${ts('engine/jobs/kinds.ts')};
import { JobRunner } from ${ts('engine/jobs/runner.ts')};
import { Database } from ${ts('graph/db.ts')};
import { Graph } from ${ts('graph/graph.ts')};
import { createLogger } from ${ts('log.ts')};

const dir = process.argv[1];
const ballast = dir + '/ballast';
const graph = new Graph(new Database(dir + '/graph.db'));
const registry = new KindRegistry();
const undone = [];
const big = { name: 'big', medium: 'disk', undo: () => void undone.push('big'),
  do: () => { fill(); return { rows: () => graph.meta.set('big', 'x'.repeat(100_000)) }; } };
const kind = registry.register({ kind: 'grow', subject: () => 'x', claims: () => [lock('x')], steps: [big],
  commitPoint: 1, durable: true });
const runner = new JobRunner({ db: graph.db, jobs: graph.jobs, registry, bootId: 'boot', log: createLogger('silent'),
  backoffMs: () => 3_600_000 });

function fill() {
  for (let size = 1 << 20; size >= 1; size >>= 1) {
    try { for (;;) writeFileSync(ballast, Buffer.alloc(size), { flag: 'a' }); } catch {}
  }
}
const failure = (error) => ({ kind: error.kind, code: error.code, message: error.message.replace(dir, 'DIR') });
const result = {};
result.run = await runner.run(kind, {}).catch(failure);
result.undone = undone.length > 0;
result.big = graph.meta.get('big') ?? null;
result.errors = graph.db.integrityErrors();
rmSync(ballast);
const held = await runner.lock(['x']);
held.release();
graph.meta.set('after', 'room');
await graph.db.durable();
result.after = graph.meta.get('after');
result.left = [graph.jobs.all(), graph.jobs.claims(), runner.unfinished()];
await runner.close();
await graph.db.close();
console.log(JSON.stringify(result));
`;

test.skipIf(missing('root'))(
  'a job whose rows find no room is undone, and the next operation finds its claims free',
  () => {
    const dir = mkdtempSync(join(tmpdir(), 'caisson-full-'));
    try {
      const script = 'mount -t tmpfs -o size=2m caisson-test "$1" && exec "$2" --input-type=module -e "$3" "$1"';
      const run = spawnSync('unshare', ['-m', 'sh', '-ec', script, 'sh', dir, process.execPath, PROGRAM], {
        encoding: 'utf8',
      });
      expect(run.stderr).toBe('');
      expect(JSON.parse(run.stdout)).toEqual({
        run: { kind: 'System', code: 'SQLITE_FULL', message: 'database DIR/graph.db: no space left on device' },
        undone: true,
        big: null,
        errors: [],
        after: 'room',
        left: [[], [], []],
      });
    } finally {
      rmSync(dir, { recursive: true });
    }
  },
);
