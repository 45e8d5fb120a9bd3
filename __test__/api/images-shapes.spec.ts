/** Images in the shapes that registries hold beside the usual ones, on ours and on dockerd (helpers/subject.ts). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ImageConfig, ImageManifest } from '../../ts/oci.ts';
import { type BuiltImage, buildImage, busyboxTar } from '../helpers/image.ts';
import { missing } from '../helpers/requires.ts';
import { OCI_INDEX, OCI_MANIFEST, ScriptedRegistry } from '../helpers/scriptedRegistry.ts';
import { Subject } from '../helpers/subject.ts';

interface Entry {
  mediaType: string;
  digest: string;
  size: number;
  platform?: { os: string; architecture: string };
}

describe.skipIf(missing('root', 'build', 'docker', 'busybox'))('a pull', () => {
  let subject: Subject;
  let registry: ScriptedRegistry;
  let image: BuiltImage;
  let entry: Entry;
  let other: Entry;

  beforeAll(async () => {
    image = buildImage([await busyboxTar({ shape: 'as it came' })], { Cmd: ['cat', '/shape'] });
    registry = await new ScriptedRegistry().listen();
    for (const [digest, data] of image.blobs) registry.blobs.set(digest, data);
    entry = { mediaType: OCI_MANIFEST, ...registry.addManifest(image.manifest.toString()) };
    // nobody may ask for it
    const platform = { os: 'linux', architecture: 's390x' };
    other = { mediaType: OCI_MANIFEST, digest: `sha256:${'5'.repeat(64)}`, size: 5, platform };
    subject = await Subject.open();
  });
  afterAll(async () => {
    expect(await subject?.close([])).toEqual([]);
    await registry?.[Symbol.asyncDispose]();
  });

  const index = (...manifests: Entry[]): string =>
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests });
  const nested = (text: string): Entry => ({ mediaType: OCI_INDEX, ...registry.addManifest(text, OCI_INDEX) });
  const here = (): NonNullable<Entry['platform']> => ({
    os: 'linux',
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
  });
  const unknown = { os: 'unknown', architecture: 'unknown' };

  it.each<[string, () => string]>([
    ['whose only entry says no platform', () => index(entry)],
    ['whose only entry has an empty platform', () => index({ ...entry, platform: { os: '', architecture: '' } })],
    ['with one without a platform before others', () => index(entry, other)],
    ['with one without a platform behind an attestation', () => index({ ...other, platform: unknown }, entry)],
    [
      'where the platform is before what says none',
      () => index({ ...other, platform: {} as never }, { ...entry, platform: here() }),
    ],
    ['in an index', () => index(nested(index({ ...entry, platform: here() })))],
    ['in an index, for the platform', () => index(other, { ...nested(index(entry)), platform: here() })],
  ])('takes the image of an index %s', async (_what, text) => {
    const { digest } = registry.addManifest(text(), OCI_INDEX, 'latest');
    const name = `${registry.host}/shape`;
    try {
      const pulled = await subject.ok('pull', name);
      expect(pulled).toContain(`Digest: ${digest}`);
      expect(await subject.ok('image', 'inspect', '--format', '{{.Id}} {{index .RepoDigests 0}}', name)).toBe(
        `${image.configDigest} ${name}@${digest}`,
      );
      expect(await subject.ok('run', '--rm', '--network', 'none', name)).toBe('as it came');
    } finally {
      await subject.docker('rmi', '-f', name);
    }
  });

  it.each([
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  ])('takes a layer of type %s that the registry has', async (mediaType) => {
    const manifest = JSON.parse(image.manifest.toString()) as ImageManifest;
    const urls = ['http://127.0.0.1:1/nobody'];
    const layers = manifest.layers.map((layer) => ({ ...layer, mediaType, urls }));
    registry.addManifest({ ...manifest, layers }, OCI_MANIFEST, 'latest');
    const name = `${registry.host}/foreign`;
    try {
      await subject.ok('pull', name);
      expect(await subject.ok('run', '--rm', '--network', 'none', name)).toBe('as it came');
    } finally {
      await subject.docker('rmi', '-f', name);
    }
  });

  it('refuses an image of another operating system', async () => {
    const manifest = JSON.parse(image.manifest.toString()) as ImageManifest;
    const config = JSON.parse((image.blobs.get(image.configDigest) as Buffer).toString()) as ImageConfig;
    const blob = registry.addBlob(Buffer.from(JSON.stringify({ ...config, os: 'windows' })));
    registry.addManifest(
      { ...manifest, config: { ...blob, mediaType: manifest.config.mediaType } },
      OCI_MANIFEST,
      'latest',
    );
    const name = `${registry.host}/windows`;
    const { code, stderr } = await subject.docker('pull', name);
    expect(code).toBe(1);
    expect(stderr).toContain(
      'image operating system "windows" cannot be used on this platform: operating system is not supported',
    );
    expect(await subject.ok('images', '-q', name)).toBe('');
  });
});
