/** Manifests and blobs of upstreams. */
import type { OutgoingHttpHeaders } from 'node:http';
import { sendBlob, unknownBlob } from './blobRoutes.ts';
import { asUpstreamError } from './errors.ts';
import type { Exchange } from './exchange.ts';
import { getManifest } from './manifestRoutes.ts';
import type { Registry } from './registry.ts';
import type { ByteSource } from './storage.ts';
import type { Mirrored, Upstreams } from './upstream.ts';

const headersOf = ({ query }: Exchange): OutgoingHttpHeaders => {
  const namespace = query.get('ns');
  return namespace === null ? {} : { 'OCI-Namespace': namespace };
};

export async function getMirroredManifest(
  registry: Registry,
  upstreams: Upstreams,
  exchange: Exchange,
  target: Mirrored,
  reference: string,
): Promise<void> {
  const headers = headersOf(exchange);
  if (!(await upstreams.manifest(target, reference))) headers['Warning'] = '110 - "Response is Stale"';
  getManifest(registry, exchange, target.name, reference, headers);
}

export async function getMirroredBlob(
  registry: Registry,
  upstreams: Upstreams,
  exchange: Exchange,
  target: Mirrored,
  digest: string,
): Promise<void> {
  const headers = headersOf(exchange);
  const { blobs, storage } = registry;
  const here = blobs.size(target.name, digest);
  if (here !== undefined) return sendBlob(exchange, digest, here, () => storage.open(digest), headers);
  const expected = blobs.expectedSize(target.name, digest);
  if (expected === undefined) throw unknownBlob(target.name, digest);
  const open = async (): Promise<ByteSource> => {
    const download = upstreams.blob(target, digest);
    if (download === undefined) throw unknownBlob(target.name, digest);
    // A small one is waited for: then its failure is an answer, not a cut connection.
    if (expected <= WAITED_BYTES) {
      await download.done.catch((error: unknown) => {
        throw asUpstreamError(error, target, digest);
      });
      return storage.open(digest);
    }
    return download.open();
  };
  await sendBlob(exchange, digest, expected, open, headers);
}

const WAITED_BYTES = 256 * 1024;
