/** Layers are kept once, unpacked; what push and save send is fetched or made again. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ImageConfig } from '../../ts/oci.ts';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar, dockerArchive, pushImage, sha256 } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';
import { OCI_MANIFEST, ScriptedRegistry } from '../helpers/scriptedRegistry.ts';

interface Index {
  manifests: { digest: string }[];
}

interface Manifest {
  layers: { digest: string }[];
}

/** A file of an archive. */
const read = <T>(archive: string, path: string): T =>
  JSON.parse(execFileSync('tar', ['-xOf', archive, path], { encoding: 'utf8' })) as T;
/** The digests of the layers in a saved archive of one image. */
const layersIn = (archive: string): string[] => {
  const digest = read<Index>(archive, 'index.json').manifests[0]?.digest ?? '';
  return read<Manifest>(archive, `blobs/${digest.replace(':', '/')}`).layers.map((layer) => layer.digest);
};

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
    return { archive, digests: read<Index>(archive, 'index.json').manifests.map(({ digest }) => digest) };
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

  it('are made again while their registry is away: another digest, the same image', async () => {
    await away();
    const { archive, digests } = await save();
    const config = JSON.parse(String(image.blobs.get(image.configDigest))) as ImageConfig;
    expect(layersIn(archive)).toEqual(config.rootfs.diff_ids);
    expect((await save()).digests).toEqual(digests);
    const { target, output } = await elsewhere();
    expect(output).toContain('cannot be fetched again');
    expect(output).not.toContain(`1: digest: ${image.manifestDigest}`);
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

  it('that their registry gives otherwise now break the archive off', async () => {
    await using other = await new ScriptedRegistry().listen();
    for (const [digest, data] of image.blobs) other.blobs.set(digest, data);
    other.addManifest(image.manifest.toString(), OCI_MANIFEST, 'latest');
    name = `${other.host}/app:latest`;
    await daemon.dockerOk('rmi', '-f', id);
    await daemon.dockerOk('pull', '-q', name);
    expect((await save()).digests).toEqual([image.manifestDigest]);
    const [digest = '', data = Buffer.alloc(0)] = [...image.blobs].find(([one]) => one !== image.configDigest) ?? [];
    other.blobs.set(digest, randomBytes(data.length));
    expect(await daemon.docker(['save', '-o', join(dir, 'other.tar'), name])).toMatchObject({ code: 1 });
    expect(daemon.logs).toContain(`blob ${digest}: what came has the digest`);
    expect(await oracle(daemon)).toEqual([]);
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

describe.skipIf(missing('root', 'build', 'docker', 'registry', 'busybox'))('layers that come uncompressed', () => {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-plain-layers-'));
  let registry: TestRegistry;
  let daemon: TestDaemon;

  beforeAll(async () => {
    registry = await startRegistry();
    daemon = await new TestDaemon().start();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  const kept = (): string[] => readdirSync(join(daemon.dataRoot, 'content/blobs/sha256')).sort();
  const pushed = async (name: string): Promise<string> => {
    const target = `${registry.host}/${name}`;
    await daemon.dockerOk('tag', name, target);
    return daemon.dockerOk('push', target);
  };

  const base = busyboxTar({ 'etc/motd': 'plain' });
  /** One whose names come twice: its directory does not hold all of it. */
  const twice = async (): Promise<Buffer> => {
    const tar = await base;
    return Buffer.concat([tar.subarray(0, -1024), await busyboxTar({ 'etc/motd': 'twice' })]);
  };
  const load = async (name: string, layers: Buffer[]): Promise<string> => {
    const { configDigest, blobs } = buildImage(layers);
    const input = await dockerArchive(name, blobs.get(configDigest) as Buffer, layers);
    expect(await daemon.docker(['load'], { input })).toMatchObject({ code: 0 });
    return configDigest;
  };
  const makers: Record<string, () => Promise<unknown>> = {
    loaded: async () => load('loaded:1', [await base]),
    // The same layer on other layers: its bytes came once.
    repeated: async () => load('repeated:1', [await base, await busyboxTar({ two: '2' }), await base]),
    imported: async () => daemon.docker(['import', '-', 'imported:1'], { input: await base }),
    committed: async () => {
      await load('base:1', [await base]);
      await daemon.dockerOk('run', '--network=none', '--name', 'made', 'base:1', 'sh', '-c', 'echo made > /made');
      await daemon.dockerOk('commit', 'made', 'committed:1');
      await daemon.dockerOk('rm', 'made');
    },
  };
  for (const [name, make] of Object.entries(makers))
    it(`are kept once: ${name}`, async () => {
      await make();
      expect(kept()).toEqual([]);
      const inspect = (format: string): Promise<string> =>
        daemon.dockerOk('image', 'inspect', '-f', format, `${name}:1`);
      const id = await inspect('{{.Id}}');
      const diffIds = JSON.parse(await inspect('{{json .RootFS.Layers}}')) as string[];
      const archive = join(dir, `${name}.tar`);
      await daemon.dockerOk('save', '-o', archive, `${name}:1`);
      expect(layersIn(archive)).toEqual(diffIds);
      const first = await pushed(`${name}:1`);
      await daemon.dockerOk('tag', `${name}:1`, `${name}:2`);
      const second = await pushed(`${name}:2`);
      const digest = (output: string): string | undefined => /digest: (\S+)/.exec(output)?.[1];
      expect(digest(second)).toBe(digest(first));
      expect(second.match(/Layer already exists/g)).toHaveLength(new Set(diffIds).size);
      expect(kept()).toEqual([]);
      await daemon.dockerOk('rmi', '-f', id);
      expect(await daemon.docker(['load'], { input: readFileSync(archive) })).toMatchObject({ code: 0 });
      expect(await inspect('{{.Id}}')).toBe(id);
      await daemon.dockerOk('rmi', '-f', id);
      await daemon.dockerOk('pull', '-q', `${registry.host}/${name}:1`);
      expect(await daemon.dockerOk('image', 'inspect', '-f', '{{.Id}}', `${registry.host}/${name}:1`)).toBe(id);
      await daemon.dockerOk('rmi', '-f', id);
    });

  it('keep their blob where the directory cannot give it again', async () => {
    const tar = await twice();
    const id = await load('twice:1', [tar]);
    expect(kept()).toEqual([sha256(tar).slice(7)]);
    await daemon.dockerOk('save', '-o', join(dir, 'twice.tar'), 'twice:1');
    expect(layersIn(join(dir, 'twice.tar'))).toEqual([sha256(tar)]);
    await pushed('twice:1');
    await daemon.dockerOk('rmi', '-f', id);
    await daemon.dockerOk('pull', '-q', `${registry.host}/twice:1`);
    const run = ['run', '--rm', '--network=none', `${registry.host}/twice:1`, 'cat', '/etc/motd'];
    expect(await daemon.dockerOk(...run)).toBe('twice');
    expect(await oracle(daemon)).toEqual([]);
  });
});
