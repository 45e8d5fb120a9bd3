/** What a health check is, from the image's words and the user's. */
import { describe, expect, it } from 'vitest';
import { goFileMode } from '../../ts/engine/api/routes/archive.ts';
import { checkHealthcheck, healthPlan, mergeHealthcheck } from '../../ts/engine/containers/healthcheck.ts';

describe('a health check', () => {
  const image = { Test: ['CMD', 'probe'], Interval: 5e9, Retries: 7 };

  it('is the image’s with the user’s fields over it', () => {
    expect(mergeHealthcheck(null, image)).toEqual(image);
    expect(mergeHealthcheck({ Interval: 1e9 }, image)).toEqual({ ...image, Interval: 1e9 });
    expect(mergeHealthcheck({ Test: ['NONE'] }, image)?.Test).toEqual(['NONE']);
    expect(mergeHealthcheck({ Test: [] }, undefined)).toBeUndefined();
  });

  it('has Docker’s defaults, and the shell of the image', () => {
    const plan = { intervalMs: 30_000, timeoutMs: 30_000, startPeriodMs: 0, startIntervalMs: 5000, retries: 3 };
    expect(healthPlan({ Test: ['CMD-SHELL', 'a b'] }, undefined)).toEqual({ args: ['/bin/sh', '-c', 'a b'], ...plan });
    expect(healthPlan({ Test: ['CMD-SHELL', 'a'] }, ['bash', '-lc'])?.args).toEqual(['bash', '-lc', 'a']);
    expect(healthPlan({ Test: ['CMD', 'a', 'b'], Timeout: 1e6 }, undefined)).toMatchObject({
      args: ['a', 'b'],
      timeoutMs: 1,
    });
    expect(healthPlan({ Test: ['NONE'] }, undefined)).toBeUndefined();
    expect(healthPlan(undefined, undefined)).toBeUndefined();
  });

  it('without a command is refused', () => {
    expect(() => checkHealthcheck({ Test: ['CMD'] })).toThrow('needs a command');
    expect(() => checkHealthcheck({ Test: ['NONE'] })).not.toThrow();
  });
});

describe('the mode of a path', () => {
  it.each([
    [0x41ed, 2 ** 31 + 0o755],
    [0xa1ff, 2 ** 27 + 0o777],
    [0x81a4, 0o644],
    [0x89ed, 2 ** 23 + 0o755],
    [0x43ff, 2 ** 31 + 2 ** 20 + 0o777],
    [0x21b6, 2 ** 26 + 2 ** 21 + 0o666],
  ])('%i is Go’s %i', (mode, expected) => {
    expect(goFileMode(mode)).toBe(expected);
  });
});
