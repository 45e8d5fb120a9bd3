/** An image's files to the client: as one archive, or as a directory that it fills. */
import type { Readable } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { Parser, type ReadEntry } from 'tar';
import { cleaned } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import { Outbox } from './outbox.ts';
import { FileSend, type Packet, PacketSchema } from './proto/filesync_pb.ts';
import { type BytesMessage, BytesMessageSchema } from './proto/upload_pb.ts';
import { PACKET } from './receive.ts';
import type { Session } from './session.ts';
import { goMode } from './tarEntry.ts';

/** Opens the archive; more than once. */
type Open = () => Readable;

const MAX_WAITING = 64;

const exporterHeader = (exporter: number): Headers =>
  new Headers({ 'buildkit-attachable-exporter-id': String(exporter) });

export async function sendArchive(
  session: Session,
  exporter: number,
  open: Open,
  sent: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  // the same call as for a directory, with bare bytes in place of packets
  const method = { ...FileSend.method.diffCopy, input: BytesMessageSchema, output: BytesMessageSchema };
  const outbox = new Outbox<BytesMessage>();
  const answers = session.transport.stream(
    method as never,
    AbortSignal.any([signal, session.ended]),
    undefined,
    exporterHeader(exporter),
    outbox,
  );
  const written = (async () => {
    for await (const data of open() as AsyncIterable<Buffer>) {
      outbox.put(create(BytesMessageSchema, { data }));
      sent(data.length);
      await outbox.drained(MAX_WAITING);
    }
    outbox.end();
  })();
  for await (const _ of (await answers).message);
  await written;
}

/** First all entries are named, then the contents of those sent that the client asks for. */
export async function sendDirectory(
  session: Session,
  exporter: number,
  open: Open,
  sent: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const outbox = new Outbox<Packet>();
  const headers = exporterHeader(exporter);
  const ended = AbortSignal.any([signal, session.ended]);
  const asked = new Asked();
  const packets = session.client(FileSend).diffCopy(outbox, { headers, signal: ended });
  const listening = (async () => {
    try {
      for await (const { type, ID: id, data } of packets) {
        if (type === PACKET.request) asked.add(id);
        else if (type === PACKET.error)
          throw new CaissonError('InvalidParameter', `the client cannot take the files: ${Buffer.from(data)}`);
        else if (type === PACKET.finish) outbox.put(create(PacketSchema, { type: PACKET.finish }));
        if (type === PACKET.finish) outbox.end();
      }
    } finally {
      asked.end();
    }
  })();
  listening.catch(() => undefined);
  await eachEntry(open(), async (entry) => {
    outbox.put(create(PacketSchema, { type: PACKET.stat, stat: statOf(entry) }));
    entry.resume();
    await outbox.drained(MAX_WAITING);
  });
  outbox.put(create(PacketSchema, { type: PACKET.stat }));
  // as what is asked for need not come in order, the archive may have to be read again
  while (await asked.some()) {
    let id = -1;
    await eachEntry(open(), async (entry) => {
      if (!asked.take(++id)) {
        entry.resume();
        return;
      }
      for await (const data of entry as unknown as AsyncIterable<Buffer>) {
        outbox.put(create(PacketSchema, { type: PACKET.data, ID: id, data }));
        sent(data.length);
        await outbox.drained(MAX_WAITING);
      }
      outbox.put(create(PacketSchema, { type: PACKET.data, ID: id }));
    });
  }
  await listening;
}

/** The entries, without that of the root, one after the other. */
async function eachEntry(archive: Readable, use: (entry: ReadEntry) => Promise<void>): Promise<void> {
  const parser = new Parser({ strict: true });
  let last: Promise<void> = Promise.resolve();
  parser.on('entry', (entry: ReadEntry) => {
    if (cleaned(entry.path) === '') entry.resume();
    else last = last.then(() => use(entry));
    last.catch((error: Error) => archive.destroy(error));
  });
  const ended = new Promise<void>((resolve, reject) => {
    parser.on('end', resolve);
    parser.on('error', reject);
  });
  for await (const chunk of archive as AsyncIterable<Buffer>)
    if (!parser.write(chunk)) await new Promise((resolve) => parser.once('drain', resolve));
  parser.end();
  await ended;
  await last;
}

function statOf(entry: ReadEntry): Partial<Omit<NonNullable<Packet['stat']>, '$typeName'>> & { path: string } {
  const { type, mode = 0, uid = 0, gid = 0, size = 0, mtime, linkpath = '' } = entry;
  return {
    path: cleaned(entry.path),
    mode: goMode(type, mode),
    uid,
    gid,
    size: type === 'File' ? BigInt(size) : 0n,
    modTime: BigInt(mtime?.getTime() ?? 0) * 1_000_000n,
    linkname: type === 'Link' ? cleaned(linkpath) : linkpath,
    devmajor: BigInt(entry.header?.devmaj ?? 0),
    devminor: BigInt(entry.header?.devmin ?? 0),
  };
}

/** Numbers of entries whose content is asked for. */
class Asked {
  readonly #ids = new Set<number>();
  #isEnded = false;
  #wake: () => void = () => undefined;

  add(id: number): void {
    this.#ids.add(id);
    this.#wake();
  }

  take(id: number): boolean {
    return this.#ids.delete(id);
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  /** Waits; false when there will be none any more. */
  async some(): Promise<boolean> {
    while (this.#ids.size === 0 && !this.#isEnded)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#ids.size > 0;
  }
}
