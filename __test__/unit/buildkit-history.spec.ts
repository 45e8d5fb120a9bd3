/** Which records of builds are kept, and who hears of them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { History } from '../../ts/engine/buildkit/history.ts';
import {
  type BuildHistoryEvent,
  BuildHistoryRequestSchema,
  UpdateBuildHistoryRequestSchema,
} from '../../ts/engine/buildkit/proto/control_pb.ts';
import { Solve } from '../../ts/engine/buildkit/solves.ts';
import { Database } from '../../ts/graph/db.ts';
import { Graph } from '../../ts/graph/graph.ts';
import { createLogger } from '../../ts/log.ts';

const [STARTED, COMPLETE, DELETED] = [0, 1, 2];

let dir: string;
let db: Database;
let limits: { maxAgeMs: number; maxEntries: number };
let history: History;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'caisson-history-'));
  db = new Database(join(dir, 'graph.db'));
  limits = { maxAgeMs: 0, maxEntries: 2 };
  history = new History(new Graph(db).buildRecords, createLogger('silent'), () => limits);
});

afterEach(async () => {
  await db.close();
  rmSync(dir, { recursive: true });
});

const never = new AbortController().signal;

/** Builds of one moment could be in any order. */
const moment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 3));

async function build(ref: string, use: (solve: Solve) => Promise<void> = async () => undefined): Promise<void> {
  const request = { ref, sessionId: '', entitlements: [], exporters: [], isInternal: false };
  const solve = new Solve(request, never);
  await history
    .during(
      solve,
      () => [],
      async () => {
        await use(solve);
        return {};
      },
    )
    .catch(() => undefined);
  await moment();
}

const shown = ({ type, record }: BuildHistoryEvent): string => `${type} ${record?.Ref}`;

async function list(more: object = {}): Promise<string[]> {
  const events: string[] = [];
  const request = create(BuildHistoryRequestSchema, { EarlyExit: true, ...more });
  for await (const event of history.listen(request, never)) events.push(shown(event));
  return events;
}

it('the newest are kept, and those that are pinned; the young ones all', async () => {
  await build('pinned');
  history.update(create(UpdateBuildHistoryRequestSchema, { Ref: 'pinned', Pinned: true }));
  for (const ref of ['a', 'b', 'c']) await build(ref);
  expect(await list()).toEqual([`${COMPLETE} c`, `${COMPLETE} b`, `${COMPLETE} pinned`]);
  limits = { maxAgeMs: 3_600_000, maxEntries: 2 };
  for (const ref of ['d', 'e']) await build(ref);
  expect(await list({ Limit: 4 })).toEqual(['e', 'd', 'c', 'b'].map((ref) => `${COMPLETE} ${ref}`));
});

it('who listens hears of what begins, ends and goes', async () => {
  const stopped = new AbortController();
  const heard: string[] = [];
  const listening = (async () => {
    for await (const event of history.listen(create(BuildHistoryRequestSchema, {}), stopped.signal))
      if (heard.push(shown(event)) === 3) stopped.abort();
  })();
  await moment();
  await build('a', async () => expect(await list({ ActiveOnly: true })).toEqual([`${STARTED} a`]));
  history.update(create(UpdateBuildHistoryRequestSchema, { Ref: 'a', Delete: true }));
  await listening;
  expect(heard).toEqual([`${STARTED} a`, `${COMPLETE} a`, `${DELETED} a`]);
  expect(() => history.update(create(UpdateBuildHistoryRequestSchema, { Ref: 'a' }))).toThrow('no build record a');
});

it('a record has the steps, what they said and why the build failed', async () => {
  await build('a', async (solve) => {
    solve.asked = { frontend: 'dockerfile.v0', attrs: { target: 't' } };
    solve.status.vertex('one').end();
    solve.status.vertex('two').output(false, 'words');
    throw new Error('too late');
  });
  const events = history.listen(create(BuildHistoryRequestSchema, { EarlyExit: true }), never);
  const { record } = ((await events.next()).value as BuildHistoryEvent | undefined) ?? {};
  expect(record).toMatchObject({ numTotalSteps: 2, numCompletedSteps: 1, FrontendAttrs: { target: 't' } });
  expect(record?.error?.message).toBe('too late');
  expect(record?.Result).toBeUndefined();
  const told = [...history.log('a')];
  expect(told.flatMap(({ vertexes }) => vertexes.map(({ name }) => name))).toEqual(['one', 'one', 'two']);
  expect(told.flatMap(({ logs }) => logs.map(({ msg }) => Buffer.from(msg).toString()))).toEqual(['words']);
});
