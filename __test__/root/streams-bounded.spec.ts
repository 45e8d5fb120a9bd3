/** What clients that stall or vanish cost the shim: memory stays bounded, descriptors, threads and processes go back. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadNative } from '../../ts/engine/native/index.ts';
import { missing } from '../helpers/requires.ts';
import { Connection, frames, ShimLab } from '../helpers/shim.ts';

const MIB = 1 << 20;
const CYCLES = 300;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const field = (path: string, name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(path, 'utf8'))?.[1]);
const peakKib = (pid: number): number => field(`/proc/${pid}/status`, 'VmHWM');
const descriptors = (pid: number | 'self'): number => readdirSync(`/proc/${pid}/fd`).length;
const threads = (): number => readdirSync('/proc/self/task').length;

describe.skipIf(missing('root', 'build', 'busybox'))('streams of clients that misbehave', () => {
  let lab: ShimLab;
  let execs = 0;

  beforeAll(async () => {
    lab = await ShimLab.open(loadNative());
  });

  afterAll(async () => {
    await lab[Symbol.asyncDispose]();
  });

  async function running() {
    const options = lab.options(['sleep', '1000'], { openStdin: true });
    const names = await lab.native.spawnShim(options);
    await lab.native.startContainer(options.id);
    return { id: options.id, ...names };
  }

  async function exec(id: string, args: string[], tty = false) {
    const client = await Connection.open(lab.native, lab.dir);
    const execId = String(++execs).padStart(64, '0');
    const { pid } = await lab.native.exec(id, {
      execId,
      process: { ...lab.options([]).spec.process, args, terminal: tty },
      user: { user: '', additionalGroups: [] },
      privileged: false,
      tty,
      openStdin: true,
      client: client.stream({ stdin: true, raw: tty }),
    });
    return { client, execId, pid };
  }

  test('an exec that writes to a client that does not read waits for it', async () => {
    const { id, shimPid } = await running();
    const before = peakKib(shimPid);
    const { client, pid } = await exec(id, ['sh', '-c', 'exec head -c 8388608 /dev/zero']);
    client.socket.pause();
    // it has stalled when it writes no more
    for (let written = -1, last = -2; written !== last; await pause(50)) {
      last = written;
      written = field(`/proc/${pid}/io`, 'wchar');
    }
    expect(field(`/proc/${pid}/io`, 'wchar')).toBeLessThan(2 * MIB);
    expect(peakKib(shimPid) - before).toBeLessThan(1024);
    client.socket.resume();
    expect(frames(await client.rest()).stdout.length).toBe(8 * MIB);
    expect(peakKib(shimPid) - before).toBeLessThan(1024);
    await lab.destroy(id);
  });

  test(`${CYCLES} clients that vanish leave nothing`, async () => {
    const { id, shimPid, initPid } = await running();
    const cycle = async (number: number) => {
      const attached = await Connection.open(lab.native, lab.dir);
      await lab.native.attach(id, attached.stream({ stdin: true }));
      const { client, execId } = await exec(id, ['cat'], number % 2 === 0);
      if (number % 2 === 0) await lab.native.resize(id, { execId, width: 80 + (number % 50), height: 24 });
      client.socket.write(number % 2 === 0 ? 'x\n\x04' : 'x\n');
      await client.until((received) => received.includes('x'));
      attached.socket.destroy();
      client.socket.destroy();
      await lab.event(id, 'execExit', (event) => event.execId === execId);
      lab.events.splice(0);
    };
    const shim = descriptors(shimPid);
    for (let number = 0; number < 4; number++) await cycle(number);
    const baseline = { shim, ours: descriptors('self'), threads: threads() };
    for (let number = 0; number < CYCLES; number++) await cycle(number);
    const now = () => ({ shim: descriptors(shimPid), ours: descriptors('self'), threads: threads() });
    // the last client's end may still be on its way
    while (now().shim > baseline.shim) await pause(5);
    expect(now()).toEqual(baseline);
    expect((await lab.native.cgroupPids(lab.cgroupOf(id))).filter((pid) => pid !== initPid)).toEqual([]);
    await lab.destroy(id);
  });
});
