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
import { END_OF_ARCHIVE, entryHead, isHardlink, isRegular, kindOf, padding } from './tarEntry.ts';

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
/** Of what is told of an entry, beside its name: about. */
const STAT_BYTES = 32;

/** Of some of the entries, by their places in the list. Read to its end, the transfer is done. */
type ArchiveOf = (ids: readonly number[]) => AsyncGenerator<Buffer>;

/** `received`: bytes so far, about. */
export async function receiveFiles<T>(
  session: Session,
  { name, paths, excludes }: FilesWanted,
  signal: AbortSignal,
  received: (bytes: number) => void,
  take: (entries: readonly Stat[], archiveOf: ArchiveOf) => Promise<T>,
): Promise<T> {
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
    let total = entries.reduce((sum, { path }) => sum + STAT_BYTES + path.length, 0);
    received(total);
    const archiveOf = async function* (ids: readonly number[]): AsyncGenerator<Buffer> {
      const contents = new Contents(entries, ids, outbox, next);
      for (const id of ids) {
        const stat = entries[id] as Stat;
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
    };
    return await take(entries, archiveOf);
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
  /** Those that are wanted and have some, in order. */
  readonly #ids: readonly number[];
  readonly #outbox: Outbox<Packet>;
  readonly #next: () => Promise<Packet>;
  /** Of files whose turn has not come. */
  readonly #waiting = new Map<number, Buffer[]>();
  readonly #ended = new Set<number>();
  /** How many of them have been asked for, and are done. */
  #asked = 0;
  #done = 0;

  constructor(entries: readonly Stat[], ids: readonly number[], outbox: Outbox<Packet>, next: () => Promise<Packet>) {
    this.#entries = entries;
    this.#ids = ids.filter((id) => hasContent(entries[id] as Stat));
    this.#outbox = outbox;
    this.#next = next;
  }

  async *of(id: number): AsyncGenerator<Buffer> {
    this.#ask();
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
    this.#done++;
  }

  #keep(id: number, data: Buffer): void {
    const kept = this.#waiting.get(id);
    if (kept === undefined) this.#waiting.set(id, [data]);
    else kept.push(data);
  }

  /** The one whose turn it is, and as many behind it as may wait. */
  #ask(): void {
    let bytes = 0;
    for (let at = this.#done; at < this.#ids.length; at++) {
      const id = this.#ids[at] as number;
      if (at > this.#done) bytes += Number(this.#entries[id]?.size);
      if (at > this.#done && (bytes > AHEAD_BYTES || at - this.#done > AHEAD_FILES)) return;
      if (at < this.#asked) continue;
      this.#asked = at + 1;
      this.#outbox.put(create(PacketSchema, { type: PACKET.request, ID: id }));
    }
  }
}

const changed = (path: string): CaissonError =>
  new CaissonError('InvalidParameter', `${path} was changed while it was sent`, { hint: 'build again' });

/** What has to come again, by its place in the list, what is gone, and what all looks like now. */
export function compare(
  before: ReadonlyMap<string, string>,
  entries: readonly Stat[],
): { changed: number[]; removed: string[]; stamps: Map<string, string> } {
  const stamps = new Map(entries.map((stat) => [stat.path, stampOf(stat)]));
  const isChanged = (path: string): boolean => before.get(path) !== stamps.get(path);
  const changed = [...entries.entries()]
    // another name of a file goes with that
    .filter(([, stat]) => isChanged(stat.path) || (isHardlink(stat) && isChanged(stat.linkname)))
    .map(([id]) => id);
  const kind = (stamp: string | undefined): string => stamp?.split(' ')[0] ?? '';
  const removed = [...before.keys()].filter((path) => kind(before.get(path)) !== kind(stamps.get(path)));
  return { changed, removed, stamps };
}

/** A directory looks the same whatever is in it. */
function stampOf(stat: Stat): string {
  const { mode, uid, gid, size, modTime, linkname, xattrs } = stat;
  const content = isRegular(stat) ? `${size} ${modTime}` : '';
  const attributes = Object.entries(xattrs).map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`);
  return [kindOf(stat), mode, `${uid}:${gid}`, content, JSON.stringify(linkname), ...attributes].join(' ');
}

/** A context that the client reads from a stream; `url` is what it calls it. */
export async function* receiveUpload(session: Session, url: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const headers = new Headers({ urlpath: new URL(url).pathname });
  const outbox = new Outbox<never>();
  outbox.end();
  const ended = AbortSignal.any([signal, session.ended]);
  for await (const { data } of session.client(Upload).pull(outbox, { headers, signal: ended }))
    if (data.length > 0) yield Buffer.from(data);
}
