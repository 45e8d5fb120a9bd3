/**
 * Files of the client as an archive. It first names all entries, then sends the content of those that it is asked for,
 * several at once; the archive has one behind the other.
 */
import { create } from '@bufbuild/protobuf';
import { CaissonError } from '../../errdefs.ts';
import { Outbox } from './outbox.ts';
import { FileSync, type Packet, PacketSchema, type Stat } from './proto/filesync_pb.ts';
import { Upload } from './proto/upload_pb.ts';
import { listHeader, type Session } from './session.ts';
import { END_OF_ARCHIVE, entryHead, isHardlink, isRegular, padding } from './tarEntry.ts';

/** Packet.type. */
export const PACKET = { stat: 0, request: 1, data: 2, finish: 3, error: 4 } as const;

export interface FilesWanted {
  /** Which of the client's directories. */
  name: string;
  /** These and what is below them, symlinks followed; all when absent. */
  paths?: readonly string[];
  /** Lines of `.dockerignore`. */
  excludes?: readonly string[];
}

/** So much may wait for its turn, of files that were asked for ahead. */
const AHEAD_BYTES = 8 << 20;
const AHEAD_FILES = 256;

/** `received`: bytes so far. */
export async function* receiveFiles(
  session: Session,
  { name, paths, excludes }: FilesWanted,
  signal: AbortSignal,
  received: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  const headers = new Headers({ 'dir-name': name });
  if (paths !== undefined) headers.set('followpaths', listHeader(paths));
  if (excludes !== undefined && excludes.length > 0) headers.set('exclude-patterns', listHeader(excludes));
  const outbox = new Outbox<Packet>();
  const ended = AbortSignal.any([signal, session.ended]);
  const packets = session.client(FileSync).diffCopy(outbox, { headers, signal: ended })[Symbol.asyncIterator]();
  const next = async (): Promise<Packet> => {
    const { value, done } = await packets.next();
    if (done === true) throw new CaissonError('Unavailable', `the client broke off sending ${name}`);
    if (value.type === PACKET.error)
      throw new CaissonError('InvalidParameter', `the client cannot send ${name}: ${Buffer.from(value.data)}`);
    return value;
  };
  try {
    const entries = await entriesOf(next);
    const contents = new Contents(entries, outbox, next);
    let total = 0;
    for (const [id, stat] of entries.entries()) {
      yield entryHead(stat);
      if (!hasContent(stat)) continue;
      for await (const chunk of contents.of(id)) {
        total += chunk.length;
        received(total);
        yield chunk;
      }
      yield padding(Number(stat.size));
    }
    yield END_OF_ARCHIVE;
    outbox.put(create(PacketSchema, { type: PACKET.finish }));
    while ((await next()).type !== PACKET.finish);
  } finally {
    outbox.end();
    await packets.return?.();
  }
}

const hasContent = (stat: Stat): boolean => isRegular(stat) && !isHardlink(stat) && stat.size > 0n;

async function entriesOf(next: () => Promise<Packet>): Promise<Stat[]> {
  const entries: Stat[] = [];
  for (;;) {
    const { type, stat } = await next();
    if (type !== PACKET.stat) continue;
    if (stat === undefined) return entries;
    entries.push(stat);
  }
}

/** The contents in order, though they come mixed. */
class Contents {
  readonly #entries: readonly Stat[];
  readonly #outbox: Outbox<Packet>;
  readonly #next: () => Promise<Packet>;
  /** Of files whose turn has not come. */
  readonly #waiting = new Map<number, Buffer[]>();
  readonly #ended = new Set<number>();
  /** The next one to be asked for. */
  #asked = 0;

  constructor(entries: readonly Stat[], outbox: Outbox<Packet>, next: () => Promise<Packet>) {
    this.#entries = entries;
    this.#outbox = outbox;
    this.#next = next;
  }

  async *of(id: number): AsyncGenerator<Buffer> {
    this.#ask(id);
    const { path, size } = this.#entries[id] as Stat;
    let missing = Number(size);
    const take = (chunk: Buffer): Buffer => {
      missing -= chunk.length;
      if (missing < 0) throw changed(path);
      return chunk;
    };
    for (const chunk of this.#waiting.get(id) ?? []) yield take(chunk);
    this.#waiting.delete(id);
    while (!this.#ended.has(id)) {
      const { type, ID: from, data } = await this.#next();
      if (type !== PACKET.data) continue;
      if (data.length === 0) this.#ended.add(from);
      else if (from === id) yield take(Buffer.from(data));
      else this.#keep(from, Buffer.from(data));
    }
    this.#ended.delete(id);
    if (missing > 0) throw changed(path);
  }

  #keep(id: number, data: Buffer): void {
    const kept = this.#waiting.get(id);
    if (kept === undefined) this.#waiting.set(id, [data]);
    else kept.push(data);
  }

  /** This one, and as many behind it as may wait. */
  #ask(head: number): void {
    let bytes = 0;
    let files = 0;
    for (let id = head; id < this.#entries.length; id++) {
      const stat = this.#entries[id] as Stat;
      if (!hasContent(stat)) continue;
      bytes += id === head ? 0 : Number(stat.size);
      if (files > 0 && (bytes > AHEAD_BYTES || files > AHEAD_FILES)) return;
      files++;
      if (id < this.#asked) continue;
      this.#asked = id + 1;
      this.#outbox.put(create(PacketSchema, { type: PACKET.request, ID: id }));
    }
  }
}

const changed = (path: string): CaissonError =>
  new CaissonError('InvalidParameter', `${path} was changed while it was sent`, { hint: 'build again' });

/** A context that the client reads from a stream; `url` is what it calls it. */
export async function* receiveUpload(session: Session, url: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const headers = new Headers({ urlpath: new URL(url).pathname });
  const outbox = new Outbox<never>();
  outbox.end();
  const ended = AbortSignal.any([signal, session.ended]);
  for await (const { data } of session.client(Upload).pull(outbox, { headers, signal: ended }))
    if (data.length > 0) yield Buffer.from(data);
}
