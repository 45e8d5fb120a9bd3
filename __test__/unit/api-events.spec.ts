import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseTimestamp } from '../../ts/engine/api/timestamps.ts';
import { type EventQuery, eventLine, followEvents, matches } from '../../ts/engine/system/eventStream.ts';
import { Database } from '../../ts/graph/db.ts';
import { type EventRow, EventStore } from '../../ts/graph/events.ts';

const dir = mkdtempSync(join(tmpdir(), 'caisson-events-'));
const db = new Database(join(dir, 'graph.db'));
afterAll(async () => {
  await db.close();
  rmSync(dir, { recursive: true });
});

const store = new EventStore(db);
const append = (actorId: string, action = 'start'): void =>
  store.append({ type: 'container', action, actorId, attributes: { image: 'busybox:1', name: `n-${actorId}` } });
const query = (more: Partial<EventQuery> = {}): EventQuery => ({
  since: undefined,
  until: undefined,
  filters: new Map(),
  ...more,
});

describe('following', () => {
  it('joins what is stored and what is new without gap or repetition', async () => {
    const abort = new AbortController();
    for (let i = 0; i < 5; i++) append(`a${i}`);
    const seen: string[] = [];
    let next = 5;
    for await (const event of followEvents(store, query({ since: 0n }), abort.signal)) {
      seen.push(event.actorId);
      // Some come while the reader is at work, in the same turn and later.
      if (next < 20) append(`a${next++}`);
      if (next < 20) setImmediate(append, `a${next++}`);
      if (seen.length === 20) abort.abort();
    }
    expect(new Set(seen)).toEqual(new Set(Array.from({ length: 20 }, (_, i) => `a${i}`)));
    expect(seen).toHaveLength(20);
  });

  it('begins with the next event when no time is given', async () => {
    const abort = new AbortController();
    append('before');
    const events = followEvents(store, query(), abort.signal);
    const first = events.next();
    append('after');
    expect((await first).value?.actorId).toBe('after');
    abort.abort();
    expect((await events.next()).done).toBe(true);
  });

  it('has a page of events in memory while it is not read, however many there are', async () => {
    const since = store.lastNs + 1n;
    for (let at = 0; at < 100; at++) append(`p${at}`);
    const pages: number[] = [];
    const paged = {
      listen: (listener: () => void) => store.listen(listener),
      get lastSeq() {
        return store.lastSeq;
      },
      get lastNs() {
        return store.lastNs;
      },
      between: (...args: Parameters<EventStore['between']>) => {
        const page = store.between(...args);
        pages.push(page.length);
        return page;
      },
    };
    const abort = new AbortController();
    const seen: string[] = [];
    for await (const event of followEvents(paged as EventStore, query({ since }), abort.signal)) {
      seen.push(event.actorId);
      if (seen.length === 1) expect(pages).toEqual([32]);
      if (seen.length === 100) abort.abort();
    }
    expect(seen).toEqual(Array.from({ length: 100 }, (_, at) => `p${at}`));
  });

  it('tells of what happens from now on though `since` is yet to come', async () => {
    const abort = new AbortController();
    append('before');
    const events = followEvents(store, query({ since: BigInt(Date.now() + 3_600_000) * 1_000_000n }), abort.signal);
    const first = events.next();
    append('after');
    expect((await first).value?.actorId).toBe('after');
    abort.abort();
    expect((await events.next()).done).toBe(true);
  });

  it('ends at until', async () => {
    append('last');
    const found: string[] = [];
    const until = BigInt(Date.now() + 1000) * 1_000_000n;
    for await (const event of followEvents(
      store,
      query({ since: 0n, until: until - 1_000_000_000n }),
      new AbortController().signal,
    ))
      found.push(event.actorId);
    expect(found.length).toBeGreaterThan(0);
  });
});

describe('filters', () => {
  const event: EventRow = {
    seq: 1,
    timeNs: 1795540885662514379n,
    type: 'container',
    action: 'exec_start: sh',
    actorId: 'abcdef',
    attributes: { image: 'busybox:1', name: 'web', tier: 'front' },
  };
  it.each<[string, string[], boolean]>([
    ['event', ['exec_start'], true],
    ['event', ['exec'], false],
    ['event', ['stop', 'exec_start: sh'], true],
    ['type', ['image', 'container'], true],
    ['type', ['image'], false],
    ['container', ['abc'], true],
    ['container', ['web'], true],
    ['container', ['x'], false],
    ['image', ['busybox'], true],
    ['image', ['busybox:1'], true],
    ['image', ['busy'], false],
    ['label', ['tier=front'], true],
    ['label', ['tier=back'], false],
    ['label', ['tier'], true],
    ['network', ['abc'], false],
  ])('%s=%j is %s', (key, values, expected) => {
    expect(matches(event, new Map([[key, values]]))).toBe(expected);
  });

  it('writes nanoseconds as digits', () => {
    expect(eventLine(event)).toContain('"time":1795540885,"timeNano":1795540885662514379}');
    expect(JSON.parse(eventLine(event))).toMatchObject({ status: 'exec_start: sh', id: 'abcdef', from: 'busybox:1' });
  });
});

describe('timestamps', () => {
  it.each<[string, bigint | undefined]>([
    ['', undefined],
    ['7', 7_000_000_000n],
    ['-1', -1_000_000_000n],
    ['7.5', 7_500_000_000n],
    ['1795540885.662514379', 1795540885662514379n],
    ['1970-01-01T00:00:01Z', 1_000_000_000n],
    ['1970-01-01T01:00:01.000000007+01:00', 1_000_000_007n],
  ])('%s', (text, expected) => {
    expect(parseTimestamp('since', text)).toBe(expected);
  });

  it.each(['x', '10m', '1970', '1.2.3'])('refuses %s or takes it for seconds', (text) => {
    if (text === '1970') expect(parseTimestamp('since', text)).toBe(1970_000_000_000n);
    else expect(() => parseTimestamp('since', text)).toThrow('not a timestamp');
  });
});
