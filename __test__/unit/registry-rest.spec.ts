/** A registry that nobody asks for anything gives memory back. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Rest } from '../../ts/registry/server/rest.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('rests once in each time of quiet', () => {
  let times = 0;
  const rest = new Rest(() => times++);
  vi.advanceTimersByTime(60_000);
  expect(times).toBe(1);
  for (let i = 0; i < 10; i++) {
    rest.end();
    vi.advanceTimersByTime(9_000);
    expect(times).toBe(1);
  }
  vi.advanceTimersByTime(60_000);
  expect(times).toBe(2);
  rest.close();
});

it('rests no more when it is closed', () => {
  let times = 0;
  const rest = new Rest(() => times++);
  rest.close();
  vi.advanceTimersByTime(60_000);
  expect(times).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});
