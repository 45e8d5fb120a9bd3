/**
 * Daemon and registry are killed at random moments while images are loaded, pushed, pulled, removed here and there, pruned
 * and collected. What was acknowledged must be there afterwards, whole, and the disks hold what lives and nothing else.
 * `npm run soak` makes it run for longer.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Header } from 'tar';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chainIds } from '../../ts/digest.ts';
import { type HttpResult, run, TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, ociArchive, sha256 } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { freePort } from '../helpers/registry.ts';
import { auditRegistry } from '../helpers/registryAudit.ts';
import { type RegistryProcess, spawnRegistry } from '../helpers/registryProcess.ts';
import { missing } from '../helpers/requires.ts';

const SOAK_S = Number(process.env['CAISSON_SOAK_S'] ?? 60);
/** A blob may be found present and be collected before the manifest names it: no push takes as long as this. */
const REGISTRY = [
  '--delete',
  '--blob-grace',
  '10s',
  '--collect-every',
  '50ms',
  '--upload-ttl',
  '20s',
  '--no-access-log',
];
const TAGS = ['a', 'b'] as const;
/** What is to be found out anew, since a request that changes it had no answer. */
const UNKNOWN = undefined;

/** One file. */
function tarOf(path: string, data: Buffer): Buffer {
  const block = Buffer.alloc(512);
  new Header({ path, type: 'File', mode: 0o644, uid: 0, gid: 0, size: data.length, mtime: new Date(0) }).encode(block);
  return Buffer.concat([block, data, Buffer.alloc((512 - (data.length % 512)) % 512), Buffer.alloc(1024)]);
}

const SHARED = Array.from({ length: 4 }, (_, i) => tarOf(`shared${i}`, randomBytes(200_000)));

/** A layer that others have as well, at the bottom or in the middle, and new ones. */
function newImage(): BuiltImage {
  const layers = [tarOf('small', randomBytes(100)), tarOf('large', randomBytes(randomInt(3_000_000)))];
  layers.splice(randomInt(3), 0, SHARED[randomInt(SHARED.length)] as Buffer);
  return buildImage(layers);
}

describe.skipIf(missing('root', 'build'))('images under SIGKILL', () => {
  let root: string;
  let listen: string;
  let registry: RegistryProcess;
  let daemon: TestDaemon;
  /** Kills so far: a request during which none happened may not fail. */
  let kills = 0;
  /** Resolves when both run again. */
  let whole: Promise<unknown> = Promise.resolve();

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), 'caisson-soak-'));
    listen = `127.0.0.1:${await freePort()}`;
    registry = await spawnRegistry(root, REGISTRY, undefined, listen);
    daemon = await new TestDaemon().start();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry.kill();
    rmSync(root, { recursive: true, force: true });
  });

  const again = {
    daemon: async () => {
      await daemon.kill();
      await daemon.start();
    },
    registry: async () => {
      await registry.kill();
      registry = await spawnRegistry(root, REGISTRY, undefined, listen);
    },
  };

  /** Of one repository; nobody else changes its tags. */
  class Client {
    readonly #name: string;
    readonly #here = new Map<string, BuiltImage | null | undefined>();
    readonly #there = new Map<string, BuiltImage | null | undefined>();
    done = 0;

    constructor(name: string) {
      this.#name = name;
      for (const tag of TAGS) {
        this.#here.set(tag, null);
        this.#there.set(tag, null);
      }
    }

    /** Until then; rejects with what failed without a kill. */
    async work(untilMs: number): Promise<void> {
      while (Date.now() < untilMs) {
        await whole;
        const before = kills;
        try {
          await this.#one();
          this.done++;
        } catch (error) {
          if (kills === before) throw error;
        }
      }
    }

    async #one(): Promise<void> {
      const tag = TAGS[randomInt(TAGS.length)] as string;
      const here = this.#here.get(tag);
      const there = this.#there.get(tag);
      const dice = randomInt(10);
      if (dice < 4) await this.#push(tag, newImage());
      else if (dice < 7 && there) await this.#pull(tag, there);
      else if (dice === 7 && here) await this.#remove(tag);
      else if (dice === 8 && there) await this.#delete(tag, there);
      else await ok(daemon.http('POST', '/images/prune'));
    }

    async #push(tag: string, image: BuiltImage): Promise<void> {
      const name = `${listen}/${this.#name}`;
      const archive = await ociArchive(image, `${name}:${tag}`);
      this.#here.set(tag, UNKNOWN);
      await ok(daemon.http('POST', '/images/load', archive));
      this.#here.set(tag, image);
      this.#there.set(tag, UNKNOWN);
      const login = { 'x-registry-auth': Buffer.from('{}').toString('base64url') };
      await ok(daemon.http('POST', `/images/${name}/push?tag=${tag}`, undefined, login));
      this.#there.set(tag, image);
    }

    async #pull(tag: string, image: BuiltImage): Promise<void> {
      if (this.#here.get(tag) && randomInt(2) === 0) await this.#remove(tag);
      this.#here.set(tag, UNKNOWN);
      await ok(daemon.http('POST', `/images/create?fromImage=${listen}/${this.#name}&tag=${tag}`));
      this.#here.set(tag, image);
    }

    async #remove(tag: string): Promise<void> {
      this.#here.set(tag, UNKNOWN);
      await ok(daemon.http('DELETE', `/images/${listen}/${this.#name}:${tag}`));
      this.#here.set(tag, null);
    }

    async #delete(tag: string, { manifestDigest }: BuiltImage): Promise<void> {
      this.#there.set(tag, UNKNOWN);
      const answer = await fetch(`${registry.url}/v2/${this.#name}/manifests/${manifestDigest}`, { method: 'DELETE' });
      expect(answer.status, await answer.text()).toBe(202);
      this.#there.set(tag, null);
    }

    /** What was acknowledged, at both ends; every byte of the registry's. */
    async check(): Promise<void> {
      for (const [tag, image] of this.#here) {
        const answer = await daemon.http('GET', `/images/${listen}/${this.#name}:${tag}/json`);
        if (image === null) expect(answer.status, answer.body).toBe(404);
        else if (image) expect(JSON.parse(answer.body)).toMatchObject({ Id: image.configDigest });
      }
      for (const [tag, image] of this.#there) {
        if (image === UNKNOWN) continue;
        const url = `${registry.url}/v2/${this.#name}`;
        const answer = await fetch(`${url}/manifests/${tag}`);
        const body = Buffer.from(await answer.arrayBuffer());
        expect(answer.status, body.toString()).toBe(image === null ? 404 : 200);
        if (image === null) continue;
        expect(sha256(body)).toBe(image.manifestDigest);
        for (const digest of image.blobs.keys())
          expect(sha256(Buffer.from(await (await fetch(`${url}/blobs/${digest}`)).arrayBuffer()))).toBe(digest);
      }
    }
  }

  /** Nothing is under way: what the daemon has on its disk is what its images are made of. */
  async function audit(): Promise<void> {
    const checked = await daemon.caisson(['system', 'check']);
    expect(checked).toMatchObject({ code: 0, stdout: expect.stringMatching(/: 0 problems\n$/) });
    const listed = JSON.parse((await ok(daemon.http('GET', '/images/json?all=1'))).body) as { Id: string }[];
    const layers = new Set<string>();
    for (const { Id } of listed) {
      const { RootFS } = JSON.parse((await ok(daemon.http('GET', `/images/${Id}/json`))).body);
      for (const chainId of chainIds((RootFS as { Layers: string[] }).Layers)) layers.add(chainId);
    }
    const entries = (...path: string[]): string[] => readdirSync(join(daemon.dataRoot, ...path));
    expect(entries('overlay')).toHaveLength(layers.size);
    expect(entries('content/ingest')).toEqual([]);
    const df = JSON.parse((await ok(daemon.http('GET', '/system/df?type=image'))).body) as { LayersSize: number };
    const du = await run('du', ['-sB1', ...['overlay', 'content'].map((name) => join(daemon.dataRoot, name))]);
    const bytes = du.stdout.split('\n').reduce((sum, line) => sum + Number.parseInt(line || '0', 10), 0);
    expect(Math.abs(df.LayersSize / bytes - 1), `df ${df.LayersSize}, du ${bytes}`).toBeLessThan(0.01);
    expect(await oracle(daemon)).toEqual([]);
    await registry.kill();
    await auditRegistry(root);
    await again.registry();
  }

  it('keeps what it acknowledged, and no more', { timeout: (SOAK_S * 2 + 120) * 1000 }, async () => {
    const clients = Array.from({ length: 3 }, (_, i) => new Client(`soak/${i}`));
    const deadlineMs = Date.now() + SOAK_S * 1000;
    while (Date.now() < deadlineMs || kills < 4) {
      const untilMs = Date.now() + 15_000;
      const working = Promise.all(clients.map((client) => client.work(untilMs)));
      const killing = (async () => {
        while (Date.now() < untilMs) {
          await new Promise((resolve) => setTimeout(resolve, Math.random() ** 2 * 3000));
          kills++;
          const victims = (['daemon', 'registry'] as const).filter(() => randomInt(3) > 0);
          whole = Promise.all(victims.map((victim) => again[victim]()));
          await whole;
        }
      })();
      await Promise.all([working, killing]);
      for (const client of clients) await client.check();
      await audit();
    }
    expect(Math.min(...clients.map(({ done }) => done))).toBeGreaterThan(0);
    process.stdout.write(`${kills} kills, ${clients.map(({ done }) => done).join('+')} operations\n`);
  });
});

/** A failure stands in the status, or at the end of a stream. */
async function ok(answer: Promise<HttpResult>): Promise<HttpResult> {
  const { status, headers, body } = await answer;
  if (status >= 300 || body.includes('"errorDetail"')) throw new Error(`${status}: ${body.slice(-2000)}`);
  return { status, headers, body };
}
