/**
 * Our registry beside Debian's docker-registry: blobs, manifests and pushes. What ours has taken survives a power cut
 * when it says so; the other one leaves that to the kernel.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../../ts/packageRoot.ts';
import { buildImage, pushImage } from '../../helpers/image.ts';
import { startRegistry } from '../../helpers/registry.ts';
import { spawnRegistry } from '../../helpers/registryProcess.ts';
import type { Bench } from '../bench.ts';

const LARGE_BYTES = 256 << 20;
const PUSHED = { count: 64, bytes: 256 << 10 };

/** `load`: the compiled client (registry.c). */
export async function registryRows(bench: Bench, load: string): Promise<void> {
  if (!bench.wanted('registry')) return;
  const dir = join(bench.dir, 'registries');
  mkdirSync(dir);
  await using theirs = await startRegistry();
  const ours = await spawnRegistry(join(dir, 'root'), ['--no-access-log'], [join(packageRoot, 'bin/caisson')]);
  const sides = { ours: new URL(ours.url).port, theirs: new URL(theirs.url).port };
  const ms = (...args: string[]): number => Number(execFileSync(load, args, { encoding: 'utf8' })) / 1000;
  const peer = 'docker-registry';
  try {
    const large = blobs(dir, 1, LARGE_BYTES);
    for (const port of Object.values(sides)) ms('push', port, 'bench/large', large.list, '1');
    for (const clients of ['1', '4']) {
      const get = (port: string) => () => ms('get', port, `/v2/bench/large/blobs/${large.digests[0]}`, '4', clients);
      const what = `4 GETs of a 256 MB blob, ${clients} at once`;
      await bench.pairs({
        id: `registry-blob-${clients}`,
        what,
        unit: 'ms',
        peer,
        count: 5,
        ours: get(sides.ours),
        theirs: get(sides.theirs),
      });
    }
    for (const url of [ours.url, theirs.url])
      await pushImage(url, 'bench/small', 'latest', buildImage([Buffer.from('x')]));
    const manifest = (port: string) => () => ms('get', port, '/v2/bench/small/manifests/latest', '2000', '8');
    const what = '2000 GETs of a manifest by tag over 8 connections';
    await bench.pairs({
      id: 'registry-manifest',
      what,
      unit: 'ms',
      peer,
      count: 8,
      ours: manifest(sides.ours),
      theirs: manifest(sides.theirs),
    });
    for (const clients of ['1', '8', '64']) {
      // new bytes each time: no side knows them already
      const push = (port: string) => () =>
        ms('push', port, `bench/push${clients}`, blobs(dir, PUSHED.count, PUSHED.bytes).list, clients);
      const what = `push of ${PUSHED.count} blobs of 256 KiB by ${clients} clients`;
      await bench.pairs({
        id: `registry-push-${clients}`,
        what,
        unit: 'ms',
        peer,
        count: 6,
        ours: push(sides.ours),
        theirs: push(sides.theirs),
      });
    }
  } finally {
    await ours.kill('SIGTERM');
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Files of random bytes, with the list of them that the client reads. */
function blobs(dir: string, count: number, bytes: number): { list: string; digests: string[] } {
  const list = join(dir, 'list');
  const digests = Array.from({ length: count }, (_, i) => {
    const data = randomBytes(bytes);
    writeFileSync(join(dir, `blob${i}`), data);
    return `sha256:${createHash('sha256').update(data).digest('hex')}`;
  });
  writeFileSync(list, digests.map((digest, i) => `${digest} ${join(dir, `blob${i}`)}\n`).join(''));
  return { list, digests };
}
