/**
 * The registry is killed at random moments while clients push, pull and delete and its collector runs all the time. What
 * was acknowledged must be there afterwards, whole; nothing may dangle. CAISSON_SOAK_S makes it run for longer.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { auditRegistry } from '../helpers/registryAudit.ts';
import { type RegistryProcess, spawnRegistry } from '../helpers/registryProcess.ts';
import { digestOf, manifestOf, pushBlob, putManifest } from '../helpers/servedRegistry.ts';

const SOAK_S = Number(process.env['CAISSON_SOAK_S'] ?? 60);
const FLAGS = ['--delete', '--blob-grace', '200ms', '--collect-every', '20ms', '--upload-ttl', '2s', '--no-access-log'];

interface Image {
  manifest: Buffer;
  blobs: string[];
}

/** Two layers that repositories and rounds share, so that they lose and win users; the rest is new, so that it is committed. */
function imageOf(round: number): Image {
  const layers = [
    `layer ${round % 5} `.repeat(3000),
    `new ${randomUUID()}`,
    `layer ${round % 7} `,
    `new ${randomUUID()}`,
  ];
  const config = `{"round":"${randomUUID()}"}`;
  return { manifest: manifestOf({ config, layers }), blobs: [config, ...layers] };
}

class Client {
  readonly #name: string;
  /** What the registry acknowledged last; undefined while a request that changes it has no answer. */
  acknowledged: { tag: string; image: Image | null } | undefined;
  pushes = 0;
  pushed = (): void => undefined;

  constructor(name: string) {
    this.#name = name;
  }

  /** One push and perhaps a delete; rejects when the registry is killed under it. */
  async round(url: string, round: number): Promise<void> {
    const image = imageOf(round);
    for (const blob of image.blobs) await pushBlob(url, this.#name, blob);
    this.acknowledged = undefined;
    const put = await putManifest(url, this.#name, 'v', image.manifest);
    // its blobs were collected in between: nothing has changed, and the next round pushes anew
    if (put.status === 400) return;
    expect(put.status).toBe(201);
    this.acknowledged = { tag: 'v', image };
    this.pushes++;
    this.pushed();
    if (round % 4 !== 0) return;
    this.acknowledged = undefined;
    const gone = await fetch(`${url}/v2/${this.#name}/manifests/${digestOf(image.manifest)}`, { method: 'DELETE' });
    expect(gone.status).toBe(202);
    this.acknowledged = { tag: 'v', image: null };
  }

  /** What was acknowledged is there, byte for byte. */
  async check(url: string): Promise<void> {
    if (this.acknowledged === undefined) return;
    const { tag, image } = this.acknowledged;
    const answer = await fetch(`${url}/v2/${this.#name}/manifests/${tag}`);
    if (image === null) return expect(answer.status).toBe(404);
    expect(Buffer.from(await answer.arrayBuffer()).equals(image.manifest)).toBe(true);
    for (const blob of image.blobs)
      expect(await (await fetch(`${url}/v2/${this.#name}/blobs/${digestOf(blob)}`)).text()).toBe(blob);
  }
}

const isCut = (error: unknown): boolean => error instanceof TypeError && error.message === 'fetch failed';

/** Clients work until the process is gone. */
async function work(clients: Client[], url: string, first: number): Promise<void> {
  const failures = await Promise.all(
    clients.map(async (client, i) => {
      try {
        for (let round = first; ; round++) await client.round(url, round + i);
      } catch (error) {
        return error;
      }
    }),
  );
  for (const failure of failures) if (!isCut(failure)) throw failure;
}

it('survives SIGKILL at any moment', { timeout: (SOAK_S + 60) * 1000 }, async () => {
  const root = mkdtempSync(join(tmpdir(), 'caisson-killed-'));
  const clients = Array.from({ length: 4 }, (_, i) => new Client(`soak/${i % 3}-${i}`));
  const deadline = Date.now() + SOAK_S * 1000;
  let served: RegistryProcess | undefined;
  try {
    let kills = 0;
    for (; Date.now() < deadline || kills < 3; kills++) {
      served = await spawnRegistry(root, FLAGS);
      for (const client of clients) await client.check(served.url);
      const process = served;
      const pushed = Promise.withResolvers<void>();
      for (const client of clients) client.pushed = pushed.resolve;
      const working = work(clients, served.url, kills * 17);
      // every other life has something to lose, however slow the machine is
      if (kills % 2 === 1) await Promise.race([pushed.promise, working]);
      const killing = setTimeout(() => process.child.kill('SIGKILL'), Math.random() ** 2 * 1200);
      await working;
      clearTimeout(killing);
      await served.kill();
      await auditRegistry(root);
    }
    served = await spawnRegistry(root, FLAGS);
    for (const client of clients) await client.check(served.url);
    const pushes = clients.reduce((sum, client) => sum + client.pushes, 0);
    expect(pushes).toBeGreaterThanOrEqual(Math.floor(kills / 2));
  } finally {
    await served?.kill();
    rmSync(root, { recursive: true, force: true });
  }
});

it('serves a root once; keeps little of a body that it refuses (row 59)', async () => {
  const root = mkdtempSync(join(tmpdir(), 'caisson-once-'));
  const served = await spawnRegistry(root, FLAGS);
  try {
    await expect(spawnRegistry(root, FLAGS)).rejects.toThrow(/already served by another caisson registry/);
    const peakKib = (): number =>
      Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${served.pid}/status`, 'utf8'))?.[1] ?? Number.NaN);
    await putManifest(served.url, 'warm', 'v', Buffer.alloc(1 << 20, ' '));
    const before = peakKib();
    expect((await putManifest(served.url, 'large', 'v', Buffer.alloc(100 << 20, ' '))).status).toBe(413);
    expect((peakKib() - before) / 1024).toBeLessThan(50);
  } finally {
    await served.kill('SIGTERM');
    rmSync(root, { recursive: true, force: true });
  }
  expect(served.child.exitCode).toBe(0);
});
