/** Images made from Debian's static busybox, and their way into a registry, with nothing but the distribution API. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type PackOptions, tarArchive } from '../../ts/cli/tarArchive.ts';
import { type Descriptor, type ImageConfig, type ImageManifest, MEDIA_TYPES } from '../../ts/oci.ts';

export interface BuiltImage {
  blobs: Map<string, Buffer>;
  manifest: Buffer;
  manifestDigest: string;
  configDigest: string;
}

export const sha256 = (data: Buffer | string): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

const BUSYBOX = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path)) ?? '/bin/busybox';

/** A tar of `paths` below `options.cwd`. */
export async function packed(options: PackOptions, paths = ['.']): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of tarArchive(options, paths)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** A tar of a root filesystem with busybox under every applet's name and the users that images usually have. */
export async function busyboxTar(files: Record<string, string> = {}): Promise<Buffer> {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-image-'));
  try {
    for (const sub of ['bin', 'dev', 'etc', 'home', 'proc', 'root', 'sys', 'usr/bin', 'var/www'])
      mkdirSync(join(dir, sub), { recursive: true });
    mkdirSync(join(dir, 'tmp'), { mode: 0o1777 });
    copyFileSync(BUSYBOX, join(dir, 'bin/busybox'));
    for (const applet of execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
      if (applet !== 'busybox') linkSync(join(dir, 'bin/busybox'), join(dir, 'bin', applet));
    }
    symlinkSync('../../bin/env', join(dir, 'usr/bin/env'));
    writeFileSync(
      join(dir, 'etc/passwd'),
      'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nuser:x:1000:1000::/home:/bin/sh\n',
    );
    writeFileSync(join(dir, 'etc/group'), 'root:x:0:\nwww-data:x:33:\nuser:x:1000:\nextra:x:2000:user\n');
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(join(dir, path, '..'), { recursive: true });
      writeFileSync(join(dir, path), content);
    }
    return await packed({ cwd: dir, portable: true, mtime: new Date(1_700_000_000_000) });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

export function buildImage(
  layers: Buffer[],
  config: ImageConfig['config'] = {},
  created = '2023-11-14T22:13:20Z',
): BuiltImage {
  const blobs = new Map<string, Buffer>();
  const put = (data: Buffer, mediaType: string): Descriptor => {
    const digest = sha256(data);
    blobs.set(digest, data);
    return { mediaType, digest, size: data.length };
  };
  const descriptors = layers.map((tar) => put(gzipSync(tar), 'application/vnd.oci.image.layer.v1.tar+gzip'));
  const imageConfig: ImageConfig = {
    created,
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'], ...config },
    rootfs: { type: 'layers', diff_ids: layers.map(sha256) },
    history: layers.map((_, i) => ({ created, created_by: `layer ${i}` })),
  };
  const configDescriptor = put(Buffer.from(JSON.stringify(imageConfig)), MEDIA_TYPES.ociConfig);
  const manifest: ImageManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: configDescriptor,
    layers: descriptors,
  };
  const body = Buffer.from(JSON.stringify(manifest));
  return {
    blobs,
    manifest: body,
    manifestDigest: sha256(body),
    configDigest: configDescriptor.digest,
  };
}

/** `registry` is a base URL, `http://127.0.0.1:5000`. */
export async function pushImage(
  registry: string,
  name: string,
  tag: string,
  image: BuiltImage,
  mediaType: string = MEDIA_TYPES.ociManifest,
): Promise<void> {
  const check = async (response: Response, what: string) => {
    if (!response.ok) throw new Error(`${what}: ${response.status} ${await response.text()}`);
    return response;
  };
  for (const [digest, data] of image.blobs) {
    const begun = await check(await fetch(`${registry}/v2/${name}/blobs/uploads/`, { method: 'POST' }), 'begin upload');
    const location = new URL(begun.headers.get('location') ?? '', registry);
    location.searchParams.set('digest', digest);
    await check(
      await fetch(location, {
        method: 'PUT',
        body: new Uint8Array(data),
        headers: { 'content-type': 'application/octet-stream' },
      }),
      `upload ${digest}`,
    );
  }
  await check(
    await fetch(`${registry}/v2/${name}/manifests/${tag}`, {
      method: 'PUT',
      body: new Uint8Array(image.manifest),
      headers: { 'content-type': mediaType },
    }),
    `push ${name}:${tag}`,
  );
}

/** What `docker save` wrote before 25, its layers uncompressed; equal ones once. */
export async function dockerArchive(reference: string, config: Buffer, layers: readonly Buffer[]): Promise<Buffer> {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-archive-'));
  try {
    const put = (name: string, data: Buffer): string => {
      writeFileSync(join(dir, name), data);
      return name;
    };
    const Layers = layers.map((tar) => put(`${sha256(tar).slice(7)}.tar`, tar));
    const Config = put(`${sha256(config).slice(7)}.json`, config);
    put('manifest.json', Buffer.from(JSON.stringify([{ Config, RepoTags: [reference], Layers }])));
    return await packed({ cwd: dir });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** What `docker load` reads: an OCI layout with a name annotation, as a tar. */
export async function ociArchive(image: BuiltImage, reference: string): Promise<Buffer> {
  const dir = mkdtempSync(join(tmpdir(), 'caisson-oci-'));
  try {
    mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
    for (const [digest, data] of [...image.blobs, [image.manifestDigest, image.manifest] as const]) {
      writeFileSync(join(dir, 'blobs/sha256', digest.slice(7)), data);
    }
    writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    const descriptor = {
      mediaType: MEDIA_TYPES.ociManifest,
      digest: image.manifestDigest,
      size: image.manifest.length,
      annotations: {
        'io.containerd.image.name': reference,
        'org.opencontainers.image.ref.name': reference.split(':').at(-1),
      },
    };
    writeFileSync(
      join(dir, 'index.json'),
      JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [descriptor] }),
    );
    return await packed({ cwd: dir });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
