/** What becomes of a build's image: an image with names, or files for the client. */
import type { Readable } from 'node:stream';
import { CaissonError } from '../../errdefs.ts';
import { parseReference } from '../../reference.ts';
import type { Builds } from '../builder/builds.ts';
import { archiveOf, imageView } from '../builder/view.ts';
import type { Engine } from '../engine.ts';
import type { UsableImage } from '../images/names.ts';
import type { Exporter } from './proto/control_pb.ts';
import { sendArchive, sendDirectory } from './send.ts';
import type { Session } from './session.ts';
import type { StatusLog } from './status.ts';

export interface ExportParts {
  engine: Engine;
  builds: Builds;
  /** For what is in the making; the caller's to remove. */
  dir: string;
  session: () => Promise<Session>;
  status: StatusLog;
  signal: AbortSignal;
}

type Attributes = Readonly<Record<string, string>>;

/** Resolves with what the client is told of it. */
export async function exportImage(
  parts: ExportParts,
  exporters: readonly Pick<Exporter, 'Type' | 'Attrs'>[],
  image: UsableImage | null,
): Promise<Record<string, string>> {
  const told: Record<string, string> = {};
  for (const [at, { Type: type, Attrs: attrs }] of exporters.entries()) {
    if (type === 'moby' || type === 'image') Object.assign(told, await asImage(parts, attrs, image));
    else if (type === 'local' || type === 'tar') await asFiles(parts, type, at, image);
    else
      throw new CaissonError('NotImplemented', `exporter ${type} is not supported by caisson`, {
        hint: 'type=image, local and tar are; docker save writes archives of images',
      });
  }
  return told;
}

async function asImage(
  { builds, engine, status }: ExportParts,
  attrs: Attributes,
  image: UsableImage | null,
): Promise<Record<string, string>> {
  if (image === null) throw new CaissonError('InvalidParameter', 'No image was generated. Is your Dockerfile empty?');
  return status.vertex('exporting to image').during(async (vertex) => {
    vertex.part(`writing image ${image.id}`, 0, 0, true);
    engine.images.buildSteps.show(image.id);
    const names = (attrs['name'] ?? '').split(',').filter((name) => name !== '');
    for (const name of await builds.tag(image.id, names.map(parseReference)))
      vertex.part(`naming to ${name}`, 0, 0, true);
    await engine.images.keepBudget();
    const id = { 'containerimage.config.digest': image.id, 'containerimage.digest': image.id };
    return names.length > 0 ? { ...id, 'image.name': names.join(',') } : id;
  });
}

async function asFiles(
  { engine, dir, session, status, signal }: ExportParts,
  type: 'local' | 'tar',
  exporter: number,
  image: UsableImage | null,
): Promise<void> {
  await status.vertex(`exporting to client ${type === 'tar' ? 'tarball' : 'directory'}`).during(async (vertex) => {
    const { native } = engine;
    const view = { overlay: await imageView(engine, dir, image?.chainId ?? null) };
    const archive = (): Readable => archiveOf(native, view, '/', '');
    let bytes = 0;
    const sent = (count: number): void => {
      bytes += count;
      vertex.part('copying files', bytes, 0, false);
    };
    const send = type === 'tar' ? sendArchive : sendDirectory;
    await send(await session(), exporter, archive, sent, signal);
    vertex.part('copying files', bytes, 0, true);
  });
}
