/** Pulls that are cut off, by the line, the client, or the end of the daemon: the next one goes on from there. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';
import { OCI_MANIFEST, ScriptedRegistry } from '../helpers/scriptedRegistry.ts';

const PIECE = 1 << 20;

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('a pull that is cut off', () => {
  let daemon: TestDaemon;
  let registry: ScriptedRegistry;
  let image: BuiltImage;
  let layer: Buffer;
  let sent: number;
  /** Where the last piece ended. */
  let reached: number;
  let requests: number;

  beforeEach(async () => {
    // Hex of noise: half of it is left when it is compressed.
    image = buildImage([await busyboxTar({ noise: randomBytes(8 << 20).toString('hex') })], { Cmd: ['true'] });
    layer = [...image.blobs].find(([digest]) => digest !== image.configDigest)?.[1] ?? Buffer.alloc(0);
    registry = await new ScriptedRegistry().listen();
    for (const [digest, data] of image.blobs) registry.blobs.set(digest, data);
    registry.addManifest(image.manifest.toString(), OCI_MANIFEST, 'latest');
    daemon = await new TestDaemon().start();
    sent = 0;
    reached = 0;
    requests = 0;
    // A piece for each request; then the line is cut, or, each third time, nothing more comes.
    registry.fault = (request, response) => {
      const isLayer = request.url?.includes('/blobs/') && !request.url.endsWith(image.configDigest);
      if (!isLayer) return false;
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const piece = layer.subarray(from, from + PIECE);
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': layer.length - from,
        ...(from > 0 && { 'content-range': `bytes ${from}-${layer.length - 1}/${layer.length}` }),
      });
      sent += piece.length;
      reached = from + piece.length;
      const stalls = ++requests % 3 === 0;
      response.write(piece, () => {
        if (from + piece.length === layer.length) response.end();
        else if (!stalls) setImmediate(() => response.destroy());
      });
      return true;
    };
  });
  afterEach(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  const partials = (what: 'size' | 'nlink' = 'size'): number[] => {
    const dir = join(daemon.dataRoot, 'content/partial');
    return readdirSync(dir).map((name) => statSync(join(dir, name))[what]);
  };

  /** Pulls until so much has been sent that the registry stalls, and all of it is written; true when the image came. */
  async function pullPart(end: (client: ChildProcess) => Promise<void>): Promise<boolean> {
    const client = spawn('docker', ['pull', `${registry.host}/app:latest`], {
      env: { ...process.env, DOCKER_HOST: `unix://${daemon.socket}` },
      stdio: 'ignore',
    });
    const before = requests;
    const exited = once(client, 'exit');
    const ended = exited.then(() => true);
    while (!(await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 5, false))])))
      if (requests > before && requests % 3 === 0 && partials()[0] === reached && reached < layer.length) break;
    if (client.exitCode !== null) return true;
    await end(client);
    await exited;
    // The daemon has let go of it.
    while (partials('nlink').some((links) => links > 1)) await new Promise((resolve) => setTimeout(resolve, 5));
    return false;
  }

  const goes = async (client: ChildProcess): Promise<void> => void client.kill('SIGKILL');

  it.each<[what: string, end: (client: ChildProcess) => Promise<void>]>([
    [
      'SIGKILL of the daemon',
      async () => {
        await daemon.kill();
        await daemon.start();
      },
    ],
    ['its client', goes],
  ])('by %s, again and again, transfers little more than the image', { timeout: 120_000 }, async (_what, end) => {
    while (!(await pullPart(end)));
    // A cut loses what was still in the socket.
    expect(sent).toBeLessThan(1.1 * layer.length);
    expect(requests).toBeGreaterThan(6);
    expect(partials()).toEqual([]);
    expect(await daemon.dockerOk('run', '--rm', '--network', 'none', `${registry.host}/app:latest`)).toBe('');
  });

  it('comes whole although its beginning is not what was sent', async () => {
    await pullPart(goes);
    const file = join(
      daemon.dataRoot,
      'content/partial',
      readdirSync(join(daemon.dataRoot, 'content/partial'))[0] ?? '',
    );
    const bytes = readFileSync(file);
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    registry.fault = () => false;
    await daemon.dockerOk('pull', '-q', `${registry.host}/app:latest`);
    expect(partials()).toEqual([]);
  });

  it('keeps nothing of a layer with another digest, nor of what is pruned', async () => {
    await pullPart(goes);
    expect(partials()).toEqual([reached]);
    const pruned = await daemon.http('POST', '/images/prune');
    expect(JSON.parse(pruned.body)).toMatchObject({ SpaceReclaimed: reached });
    expect(partials()).toEqual([]);
    const [digest = ''] = [...image.blobs.keys()].filter((one) => one !== image.configDigest);
    registry.fault = () => false;
    registry.blobs.set(digest, Buffer.concat([layer.subarray(0, -1), Buffer.from('x')]));
    expect(await daemon.docker(['pull', '-q', `${registry.host}/app:latest`])).toMatchObject({ code: 1 });
    expect(partials()).toEqual([]);
  });
});
