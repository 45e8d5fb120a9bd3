/** What `caisson stats` reckons out of two readings. */
import { describe, expect, it } from 'vitest';
import { cpuPercent, usedMemory } from '../../ts/cli/commands/stats.ts';
import type { StatsReading } from '../../ts/client/index.ts';

const reading = (now: [number, number], before: [number, number | undefined], memory: object): StatsReading =>
  ({
    cpu_stats: { cpu_usage: { total_usage: now[0] }, system_cpu_usage: now[1], online_cpus: 4 },
    precpu_stats: { cpu_usage: { total_usage: before[0] }, system_cpu_usage: before[1] },
    memory_stats: memory,
  }) as StatsReading;

describe('stats', () => {
  it('a quarter of four processors is one of them', () => {
    expect(cpuPercent(reading([1500, 5000], [500, 1000], {}))).toBe(100);
  });

  it('nothing used, or a container that does not run, is none', () => {
    expect(cpuPercent(reading([500, 5000], [500, 1000], {}))).toBe(0);
    expect(cpuPercent(reading([0, 0], [0, undefined], {}))).toBe(0);
  });

  it('memory is without the cache that can be taken back, of either cgroup version', () => {
    expect(usedMemory(reading([0, 0], [0, 0], { usage: 100, stats: { total_inactive_file: 30 } }))).toBe(70);
    expect(usedMemory(reading([0, 0], [0, 0], { usage: 100, stats: { inactive_file: 20 } }))).toBe(80);
    expect(usedMemory(reading([0, 0], [0, 0], { usage: 10, stats: { inactive_file: 20 } }))).toBe(10);
    expect(usedMemory(reading([0, 0], [0, 0], {}))).toBe(0);
  });
});
