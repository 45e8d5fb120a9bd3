/**
 * Uploads: a session for each, which outlives the connection and the process. The running hash is kept in memory beside
 * the offset that it stands for; a session that this process has not seen from its beginning is hashed from its file.
 */
import type { Hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Shared } from '../../async.ts';
import { crypto } from '../../late.ts';
import { RegistryError } from './errors.ts';
import type { Blobs } from './metadata/blobs.ts';
import type { RegistryDatabase } from './metadata/database.ts';
import type { UploadRow, UploadSessions } from './metadata/uploads.ts';
import type { Pins } from './pins.ts';
import type { BlobStorage } from './storage.ts';

export interface Chunk {
  range: ChunkRange | undefined;
  /** No more is to come: it is made to survive a power cut right away. */
  last?: boolean;
}

/** First and last byte of a chunk. */
export interface ChunkRange {
  start: number;
  end: number;
}

interface Live {
  hash: Hash | undefined;
  offset: number;
  /** Beyond `offset` while a request is being received: what a client is told that asks. */
  received: number;
  /** Ends what an earlier request is still sending; resolves when it has ended. */
  interrupt: (() => Promise<void>) | undefined;
}

export interface UploadsOptions {
  db: RegistryDatabase;
  storage: BlobStorage;
  sessions: UploadSessions;
  blobs: Blobs;
  pins: Pins;
}

const algorithmOf = (digest: string): string => digest.slice(0, digest.indexOf(':'));

export class Uploads {
  readonly #db: RegistryDatabase;
  readonly #storage: BlobStorage;
  readonly #sessions: UploadSessions;
  readonly #blobs: Blobs;
  readonly #pins: Pins;
  readonly #live = new Map<string, Live>();
  readonly #finishing = new Shared<void>();

  constructor({ db, storage, sessions, blobs, pins }: UploadsOptions) {
    this.#db = db;
    this.#storage = storage;
    this.#sessions = sessions;
    this.#blobs = blobs;
    this.#pins = pins;
  }

  /** Number of those that are being received at the moment. */
  get active(): number {
    return [...this.#live.values()].filter(({ interrupt }) => interrupt !== undefined).length;
  }

  start(repository: string, algorithm: string): string {
    const id = crypto().randomUUID();
    this.#sessions.add({ id, repository, algorithm, startedMs: Date.now() });
    this.#live.set(id, { hash: crypto().createHash(algorithm), offset: 0, received: 0, interrupt: undefined });
    return id;
  }

  /** Bytes received so far. */
  async offset(repository: string, id: string): Promise<number> {
    this.#session(repository, id);
    return (await this.#state(id)).received;
  }

  /**
   * Takes bytes up; resolves with the new offset. A request that is still sending to this session has lost its client: it
   * is ended first. With a range the chunk must begin where the upload stands (416) and be as long as it says.
   */
  async append(repository: string, id: string, body: Readable, { range, last = false }: Chunk): Promise<number> {
    const { algorithm } = this.#session(repository, id);
    const live = await this.#state(id);
    const before = live.offset;
    const interrupted = live.interrupt !== undefined;
    while (live.interrupt !== undefined) await live.interrupt();
    // The client was told less than had come by the time its old request was ended.
    if (interrupted && range !== undefined && range.start >= before && range.start < live.offset) {
      live.offset = range.start;
      live.hash = undefined;
    }
    if (range !== undefined && range.start !== live.offset)
      throw new RegistryError(
        'BLOB_UPLOAD_INVALID',
        `the upload stands at ${live.offset}, the chunk begins at ${range.start}`,
        {
          status: 416,
          headers: { Range: rangeOf(live.offset) },
        },
      );
    const limit = range === undefined ? Infinity : range.end - range.start + 1;
    const receiving = this.#receive(id, live, algorithm, body, limit, last);
    live.interrupt = async () => {
      body.destroy(new RegistryError('BLOB_UPLOAD_INVALID', 'another request continues this upload'));
      await receiving.catch(() => undefined);
    };
    try {
      await receiving;
    } finally {
      live.interrupt = undefined;
    }
    return live.offset;
  }

  /**
   * The upload is whole, its last bytes appended as such: its digest is checked, and the repository shows the blob, also
   * after a power cut. A client that asks again shares the answer.
   */
  finish(repository: string, id: string, digest: string): Promise<void> {
    return this.#finishing.run(`${id} ${digest}`, () => this.#finish(repository, id, digest));
  }

  async #finish(repository: string, id: string, digest: string): Promise<void> {
    const { algorithm } = this.#session(repository, id);
    const live = await this.#state(id);
    while (live.interrupt !== undefined) await live.interrupt();
    const found =
      live.hash !== undefined && algorithm === algorithmOf(digest)
        ? live.hash.copy().digest('hex')
        : (await this.#hashFile(id, algorithmOf(digest), live.offset)).digest('hex');
    if (`${algorithmOf(digest)}:${found}` !== digest) {
      await this.#forget(id);
      throw new RegistryError(
        'DIGEST_INVALID',
        `the bytes that came have the digest ${algorithmOf(digest)}:${found}, not ${digest}`,
      );
    }
    await this.#pins.hold(digest, async () => {
      if (this.#blobs.isKnown(digest)) await this.#storage.removeUpload(id);
      else await this.#storage.commit(id, digest);
      this.#live.delete(id);
      this.#db.transaction(() => {
        this.#blobs.add(repository, digest, live.offset, Date.now());
        this.#sessions.delete(id);
      });
    });
    await this.#db.durable();
  }

  async cancel(repository: string, id: string): Promise<void> {
    this.#session(repository, id);
    await this.#live.get(id)?.interrupt?.();
    await this.#forget(id);
  }

  /** Ends sessions that nothing has been written to since then, and files of no session. Returns how many. */
  async expire(beforeMs: number): Promise<number> {
    let expired = 0;
    for await (const { id, modifiedMs } of this.#storage.uploads()) {
      const busy = this.#live.get(id)?.interrupt !== undefined;
      if (busy || modifiedMs >= beforeMs) continue;
      await this.#forget(id);
      expired++;
    }
    for (const { id, startedMs } of this.#sessions.all()) {
      const busy = this.#live.get(id)?.interrupt !== undefined;
      if (busy || startedMs >= beforeMs || (await this.#storage.uploadSize(id)) !== undefined) continue;
      await this.#forget(id);
      expired++;
    }
    return expired;
  }

  #session(repository: string, id: string): UploadRow {
    const found = this.#sessions.get(id);
    if (found === undefined || found.repository !== repository)
      throw new RegistryError('BLOB_UPLOAD_UNKNOWN', `there is no upload ${id.slice(0, 40)} in ${repository}`);
    return found;
  }

  async #state(id: string): Promise<Live> {
    const known = this.#live.get(id);
    if (known !== undefined) return known;
    const offset = (await this.#storage.uploadSize(id)) ?? 0;
    const again = this.#live.get(id);
    if (again !== undefined) return again;
    const live: Live = { hash: undefined, offset, received: offset, interrupt: undefined };
    this.#live.set(id, live);
    return live;
  }

  /** What came before a failure stays, for the client to go on from. */
  async #receive(
    id: string,
    live: Live,
    algorithm: string,
    body: Readable,
    limit: number,
    last: boolean,
  ): Promise<void> {
    const start = live.offset;
    const hash = live.hash ?? (await this.#hashFile(id, algorithm, start));
    live.hash = undefined;
    const writer = await this.#storage.writeUpload(id, start);
    let offset = start;
    let failure: unknown;
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        if (offset + chunk.length - start > limit)
          throw new RegistryError('SIZE_INVALID', `more bytes came than the range of ${limit} bytes holds`);
        hash.update(chunk);
        offset += chunk.length;
        live.received = offset;
        await writer.write(chunk);
      }
      if (limit !== Infinity && offset - start !== limit)
        throw new RegistryError('SIZE_INVALID', `${offset - start} bytes came, but the range holds ${limit}`);
    } catch (error) {
      failure = error;
    }
    try {
      await writer.close(last && failure === undefined);
    } catch (error) {
      // How much of it is on the disk is unknown: none of this request counts.
      live.received = start;
      // And a full disk must not stay full of it.
      const dropped = this.#storage.writeUpload(id, start).then((again) => again.close());
      await dropped.catch(() => undefined);
      throw new RegistryError('UNAVAILABLE', 'the registry cannot store the upload', { status: 507, cause: error });
    }
    live.offset = offset;
    live.received = offset;
    live.hash = hash;
    if (failure !== undefined) throw failure;
  }

  async #hashFile(id: string, algorithm: string, length: number): Promise<Hash> {
    const hash = crypto().createHash(algorithm);
    await pipeline(this.#storage.readUpload(id, 0, length), async (source: AsyncIterable<Buffer>) => {
      for await (const chunk of source) hash.update(chunk);
    });
    return hash;
  }

  async #forget(id: string): Promise<void> {
    this.#live.delete(id);
    await this.#storage.removeUpload(id);
    this.#sessions.delete(id);
  }
}

/** As Docker writes it; an empty upload is `0-0` too, since the header knows no empty range. */
export const rangeOf = (offset: number): string => `0-${Math.max(0, offset - 1)}`;

/** Whether a body is to be expected. */
export const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
