/**
 * Events as a client follows them. The store is the queue: a follower is a position in it, woken by new events, so a slow
 * reader costs no memory and there is no gap between what is replayed and what is new.
 */
import type { EventRow, EventStore } from '../../graph/events.ts';
import { type Filters, labelsMatch } from '../api/query.ts';

export interface EventQuery {
  /** Nanoseconds since the epoch. */
  since: bigint | undefined;
  until: bigint | undefined;
  filters: Filters;
}

export const EVENT_FILTERS = [
  'config',
  'container',
  'daemon',
  'event',
  'image',
  'label',
  'network',
  'node',
  'plugin',
  'scope',
  'secret',
  'service',
  'type',
  'volume',
] as const;

/** Events that a reader has in memory while it does not read. */
const PAGE = 32;

const END_OF_TIME = 2n ** 63n - 1n;

/** Yields in order until `until` has passed or `signal` aborts. */
export async function* followEvents(
  store: EventStore,
  query: EventQuery,
  signal: AbortSignal,
): AsyncGenerator<EventRow> {
  // `since` is about what has been, as with dockerd: what happens from now on comes even to a client whose clock is ahead
  const next = store.lastNs + 1n;
  const since = query.since ?? (query.until === undefined ? next : 0n);
  let position = since < next ? since : next;
  const until = query.until ?? END_OF_TIME;
  let wake: () => void = () => undefined;
  const stopListening = store.listen(() => wake());
  const onAbort = (): void => wake();
  signal.addEventListener('abort', onAbort);
  try {
    while (!signal.aborted) {
      const seqBefore = store.lastSeq;
      const page = store.between(position, until, PAGE);
      for (const event of page) {
        position = event.timeNs + 1n;
        if (matches(event, query.filters)) yield event;
        if (signal.aborted) return;
      }
      if (page.length === PAGE) continue;
      const leftMs = untilLeftMs(query.until);
      if (leftMs <= 0) return;
      if (store.lastSeq === seqBefore) await nextWake((resolve) => (wake = resolve), leftMs);
    }
  } finally {
    stopListening();
    signal.removeEventListener('abort', onAbort);
  }
}

/** setTimeout cannot wait longer than this; the loop looks again. */
const MAX_WAIT_MS = 2 ** 31 - 1;

const untilLeftMs = (until: bigint | undefined): number =>
  until === undefined ? MAX_WAIT_MS : Number((until - BigInt(Date.now()) * 1_000_000n) / 1_000_000n) + 1;

function nextWake(arm: (wake: () => void) => void, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.min(ms, MAX_WAIT_MS));
    arm(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Values of one key are alternatives, keys must all match. */
export function matches(event: EventRow, filters: Filters): boolean {
  for (const [key, values] of filters) if (values.length > 0 && !matchesKey(event, key, values)) return false;
  return true;
}

function matchesKey(event: EventRow, key: string, values: readonly string[]): boolean {
  switch (key) {
    case 'event':
      // `exec_start` also names `exec_start: sh`; `health_status` every `health_status: …`.
      return values.some((value) => event.action === value || event.action.startsWith(`${value}:`));
    case 'type':
      return values.includes(event.type);
    case 'scope':
      return values.includes('local');
    case 'label':
      return labelsMatch(event.attributes, values);
    case 'image':
      return values.some((value) => isImage(event, value));
    default:
      return event.type === key && values.some((value) => isActor(event, value));
  }
}

const isActor = (event: EventRow, value: string): boolean =>
  event.actorId.startsWith(value) || (event.attributes['name']?.startsWith(value) ?? false);

function isImage(event: EventRow, value: string): boolean {
  const names = event.type === 'image' ? [event.actorId, event.attributes['name']] : [event.attributes['image']];
  return names.some((name) => name !== undefined && (name === value || name.replace(/:[^:/]*$/, '') === value));
}

/** Docker's wire form up to API 1.51, with the old `status`, `id` and `from` for containers and images. */
export function eventLine(event: EventRow): string {
  const actor = { ID: event.actorId, Attributes: event.attributes };
  const old =
    event.type === 'container' || event.type === 'image'
      ? {
          status: event.action,
          id: event.actorId,
          ...(event.type === 'container' ? { from: event.attributes['image'] ?? '' } : {}),
        }
      : {};
  const head = JSON.stringify({ ...old, Type: event.type, Action: event.action, Actor: actor, scope: 'local' });
  // Nanoseconds do not fit a double: written as digits.
  return `${head.slice(0, -1)},"time":${event.timeNs / 1_000_000_000n},"timeNano":${event.timeNs}}`;
}
