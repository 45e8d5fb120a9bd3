/** Layers of pulled images are kept once, unpacked; what push and save send is fetched or made again. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar, pushImage } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

interface Index {
  manifests: { digest: string }[];
}

describe.skipIf(missing('root', 'build', 'docker', 'registry', 'busybox'))('the layers of a pulled image', () => {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-layer-blobs-'));
  let registries: TestRegistry[] = [];
  let daemon: TestDaemon;
  let image: BuiltImage;
  let name: string;
  let id: string;

  const leave = async (): Promise<void> => {
    await daemon?.[Symbol.asyncDispose]();
    for (const registry of registries) await registry[Symbol.asyncDispose]();
  };
  beforeEach(async () => {
    await leave();
    registries = [await startRegistry(), await startRegistry()];
    const noise = randomBytes(2 << 20).toString('hex');
    image = buildImage([await busyboxTar({ noise }), await busyboxTar({ 'etc/motd': 'two' })], {
      Cmd: ['cat', '/etc/motd'],
    });
    await pushImage(registries[0]?.url ?? '', 'test/pulled', '1', image);
    await start();
  });
  afterAll(async () => {
    await leave();
    rmSync(dir, { recursive: true, force: true });
  });

  const start = async (...flags: string[]): Promise<void> => {
    daemon = await new TestDaemon(flags).start();
    name = `${registries[0]?.host}/test/pulled:1`;
    await daemon.dockerOk('pull', '-q', name);
    id = await daemon.dockerOk('image', 'inspect', '-f', '{{.Id}}', name);
  };
  const du = (...paths: string[]): number => {
    const sizes = execFileSync('du', ['-sB1', ...paths.map((path) => join(daemon.dataRoot, path))], {
      encoding: 'utf8',
    });
    return sizes.split('\n').reduce((sum, line) => sum + Number(line.split('\t')[0]), 0);
  };
  const diffs = (): string[] => readdirSync(join(daemon.dataRoot, 'overlay')).map((layer) => `overlay/${layer}/diff`);
  const kept = (): string[] => readdirSync(join(daemon.dataRoot, 'content/blobs/sha256')).sort();
  const documents = (): string[] => [image.manifestDigest, image.configDigest].map((one) => one.slice(7)).sort();
  /** The digests of the manifests in a saved archive. */
  const save = async (): Promise<{ archive: string; digests: string[] }> => {
    const archive = join(dir, 'saved.tar');
    await daemon.dockerOk('save', '-o', archive, name);
    const index = execFileSync('tar', ['-xOf', archive, 'index.json'], { encoding: 'utf8' });
    return { archive, digests: (JSON.parse(index) as Index).manifests.map(({ digest }) => digest) };
  };
  const away = (): Promise<void> => Promise.resolve(registries[0]?.[Symbol.asyncDispose]());
  const elsewhere = async (): Promise<{ target: string; output: string }> => {
    const target = `${registries[1]?.host}/test/other:1`;
    await daemon.dockerOk('tag', name, target);
    return { target, output: await daemon.dockerOk('push', target) };
  };

  it('take at most a tenth more than what is unpacked, and go out with the digests that they came with', async () => {
    expect(kept()).toEqual(documents());
    expect(du('overlay', 'content')).toBeLessThanOrEqual(1.1 * du(...diffs()));
    expect((await save()).digests).toEqual([image.manifestDigest]);
    // From where it came, although that name has gone here.
    const target = `${registries[1]?.host}/test/other:1`;
    await daemon.dockerOk('tag', name, target);
    await daemon.dockerOk('rmi', name);
    expect(await daemon.dockerOk('push', target)).toContain(`1: digest: ${image.manifestDigest}`);
    expect(kept()).toEqual(documents());
    expect(await oracle(daemon)).toEqual([]);
  });

  it('are compressed anew while their registry is away: another digest, the same image', async () => {
    await away();
    const { archive, digests } = await save();
    expect(digests).not.toEqual([image.manifestDigest]);
    expect((await save()).digests).toEqual(digests);
    const { target, output } = await elsewhere();
    expect(output).toContain('cannot be fetched again');
    expect(output).toContain(`1: digest: ${digests[0]}`);
    expect(kept()).toEqual(documents());
    await daemon.dockerOk('rmi', '-f', id);
    await daemon.dockerOk('pull', '-q', target);
    expect(await daemon.dockerOk('image', 'inspect', '-f', '{{.Id}}', target)).toBe(id);
    await daemon.dockerOk('rmi', '-f', id);
    expect(await daemon.docker(['load'], { input: readFileSync(archive) })).toMatchObject({ code: 0 });
    expect(await daemon.dockerOk('run', '--rm', '--network=none', name)).toBe('two');
    expect(await oracle(daemon)).toEqual([]);
  });

  it('are fetched from a registry that they were pushed to', async () => {
    const { target } = await elsewhere();
    await away();
    expect((await save()).digests).toEqual([image.manifestDigest]);
    await daemon.dockerOk('rmi', target);
    expect((await save()).digests).toEqual([image.manifestDigest]);
  });

  it('stay compressed as well with keep-layer-blobs', async () => {
    await daemon[Symbol.asyncDispose]();
    await start('--keep-layer-blobs');
    await away();
    expect((await save()).digests).toEqual([image.manifestDigest]);
    expect((await elsewhere()).output).toContain(`1: digest: ${image.manifestDigest}`);
  });

  it('that are damaged where they are kept are not handed on, and a pull brings them again', async () => {
    await daemon[Symbol.asyncDispose]();
    await start('--keep-layer-blobs');
    const { layers } = JSON.parse(image.manifest.toString()) as { layers: { digest: string }[] };
    const digest = layers[0]?.digest ?? '';
    const path = join(daemon.dataRoot, 'content/blobs/sha256', digest.slice(7));
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    const saved = await daemon.docker(['save', '-o', join(dir, 'damaged.tar'), name]);
    expect(saved.code).toBe(1);
    expect(daemon.logs).toContain(`blob ${digest} is damaged`);
    await daemon.dockerOk('tag', name, `${registries[1]?.host}/test/other:1`);
    const pushed = await daemon.docker(['push', `${registries[1]?.host}/test/other:1`]);
    expect(pushed.code).toBe(1);
    expect(pushed.stdout + pushed.stderr).toContain(`blob ${digest} is damaged`);
    await daemon.dockerOk('rmi', '-f', id);
    await daemon.dockerOk('pull', '-q', name);
    expect((await save()).digests).toEqual([image.manifestDigest]);
    expect(readFileSync(path).equals(image.blobs.get(digest) as Buffer)).toBe(true);
  });
});
