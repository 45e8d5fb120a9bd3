/** `docker save` of a real daemon: what is in the archive, and who reads it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar, pushImage, sha256 } from '../helpers/image.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';

interface Index {
  manifests: { digest: string; annotations?: Record<string, string> }[];
}
type Manifest = { Config: string; RepoTags: string[] | null; Layers: string[] }[];

describe.skipIf(missing('root', 'build', 'docker', 'registry', 'busybox', 'skopeo'))('docker save', () => {
  let dir: string;
  let daemon: TestDaemon;
  let registry: TestRegistry;
  let image: BuiltImage;
  let pulled: string;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'caisson-save-'));
    registry = await startRegistry();
    daemon = await new TestDaemon().start();
    image = buildImage([await busyboxTar(), await busyboxTar({ 'etc/motd': 'two' })], { Cmd: ['cat', '/etc/motd'] });
    await pushImage(registry.url, 'test/saved', 'latest', image);
    pulled = `${registry.host}/test/saved:latest`;
    await daemon.dockerOk('pull', '-q', pulled);
    await daemon.dockerOk('tag', pulled, 'other:1');
    const imported = await daemon.docker(['import', '-c', 'CMD ["echo","imported"]', '-', 'imported:1'], {
      input: await busyboxTar(),
    });
    expect(imported.code).toBe(0);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  });

  /** The archive, unpacked by GNU tar. */
  async function save(name: string, ...images: string[]): Promise<string> {
    const archive = join(dir, `${name}.tar`);
    await daemon.dockerOk('save', '-o', archive, ...images);
    execFileSync('sh', ['-c', `mkdir ${dir}/${name} && tar -C ${dir}/${name} -xf ${archive}`]);
    return archive;
  }
  const json = <T>(name: string, file: string): T => JSON.parse(readFileSync(join(dir, name, file), 'utf8')) as T;

  it('writes the manifest, config and layers that were pulled, to the byte', async () => {
    await save('pulled', pulled);
    const index = json<Index>('pulled', 'index.json');
    expect(index.manifests.map(({ digest }) => digest)).toEqual([image.manifestDigest]);
    expect(index.manifests[0]?.annotations?.['io.containerd.image.name']).toBe(pulled);
    const blobs = readdirSync(join(dir, 'pulled/blobs/sha256')).sort();
    expect(blobs).toEqual([image.manifestDigest, ...image.blobs.keys()].map((digest) => digest.slice(7)).sort());
    for (const blob of blobs) expect(sha256(readFileSync(join(dir, 'pulled/blobs/sha256', blob)))).toContain(blob);
    expect(json<Manifest>('pulled', 'manifest.json')[0]?.RepoTags).toEqual([pulled]);
    expect(json('pulled', 'oci-layout')).toEqual({ imageLayoutVersion: '1.0.0' });
  });

  it('writes several images, by name and by id, each blob once', async () => {
    await save('several', image.configDigest, 'imported:1');
    const [byId, byName] = json<Manifest>('several', 'manifest.json');
    expect([byId?.RepoTags, byName?.RepoTags]).toEqual([null, ['imported:1']]);
    expect(json<Index>('several', 'index.json').manifests[0]?.annotations).toBeUndefined();
    await save('both', pulled, 'other', 'other:1');
    expect(json<Manifest>('both', 'manifest.json').map(({ RepoTags }) => RepoTags)).toEqual([[pulled, 'other:1']]);
    expect(readdirSync(join(dir, 'both/blobs/sha256'))).toHaveLength(image.blobs.size + 1);
  });

  it('writes the same archive again', async () => {
    const [one, two] = [await save('one', 'imported:1', 'other:1'), await save('two', 'imported:1', 'other:1')];
    expect(readFileSync(one).equals(readFileSync(two))).toBe(true);
  });

  it('is read by skopeo, as an OCI layout and as an archive of Docker', async () => {
    const archive = await save('skopeo', 'imported:1');
    const inspect = (source: string): string =>
      execFileSync('skopeo', ['inspect', '--config', '--raw', source], { encoding: 'utf8' });
    const { Id } = JSON.parse(await daemon.dockerOk('image', 'inspect', '-f', '{{json .}}', 'imported:1')) as {
      Id: string;
    };
    for (const source of [`docker-archive:${archive}:imported:1`, `oci-archive:${archive}:1`])
      expect(sha256(inspect(source))).toBe(Id);
    execFileSync('skopeo', ['copy', `oci-archive:${archive}:1`, `dir:${dir}/copied`], { stdio: 'ignore' });
  });

  it('is loaded again with the same digests, and runs', async () => {
    const archive = await save('again', pulled, 'imported:1');
    for (const name of [pulled, 'other:1', 'imported:1']) await daemon.dockerOk('rmi', '-f', name);
    expect(readdirSync(join(daemon.dataRoot, 'content/blobs/sha256'))).toEqual([]);
    const loaded = await daemon.docker(['load'], { input: readFileSync(archive) });
    expect(loaded.stdout).toBe(`Loaded image: ${pulled}\nLoaded image: imported:1\n`);
    expect(await daemon.dockerOk('run', '--rm', '--network=none', pulled)).toBe('two');
    expect(await daemon.dockerOk('run', '--rm', '--network=none', 'imported:1')).toBe('imported');
    const foreign = await daemon.http('POST', '/images/load?platform=linux/s390x', readFileSync(archive));
    expect(foreign.body).toContain('does not match the specified platform (linux/s390x)');
    const second = await save('third', pulled, 'imported:1');
    expect(readFileSync(second).equals(readFileSync(archive))).toBe(true);
  });

  it('fails for an unknown name before the first byte', async () => {
    const answer = await daemon.http('GET', '/images/get?names=imported:1&names=nope');
    expect([answer.status, JSON.parse(answer.body)]).toMatchObject([404, { message: 'No such image: nope:latest' }]);
    expect((await daemon.http('GET', '/images/nope/get')).status).toBe(404);
    expect((await daemon.http('GET', '/images/get?names=imported:1&platform=linux/s390x')).status).toBe(404);
    expect((await daemon.http('GET', '/images/get')).status).toBe(400);
  });

  it('leaves no lease behind when the client goes', async () => {
    const child = execFileSync('sh', [
      '-c',
      `curl -s --unix-socket ${daemon.socket} http://d/images/${pulled}/get | head -c 1000`,
    ]);
    expect(child).toHaveLength(1000);
    await daemon.dockerOk('rmi', '-f', pulled);
    await daemon.dockerOk('image', 'prune', '-af');
    // Nothing is under a lease any more: what the prune left has another user.
    expect(JSON.parse((await daemon.http('GET', '/images/json')).body)).toEqual([]);
    expect(readdirSync(join(daemon.dataRoot, 'content/blobs/sha256'))).toEqual([]);
    expect(statSync(daemon.dataRoot).isDirectory()).toBe(true);
  });
});
