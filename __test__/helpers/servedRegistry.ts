/** caisson's own registry, in this process, over a directory of its own. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '../../ts/log.ts';
import { type Descriptor, MEDIA_TYPES } from '../../ts/oci.ts';
import { defaultConfig, type RegistryConfig } from '../../ts/registry/server/config.ts';
import { type RunningRegistry, startRegistry } from '../../ts/registry/server/server.ts';

export const ANYBODY: RegistryConfig['rights'] = [
  { users: ['anonymous'], repositories: ['**'], actions: ['pull', 'push', 'delete'] },
];

export interface ServedRegistry extends AsyncDisposable {
  url: string;
  root: string;
  running: RunningRegistry;
  /** Ends it and serves the same root again. */
  restart(): Promise<void>;
}

/** Collects only when a test says so. */
export async function serveRegistry(settings: Partial<RegistryConfig> = {}): Promise<ServedRegistry> {
  const root = settings.root ?? mkdtempSync(join(tmpdir(), 'caisson-served-'));
  const config: RegistryConfig = {
    ...defaultConfig(),
    root,
    listen: ['127.0.0.1:0'],
    rights: ANYBODY,
    accessLog: false,
    logLevel: 'silent',
    collectEveryMs: 1 << 30,
    ...settings,
  };
  const start = (): Promise<RunningRegistry> => startRegistry(config, createLogger('silent'));
  const scheme = config.tls === undefined ? 'http' : 'https';
  const running = await start().catch((error: unknown) => {
    if (settings.root === undefined) rmSync(root, { recursive: true, force: true });
    throw error;
  });
  const served: ServedRegistry = {
    url: `${scheme}://${running.addresses[0]}`,
    root,
    running,
    async restart() {
      await served.running.close(0);
      served.running = await start();
      served.url = `${scheme}://${served.running.addresses[0]}`;
    },
    async [Symbol.asyncDispose]() {
      await served.running.close(0);
      rmSync(root, { recursive: true, force: true });
    },
  };
  return served;
}

export const digestOf = (data: string | Uint8Array, algorithm = 'sha256'): string =>
  `${algorithm}:${createHash(algorithm).update(data).digest('hex')}`;

export const bytesOf = (text: string | Buffer): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text));

/** Resolves with the digest of a blob that was pushed in one request. */
export async function pushBlob(
  url: string,
  name: string,
  data: string | Buffer,
  headers: Record<string, string> = {},
): Promise<string> {
  const digest = digestOf(data);
  const answer = await fetch(`${url}/v2/${name}/blobs/uploads/?digest=${digest}`, {
    method: 'POST',
    body: bytesOf(data),
    headers,
  });
  if (answer.status !== 201) throw new Error(`push of ${digest}: ${answer.status} ${await answer.text()}`);
  return digest;
}

export interface ManifestParts {
  config: Buffer | string;
  layers: (Buffer | string)[];
  subject?: Descriptor;
  artifactType?: string;
  annotations?: Record<string, string>;
}

export function manifestOf({ config, layers, ...more }: ManifestParts): Buffer {
  const descriptor = (data: Buffer | string, mediaType: string): Descriptor => ({
    mediaType,
    digest: digestOf(data),
    size: Buffer.byteLength(data),
  });
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: descriptor(config, MEDIA_TYPES.ociConfig),
      layers: layers.map((layer) => descriptor(layer, 'application/vnd.oci.image.layer.v1.tar')),
      ...more,
    }),
  );
}

export const putManifest = (
  url: string,
  name: string,
  reference: string,
  body: Buffer | string,
  headers: Record<string, string> = {},
): Promise<Response> =>
  fetch(`${url}/v2/${name}/manifests/${reference}`, {
    method: 'PUT',
    body: bytesOf(body),
    headers: { 'content-type': MEDIA_TYPES.ociManifest, ...headers },
  });

/** Blobs and manifest; resolves with the manifest's digest. */
export async function pushManifest(
  url: string,
  name: string,
  reference: string,
  parts: ManifestParts,
): Promise<string> {
  for (const blob of [parts.config, ...parts.layers]) await pushBlob(url, name, blob);
  const body = manifestOf(parts);
  const answer = await putManifest(url, name, reference, body);
  if (answer.status !== 201) throw new Error(`push of ${name}:${reference}: ${answer.status} ${await answer.text()}`);
  return digestOf(body);
}

export const codesOf = async (answer: Response): Promise<string[]> =>
  ((await answer.json()) as { errors: { code: string }[] }).errors.map(({ code }) => code);
