/** Pushing from a real daemon to a real registry, by the real docker client. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MEDIA_TYPES } from '../../ts/oci.ts';
import { TestDaemon } from '../helpers/daemon.ts';
import { type BuiltImage, buildImage, busyboxTar, pushImage, sha256 } from '../helpers/image.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { missing } from '../helpers/requires.ts';
import { putManifest } from '../helpers/servedRegistry.ts';

/** `ann` with the password `secret`. */
const HTPASSWD = 'ann:$2b$04$v4I9IxvBv3rX4CKnPL/DFOPjSqrIFWUrRnBFSHd8YnCR2p.lq01xG\n';

describe.skipIf(missing('root', 'build', 'docker', 'registry', 'busybox'))('push', () => {
  let daemon: TestDaemon;
  let open: TestRegistry;
  let closed: TestRegistry;
  let image: BuiltImage;
  let pulled: string;

  beforeAll(async () => {
    open = await startRegistry();
    closed = await startRegistry({ htpasswd: HTPASSWD });
    daemon = await new TestDaemon().start();
    image = buildImage([await busyboxTar(), await busyboxTar({ 'etc/motd': 'two' })], { Cmd: ['cat', '/etc/motd'] });
    await pushImage(open.url, 'test/pulled', 'latest', image);
    pulled = `${open.host}/test/pulled:latest`;
    await daemon.dockerOk('pull', '-q', pulled);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await open[Symbol.asyncDispose]();
    await closed[Symbol.asyncDispose]();
  });

  const served = async (registry: TestRegistry, name: string, tag: string): Promise<string | null> =>
    (
      await fetch(`${registry.url}/v2/${name}/manifests/${tag}`, {
        headers: { accept: 'application/vnd.oci.image.manifest.v1+json', authorization: `Basic ${btoa('ann:secret')}` },
      })
    ).headers.get('docker-content-digest');

  it('mounts the layers of a repository of the same registry, and keeps the digest', async () => {
    const name = `${open.host}/test/again:1`;
    await daemon.dockerOk('tag', pulled, name);
    const pushed = await daemon.dockerOk('push', name);
    expect(pushed).toContain(`The push refers to repository [${open.host}/test/again]`);
    expect(pushed.match(/: Mounted from test\/pulled/g)).toHaveLength(2);
    expect(pushed).toContain(`1: digest: ${image.manifestDigest} size: ${image.manifest.length}`);
    expect(await served(open, 'test/again', '1')).toBe(image.manifestDigest);
    expect(await daemon.dockerOk('push', name)).toMatch(/: Layer already exists/);
    const digests = await daemon.dockerOk('image', 'inspect', '-f', '{{json .RepoDigests}}', name);
    expect(JSON.parse(digests)).toContain(`${open.host}/test/again@${image.manifestDigest}`);
  });

  it('ends with what was pushed, for programs', async () => {
    const answer = await daemon.http('POST', `/images/${open.host}/test/again/push?tag=1`, undefined, {
      'x-registry-auth': Buffer.from('{}').toString('base64url'),
    });
    const lines = answer.body.trim().split('\r\n');
    expect(JSON.parse(lines.at(-1) ?? '')).toEqual({
      progressDetail: {},
      aux: { Tag: '1', Digest: image.manifestDigest, Size: image.manifest.length },
    });
  });

  it('gives an index on as it came when the images of all its platforms are here', async () => {
    const images = [
      forArchitecture(image, 'amd64'),
      forArchitecture(buildImage([await busyboxTar({ 'etc/motd': 'arm' })]), 'arm64'),
    ];
    for (const one of images) await pushImage(open.url, 'test/multi', one.architecture, one);
    const manifests = images.map(({ manifest, manifestDigest: digest, architecture }) => {
      const platform = { os: 'linux', architecture };
      return { mediaType: MEDIA_TYPES.ociManifest, digest, size: manifest.length, platform };
    });
    const index = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests });
    await putManifest(open.url, 'test/multi', 'all', index, { 'content-type': MEDIA_TYPES.ociIndex });
    const source = `${open.host}/test/multi:all`;
    const pulls = ['amd64', 'arm64'].map((architecture) => [
      'pull',
      '-q',
      '--platform',
      `linux/${architecture}`,
      source,
    ]);
    const [one = [], two = []] = pulls;

    await daemon.dockerOk(...two);
    await daemon.dockerOk('tag', source, `${open.host}/test/part:1`);
    expect(await daemon.dockerOk('push', `${open.host}/test/part:1`)).toContain(images[1]?.manifestDigest);
    await daemon.dockerOk(...one);
    const name = `${open.host}/test/whole:1`;
    await daemon.dockerOk('tag', source, name);
    expect(await daemon.dockerOk('push', name)).toContain(`1: digest: ${sha256(index)} size: ${index.length}`);
    const answer = await fetch(`${open.url}/v2/test/whole/manifests/1`, { headers: { accept: MEDIA_TYPES.ociIndex } });
    expect(await answer.text()).toBe(index);
    for (const { manifestDigest } of images)
      expect(await served(open, 'test/whole', manifestDigest)).toBe(manifestDigest);
    await daemon.dockerOk('push', '--platform', 'linux/amd64', name);
    expect(await served(open, 'test/whole', '1')).toBe(images[0]?.manifestDigest);
  });

  it('takes a login, for the registry that it is for', async () => {
    const name = `${closed.host}/private/one:1`;
    await daemon.dockerOk('tag', pulled, name);
    const refused = await daemon.docker(['push', name]);
    expect(refused.code).toBe(1);
    expect(refused.stderr + refused.stdout).toMatch(/no basic auth credentials/);
    const wrong = await daemon.docker(['login', '-u', 'ann', '--password-stdin', closed.host], { input: 'wrong' });
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining('401 Unauthorized')]);
    const login = await daemon.docker(['login', '-u', 'ann', '--password-stdin', closed.host], { input: 'secret' });
    expect([login.code, login.stdout]).toEqual([0, expect.stringContaining('Login Succeeded')]);
    expect(await daemon.dockerOk('push', name)).toContain(image.manifestDigest);
    await daemon.dockerOk('rmi', name);
    expect(await daemon.dockerOk('pull', name)).toContain(image.manifestDigest);
    expect(await daemon.dockerOk('manifest', 'inspect', '--insecure', name)).toContain(image.configDigest);
  });

  it('sends all tags of a repository, and pulls them all', async () => {
    const repository = `${open.host}/test/all`;
    for (const tag of ['a', 'b']) await daemon.dockerOk('tag', pulled, `${repository}:${tag}`);
    const pushed = await daemon.dockerOk('push', '-a', repository);
    for (const tag of ['a', 'b']) expect(pushed).toContain(`${tag}: digest: ${image.manifestDigest}`);
    await daemon.dockerOk('rmi', `${repository}:a`, `${repository}:b`);
    await daemon.dockerOk('pull', '-a', repository);
    expect((await daemon.dockerOk('images', '--format', '{{.Tag}}', repository)).split('\n').sort()).toEqual([
      'a',
      'b',
    ]);
  });

  it('tells what a name stands for, without bringing it here', async () => {
    const answer = await daemon.http('GET', `/distribution/${open.host}/test/pulled:latest/json`);
    expect(JSON.parse(answer.body)).toEqual({
      Descriptor: {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: image.manifestDigest,
        size: image.manifest.length,
      },
      Platforms: [{ os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' }],
    });
    expect((await daemon.http('GET', `/distribution/${open.host}/test/none/json`)).status).toBe(404);
  });

  it('tells what a managed plugin wants, and installs none', async () => {
    const config = Buffer.from(
      JSON.stringify({
        Network: { Type: 'host' },
        Mounts: [{ Source: '/var/lib/x' }, { Source: null }],
        Linux: { Capabilities: ['CAP_SYS_ADMIN'], Devices: [{ Path: '/dev/fuse' }] },
      }),
    );
    const descriptor = { digest: sha256(config), size: config.length };
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MEDIA_TYPES.dockerManifest,
        config: { mediaType: MEDIA_TYPES.pluginConfig, ...descriptor },
        layers: [],
      }),
    );
    const blobs = new Map([[descriptor.digest, config]]);
    const plugin = { blobs, manifest, manifestDigest: sha256(manifest), configDigest: descriptor.digest };
    await pushImage(open.url, 'test/plugin', 'latest', plugin, MEDIA_TYPES.dockerManifest);
    const asked = await daemon.http('GET', `/plugins/privileges?remote=${open.host}/test/plugin`);
    expect(JSON.parse(asked.body)).toEqual([
      { Name: 'network', Description: 'permissions to access a network', Value: ['host'] },
      { Name: 'mount', Description: 'host path to mount', Value: ['/var/lib/x'] },
      { Name: 'device', Description: 'host device to access', Value: ['/dev/fuse'] },
      { Name: 'capabilities', Description: 'list of additional capabilities required', Value: ['CAP_SYS_ADMIN'] },
    ]);
    const installed = await daemon.docker(['plugin', 'install', '--grant-all-permissions', `${open.host}/test/plugin`]);
    expect(installed).toMatchObject({ code: 1, stderr: expect.stringContaining('managed plugins is not supported') });
    expect((await daemon.http('GET', `/plugins/privileges?remote=${pulled}`)).body).toContain(
      'this is no managed plugin',
    );
  });

  it('pushes what was never in a registry; another pull brings the same image', async () => {
    const name = `${open.host}/test/imported:1`;
    const input = await busyboxTar({ 'etc/motd': 'never seen' });
    const made = await daemon.docker(['import', '-c', 'CMD ["echo","hi"]', '-', name], { input });
    expect(await daemon.dockerOk('push', name)).toMatch(/: Pushed/);
    await daemon.dockerOk('rmi', '-f', name);
    expect(await daemon.dockerOk('run', '--rm', '--network=none', name)).toBe('hi');
    expect(await daemon.dockerOk('image', 'inspect', '-f', '{{.Id}}', name)).toBe(made.stdout.trim());
  });

  it.each([
    ['a name that is not here', 'test/none:1', /An image does not exist locally with the tag/],
    ['a digest', `test/pulled@sha256:${'0'.repeat(64)}`, /digest reference/],
  ])('fails for %s', async (_what, name, message) => {
    const failed = await daemon.docker(['push', `${open.host}/${name}`]);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(message);
  });

  it('takes the platform of the image, and tells of another one in Docker’s words', async () => {
    const name = `${open.host}/test/platform`;
    const [own, other] = [process.arch === 'arm64' ? 'arm64' : 'amd64', 's390x'];
    await daemon.dockerOk('tag', pulled, `${name}:1`);
    const ask = (method: string, path: string, architecture: string) =>
      daemon.http(method, `/images/${name}${path}${encodeURIComponent(JSON.stringify({ os: 'linux', architecture }))}`);
    const requests = [
      ['POST', '/push?tag=1&platform='],
      ['GET', ':1/json?platform='],
      ['GET', ':1/history?platform='],
      ['GET', ':1/get?platform='],
      ['DELETE', ':1?platforms='],
    ] as const;
    for (const [method, path] of requests) {
      const refused = await ask(method, path, other);
      expect([path, refused.status]).toEqual([path, 404]);
      expect(refused.body).toContain(`its platform (linux/${own}) does not match the specified platform (linux/s390x)`);
    }
    expect((await daemon.http('GET', `/images/${name}:1/json?platform=linux/${own}`)).status).toBe(400);
    for (const [method, path] of requests) expect((await ask(method, path, own)).status).toBe(200);
  });
});

/** The same layers under another config. */
function forArchitecture(image: BuiltImage, architecture: string): BuiltImage & { architecture: string } {
  const config = Buffer.from(
    JSON.stringify({
      ...JSON.parse(image.blobs.get(image.configDigest)?.toString() ?? ''),
      architecture,
      author: 'us',
    }),
  );
  const configDigest = sha256(config);
  const blobs = new Map([...image.blobs].filter(([digest]) => digest !== image.configDigest)).set(configDigest, config);
  const parsed = JSON.parse(image.manifest.toString()) as { config: object };
  const described = { ...parsed.config, digest: configDigest, size: config.length };
  const manifest = Buffer.from(JSON.stringify({ ...parsed, config: described }));
  return { blobs, manifest, manifestDigest: sha256(manifest), configDigest, architecture };
}
