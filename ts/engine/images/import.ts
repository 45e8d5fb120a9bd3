/** `docker import`: the tar of a root file system becomes an image of one layer. */
import { sha256Of } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageConfig, Platform } from '../../oci.ts';
import { familiarString, type Reference, withDefaultTag } from '../../reference.ts';
import type { RegistryClient } from '../../registry/client/client.ts';
import { checkConfig } from './config.ts';
import { imageEvent } from './events.ts';
import type { Installer } from './install.ts';
import { applyChanges } from './instructions.ts';
import { referenceRow } from './names.ts';
import { type Emit, TransferProgress } from './progress.ts';
import type { LayerUnpacker } from './unpack.ts';

export interface ImportRequest {
  stream: AsyncIterable<Uint8Array>;
  /** As the image's history names it: `-` for the request's body, or a URL. */
  source: string;
  /** Absent: an image without a name. */
  reference: Reference | undefined;
  message: string;
  changes: string[];
  platform: Platform;
}

/** Resolves with the image's id. */
export async function importImage(
  { graph, installer, unpacker }: { graph: Graph; installer: Installer; unpacker: LayerUnpacker },
  request: ImportRequest,
  signal: AbortSignal,
): Promise<string> {
  if (request.platform.os !== 'linux')
    throw new CaissonError('InvalidParameter', `${request.platform.os}: operating system is not supported`);
  const run = applyChanges({}, request.changes);
  let id = '';
  await installer.run(
    {
      subject: request.reference === undefined ? 'an imported image' : familiarString(request.reference),
      prepare: async (lease, aborted) => {
        const unpacked = await unpacker.unpack(request.stream, { keep: 'withoutRecipe' }, aborted);
        const { diffId } = unpacked.applied;
        graph.leases.add(lease, 'layer', diffId);
        await unpacker.commit(unpacked, { chainId: diffId, parent: null }, lease);
        const created = new Date().toISOString();
        const config: ImageConfig = {
          created,
          architecture: request.platform.architecture,
          os: request.platform.os,
          ...(request.platform.variant === undefined ? {} : { variant: request.platform.variant }),
          config: run,
          rootfs: { type: 'layers', diff_ids: [diffId] },
          history: [{ created, comment: request.message || `Imported from ${request.source}` }],
        };
        const text = JSON.stringify(config);
        checkConfig(Buffer.from(text));
        id = sha256Of(text);
        return () => write(graph, id, text, diffId, request.reference);
      },
    },
    signal,
  );
  return id;
}

/** The file of a URL, of which the scheme may be left out. Kind InvalidParameter when it is none. */
export async function openSource(
  source: string,
  remote: RegistryClient,
  emit: Emit,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const text = source.includes('://') ? source : `http://${source}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol))
    throw new CaissonError('InvalidParameter', `cannot import from ${source}: it is no http or https URL`, {
      hint: 'give the URL of a tar archive, or - and the archive itself',
    });
  const { sizeBytes, bytes } = await remote.openFile(url, signal);
  emit({ status: `Downloading from ${text}` });
  return followed(bytes, new TransferProgress(emit, '', sizeBytes, 'Importing'));
}

async function* followed(bytes: AsyncIterable<Uint8Array>, progress: TransferProgress): AsyncGenerator<Uint8Array> {
  for await (const chunk of bytes) {
    progress.moved(chunk.byteLength);
    yield chunk;
  }
  progress.line('Importing');
}

function write(graph: Graph, id: string, config: string, diffId: string, reference: Reference | undefined): void {
  const now = Date.now();
  graph.images.insert({
    image: {
      id,
      config,
      manifestDigest: null,
      sizeBytes: graph.layers.get(diffId)?.sizeBytes ?? 0,
      parent: null,
      createdMs: now,
      taggedMs: null,
    },
    layers: [diffId],
    blobs: [],
  });
  if (reference !== undefined) graph.images.setReference(referenceRow(reference, id), now);
  const name = reference === undefined ? id : familiarString(withDefaultTag(reference));
  imageEvent(graph, 'import', id, name);
}
