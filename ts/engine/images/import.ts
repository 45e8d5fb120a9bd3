/** `docker import`: the tar of a root file system becomes an image of one layer. */
import { sha256Of } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { Graph } from '../../graph/graph.ts';
import type { ImageConfig, Platform } from '../../oci.ts';
import { familiarString, type Reference, withDefaultTag } from '../../reference.ts';
import { checkConfig } from './config.ts';
import type { Installer } from './install.ts';
import { applyChanges } from './instructions.ts';
import { referenceRow } from './names.ts';
import type { LayerUnpacker } from './unpack.ts';

export interface ImportRequest {
  stream: AsyncIterable<Buffer>;
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
          history: [{ created, comment: request.message || 'Imported from -' }],
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
  graph.events.append({ type: 'image', action: 'import', actorId: id, attributes: { name } });
}
