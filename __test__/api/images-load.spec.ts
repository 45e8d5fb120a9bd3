/** `docker load` into a real daemon: what it takes, what it refuses, and when it answers. */
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar, ociArchive, packed } from '../helpers/image.ts';
import { oracle } from '../helpers/oracle.ts';
import { missing } from '../helpers/requires.ts';

interface Inspected {
  Id: string;
  RepoTags: string[];
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('load', () => {
  let daemon: TestDaemon;
  let one: BuiltImage;
  let two: BuiltImage;

  beforeAll(async () => {
    daemon = await new TestDaemon().start();
    const base = await busyboxTar();
    one = buildImage([base], { Cmd: ['sh'] });
    two = buildImage([base, await busyboxTar({ 'etc/motd': 'two' })], { Cmd: ['sh'] });
  });
  afterAll(async () => {
    expect(await oracle(daemon)).toEqual([]);
    await daemon[Symbol.asyncDispose]();
  });

  const json = async <T>(path: string): Promise<T> => JSON.parse((await daemon.http('GET', path)).body) as T;
  const layerDirectories = (): string[] => readdirSync(join(daemon.dataRoot, 'overlay'));
  const removeAll = async (): Promise<void> => {
    for (const { Id } of await json<{ Id: string }[]>('/images/json'))
      await daemon.http('DELETE', `/images/${Id}?force=1`);
    expect(layerDirectories()).toEqual([]);
  };

  it('takes an OCI layout, plain and compressed', async () => {
    const archive = await ociArchive(one, 'docker.io/test/one:1');
    for (const input of [archive, gzipSync(archive)]) {
      const result = await daemon.docker(['load'], { input });
      expect([result.code, result.stdout.trim()]).toEqual([0, 'Loaded image: test/one:1']);
      expect((await json<Inspected>('/images/test/one:1/json')).Id).toBe(one.configDigest);
    }
    await removeAll();
  });

  it('takes what docker save wrote before 1.10', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'caisson-load-'));
    const [base, empty, top] = ['a'.repeat(64), 'b'.repeat(64), 'c'.repeat(64)];
    const image = (id: string, more: object) => ({ id, created: '2014-05-06T07:08:09Z', os: 'linux', ...more });
    const layers: [string, Buffer, object][] = [
      [base, await busyboxTar(), image(base, { container_config: { Cmd: ['/bin/sh', '-c', 'COPY'] }, Size: 7 })],
      [empty, Buffer.alloc(0), image(empty, { parent: base, container_config: { Cmd: ['ENV'] } })],
      [
        top,
        await busyboxTar({ 'etc/motd': 'old' }),
        image(top, { parent: empty, config: { Cmd: ['cat', '/etc/motd'] } }),
      ],
    ];
    for (const [id, layer, json] of layers) {
      mkdirSync(join(dir, id));
      writeFileSync(join(dir, id, 'VERSION'), '1.0');
      writeFileSync(join(dir, id, 'json'), JSON.stringify(json));
      writeFileSync(join(dir, id, 'layer.tar'), layer);
    }
    writeFileSync(join(dir, 'repositories'), JSON.stringify({ 'old.test/image': { one: base, two: top } }));
    const archive = join(dir, 'archive.tar');
    writeFileSync(archive, await packed({ cwd: dir }, ['repositories', base, empty, top]));
    const loaded = await daemon.dockerOk('load', '-i', archive);
    expect(loaded.split('\n').sort()).toEqual(['one', 'two'].map((tag) => `Loaded image: old.test/image:${tag}`));
    expect(await daemon.dockerOk('run', '--rm', '--network=none', 'old.test/image:two')).toBe('old');
    const history = await daemon.dockerOk('history', '--no-trunc', '--format', '{{.CreatedBy}}', 'old.test/image:two');
    expect(history.split('\n')).toEqual(['ENV', '/bin/sh -c COPY']);
    await daemon.dockerOk('rmi', 'old.test/image:one', 'old.test/image:two');
    rmSync(dir, { recursive: true });
  });

  it('takes what docker save writes, with the manifest behind the layers and links between them', async () => {
    const archive = await dockerArchive(two, ['test/two:1', 'test/two:2']);
    const result = await daemon.docker(['load'], { input: archive });
    expect(result.stdout).toContain('Loaded image: test/two:1\nLoaded image: test/two:2\n');
    const image = await json<Inspected>('/images/test/two:2/json');
    expect(image.Id).toBe(two.configDigest);
    expect(image.RepoTags.sort()).toEqual(['test/two:1', 'test/two:2']);
    await removeAll();
  });

  it('gives a name to the image of the archive, says who has lost it, and knows whom an image was made of', async () => {
    const [name, child] = ['test/base:1', 'test/child:1'];
    await daemon.docker(['load'], { input: await ociArchive(one, `docker.io/${name}`) });
    const container = await daemon.dockerOk('create', name);
    const made = await daemon.dockerOk('commit', container, child);
    await daemon.dockerOk('rm', container);
    const archive = join(mkdtempSync(join(tmpdir(), 'caisson-load-')), 'both.tar');
    await daemon.dockerOk('save', '-o', archive, child, name);
    await daemon.dockerOk('rmi', child, name);
    await daemon.docker(['load'], { input: await ociArchive(two, `docker.io/${name}`) });
    const before = await json<object>(`/images/${name}/json`);
    expect(before).toMatchObject({ Id: two.configDigest, Metadata: { LastTagTime: '0001-01-01T00:00:00Z' } });
    const loaded = await daemon.dockerOk('load', '-i', archive);
    expect(loaded).toContain(
      `The image ${name} already exists, renaming the old one with ID ${two.configDigest} to empty string\n` +
        `Loaded image: ${name}`,
    );
    expect(await json<object>(`/images/${child}/json`)).toMatchObject({ Id: made, Parent: one.configDigest });
    const conflict = await daemon.docker(['rmi', one.configDigest]);
    expect(conflict.stderr).toContain('(cannot be forced) - image has dependent child images');
    // What the child was made of has no name any more: it goes along unless it is asked to stay.
    await daemon.dockerOk('rmi', '--no-prune', name);
    const kept = await daemon.dockerOk('rmi', '--no-prune', child);
    expect(kept).not.toContain(one.configDigest);
    await daemon.dockerOk('load', '-i', archive);
    await daemon.dockerOk('rmi', name);
    expect(await daemon.dockerOk('rmi', child)).toContain(`Deleted: ${one.configDigest}`);
    await removeAll();
    rmSync(dirname(archive), { recursive: true });
  });

  it.each([
    ['no archive', Buffer.from('x'.repeat(4096))],
    ['nothing', Buffer.alloc(0)],
    ['an archive without a manifest', tarOf({ 'a.json': '{}' })],
    ['a manifest without its config', tarOf({ 'manifest.json': '[{"Config":"x.json","RepoTags":null,"Layers":[]}]' })],
    ['a manifest of another shape', tarOf({ 'manifest.json': '[null]' })],
    [
      'an index that escapes',
      tarOf({ 'index.json': '{"manifests":[{"digest":"sha256:../../../../etc/passwd","size":1}]}' }),
    ],
    ['JSON without end', tarOf({ 'manifest.json': `[${' '.repeat(21 << 20)}` })],
  ])('refuses %s and leaves nothing', async (_name, input) => {
    const result = await daemon.docker(['load'], { input: await input });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/invalid image|archive/);
    expect(layerDirectories()).toEqual([]);
  });

  it('tells a client what is wrong while it still sends, and serves the next request of its connection', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const send = (path: string, body: Buffer): Promise<number> =>
      new Promise((resolve, reject) => {
        const sent = request({ agent, socketPath: daemon.socket, method: 'POST', path }, (response) => {
          response.resume().on('end', () => resolve(response.statusCode ?? 0));
        });
        sent.on('error', reject).end(body);
      });
    const wrong = Buffer.concat([Buffer.from('x'.repeat(4096)), Buffer.alloc(8 << 20)]);
    expect(await send('/images/load', wrong), 'what is wrong stands in the stream').toBe(200);
    expect(await send('/images/create?fromSrc=-', wrong)).toBeGreaterThanOrEqual(400);
    expect(await send('/build', wrong)).toBe(400);
    expect(await send('/images/prune', Buffer.alloc(0))).toBe(200);
    agent.destroy();
  });

  it('that is quiet answers when it is done: whoever waits for the head may close the connection', async () => {
    const sent = request({ socketPath: daemon.socket, method: 'POST', path: '/images/load?quiet=1' });
    sent.end(await ociArchive(one, 'docker.io/test/quiet:1'));
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    response.destroy();
    expect((await json<Inspected>('/images/test/quiet:1/json')).Id).toBe(one.configDigest);
    await removeAll();
  });
});

async function tarOf(files: Record<string, string>): Promise<Buffer> {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-tar-'));
  try {
    for (const [path, content] of Object.entries(files)) writeFileSync(join(dir, path), content);
    return await packed({ cwd: dir }, Object.keys(files));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** As old versions of docker save: a directory a layer, with a link where a layer is another's. */
async function dockerArchive(image: BuiltImage, tags: string[]): Promise<Buffer> {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-save-'));
  try {
    const { layers } = JSON.parse(image.manifest.toString()) as { layers: { digest: string }[] };
    const paths = layers.map(({ digest }, i) => {
      mkdirSync(join(dir, `${i}`));
      writeFileSync(join(dir, `${i}.tar`), image.blobs.get(digest) ?? Buffer.alloc(0));
      symlinkSync(`../${i}.tar`, join(dir, `${i}/layer.tar`));
      writeFileSync(join(dir, `${i}/VERSION`), '1.0');
      return `${i}/layer.tar`;
    });
    writeFileSync(join(dir, 'config.json'), image.blobs.get(image.configDigest) ?? '');
    writeFileSync(
      join(dir, 'manifest.json'),
      JSON.stringify([{ Config: 'config.json', RepoTags: tags, Layers: paths }]),
    );
    return await packed({ cwd: dir }, [
      ...paths.map((_, i) => `${i}`),
      ...paths.map((_, i) => `${i}.tar`),
      'config.json',
      'manifest.json',
    ]);
  } finally {
    rmSync(dir, { recursive: true });
  }
}
