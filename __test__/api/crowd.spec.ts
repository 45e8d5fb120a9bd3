/**
 * Clients that do not read, or say nothing, by the thousand: what they cost is bounded, the daemon answers the others, and
 * all of it goes back when they leave. `CAISSON_LONG=1`: ten times as many. How fast it answers is a row of the bench.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Crowd, controlRequests, Prober } from '../helpers/crowd.ts';
import { TestDaemon } from '../helpers/daemon.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

const TIMES = process.env['CAISSON_LONG'] ? 10 : 1;
const SIZE = { idle: 1000 * TIMES, logs: 100 * TIMES, events: 20 * TIMES };
/** What is there to be told of, more than a socket takes. */
const EVENTS = 2000;
/** For all of the crowd, and for each of it. */
const KIB = { all: 32 << 10, idle: 24, logs: 128, events: 256 };

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('a crowd of clients', () => {
  const daemon = new TestDaemon();

  beforeAll(async () => {
    await daemon.start();
    await daemon.loadBusybox();
    const script = 'yes 0123456789012345678901234567890123456789 | head -n 100000; echo written; exec sleep 1000';
    await daemon.dockerOk('run', '-d', '--name', 'talker', '--network', 'none', 'busybox', 'sh', '-c', script);
    await vi.waitFor(
      async () => expect((await daemon.docker(['logs', '--tail', '1', 'talker'])).stdout).toBe('written\n'),
      { timeout: 30_000 },
    );
  });

  afterAll(async () => {
    await daemon.removeContainers();
    expect(await oracle(daemon)).toEqual([]);
    await daemon[Symbol.asyncDispose]();
  });

  const count = (what: 'fd' | 'task'): number => readdirSync(`/proc/${daemon.pid}/${what}`).length;
  const anonymousKib = (): number =>
    Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]);

  it('that does not read takes what it may take, and gives it back', async () => {
    using prober = new Prober(daemon.socket);
    const answers = async (): Promise<number[]> => {
      const statuses = [];
      for (const [method, path] of controlRequests('talker')) statuses.push((await prober.ask(method, path)).status);
      return statuses;
    };
    const expected = [200, 200, 200, 200, 204];
    const happen = async (events: number): Promise<void> => {
      for (let event = 0; event < events; event++)
        expect((await prober.ask('POST', '/containers/talker/kill?signal=CONT')).status).toBe(204);
    };
    await happen(EVENTS);
    expect(await answers()).toEqual(expected);
    const before = { fd: count('fd'), task: count('task'), kib: anonymousKib() };

    using crowd = new Crowd(daemon.socket);
    await crowd.gather(SIZE, 'talker');
    await vi.waitFor(() => expect(count('fd')).toBeGreaterThanOrEqual(before.fd + crowd.size), { timeout: 30_000 });
    await happen(EVENTS / 10);
    expect(await answers()).toEqual(expected);
    expect(await daemon.dockerOk('run', '--rm', '--network', 'none', 'busybox', 'echo', 'served')).toBe('served');
    expect((await daemon.docker(['logs', '--tail', '1', 'talker'])).stdout).toBe('written\n');
    expect(
      (await daemon.docker(['events', '--since', '1', '--until', String(Math.ceil(Date.now() / 1000))])).stdout.split(
        '\n',
      ).length,
    ).toBeGreaterThan(EVENTS);

    const most = KIB.all + SIZE.idle * KIB.idle + SIZE.logs * KIB.logs + SIZE.events * KIB.events;
    const grown = anonymousKib() - before.kib;
    expect(grown).toBeLessThan(most);
    // a log's follower has its file, what wakes it and what ends it
    expect(count('fd')).toBeLessThan(before.fd + crowd.size + 4 * SIZE.logs + 50);

    crowd[Symbol.dispose]();
    await vi.waitFor(
      () => {
        expect(count('fd')).toBeLessThan(before.fd + 20);
        expect(count('task')).toBeLessThan(before.task + 5);
      },
      { timeout: 60_000, interval: 100 },
    );
    expect(await answers()).toEqual(expected);
  });
});
