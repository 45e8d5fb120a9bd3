/** Records of builds: what was asked, how it went, and all that it told (`buildx history`). Kept in the graph once a build is over. */
import { EventEmitter, on } from 'node:events';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampDate, timestampNow } from '@bufbuild/protobuf/wkt';
import { sha256Of } from '../../digest.ts';
import { CaissonError } from '../../errdefs.ts';
import type { BuildBlob, BuildRecordRow, BuildRecordStore } from '../../graph/buildRecords.ts';
import type { Logger } from '../../log.ts';
import type { BuilderSettings } from '../builder/gc.ts';
import { statusOf } from './errors.ts';
import {
  type BuildHistoryEvent,
  BuildHistoryEventSchema,
  type BuildHistoryRecord,
  BuildHistoryRecordSchema,
  type BuildHistoryRequest,
  BuildResultInfoSchema,
  type Descriptor,
  DescriptorSchema,
  type StatusResponse,
  StatusResponseSchema,
  StatusSchema,
  type UpdateBuildHistoryRequest,
} from './proto/control_pb.ts';
import { type Material, PREDICATE_TYPE, provenanceOf } from './provenance.ts';
import type { Solve } from './solves.ts';

const [STARTED, COMPLETE, DELETED] = [0, 1, 2];
const LOG_TYPE = 'application/vnd.buildkit.status.v0';
const ERROR_TYPE = 'application/vnd.googeapis.google.rpc.status+proto';
const PROVENANCE_TYPE = 'application/vnd.in-toto+json';
/** However young. */
const MAX_RECORDS = 1000;

/** One build that is under way. */
class Recording {
  readonly #solve: Solve;
  readonly #record: BuildHistoryRecord;
  readonly #steps = new Map<string, { isDone: boolean; isCached: boolean }>();

  constructor(solve: Solve) {
    const { ref, exporters } = solve.request;
    this.#solve = solve;
    this.#record = create(BuildHistoryRecordSchema, {
      Ref: ref,
      Exporters: [...exporters],
      CreatedAt: timestampNow(),
      Generation: 1,
    });
    solve.status.observe((status) => this.#note(status));
  }

  /** As far as it is known by now. */
  get record(): BuildHistoryRecord {
    const { frontend = '', attrs = {} } = this.#solve.asked ?? {};
    this.#record.Frontend = frontend;
    this.#record.FrontendAttrs = { ...attrs };
    const steps = [...this.#steps.values()];
    this.#record.numTotalSteps = steps.length;
    this.#record.numCompletedSteps = steps.filter(({ isDone }) => isDone).length;
    this.#record.numCachedSteps = steps.filter(({ isCached }) => isCached).length;
    return this.#record;
  }

  /** All that it has told, each message behind its length. */
  get log(): Buffer {
    return Buffer.concat(
      this.#solve.status.kept.flatMap((message) => {
        const length = Buffer.alloc(4);
        length.writeUInt32LE(message.length);
        return [length, message];
      }),
    );
  }

  #note(status: StatusResponse): void {
    for (const { digest, completed, cached } of status.vertexes) {
      const before = this.#steps.get(digest);
      const isCached = cached || before?.isCached === true;
      this.#steps.set(digest, { isDone: completed !== undefined || before?.isDone === true, isCached });
    }
    this.#record.numWarnings += status.warnings.length;
  }
}

export class History {
  readonly #store: BuildRecordStore;
  readonly #log: Logger;
  readonly #limits: () => BuilderSettings['history'];
  readonly #underWay = new Map<string, Recording>();
  readonly #events = new EventEmitter<{ event: [BuildHistoryEvent] }>().setMaxListeners(0);

  constructor(store: BuildRecordStore, log: Logger, limits: () => BuilderSettings['history']) {
    this.#store = store;
    this.#log = log;
    this.#limits = limits;
  }

  /** Records a build as long as `use` goes on, and how it ends. `materials`: what it was made of, asked for then. */
  async during(
    solve: Solve,
    materials: () => readonly Material[],
    use: () => Promise<Record<string, string>>,
  ): Promise<Record<string, string>> {
    const { ref } = solve.request;
    const recording = new Recording(solve);
    this.#underWay.set(ref, recording);
    this.#tell(STARTED, recording.record);
    const blobs: BuildBlob[] = [];
    const blob = (type: string, data: Uint8Array, annotations: Record<string, string> = {}): Descriptor => {
      const digest = sha256Of(data);
      blobs.push({ digest, data });
      return create(DescriptorSchema, { mediaType: type, digest, size: BigInt(data.length), annotations });
    };
    const { record } = recording;
    try {
      const response = await use();
      record.ExporterResponse = response;
      return response;
    } catch (error) {
      const whole = statusOf(error);
      record.error = create(StatusSchema, { code: whole.code, message: whole.message });
      if (whole.details.length > 0) record.externalError = blob(ERROR_TYPE, toBinary(StatusSchema, whole));
      throw error;
    } finally {
      record.CompletedAt = timestampNow();
      record.logs = blob(LOG_TYPE, recording.log);
      const annotations = { 'in-toto.io/predicate-type': PREDICATE_TYPE };
      if (record.error === undefined) {
        const provenance = blob(PROVENANCE_TYPE, provenanceOf(recording.record, materials()), annotations);
        record.Result = create(BuildResultInfoSchema, { Attestations: [provenance] });
      }
      this.#underWay.delete(ref);
      try {
        this.#keep(recording.record, blobs);
      } catch (err) {
        // the build is what it is without
        this.#log.error({ err, build: ref }, 'the record of a build could not be kept');
      }
    }
  }

  /** What is there, and unless `EarlyExit` what comes. */
  async *listen(request: BuildHistoryRequest, signal: AbortSignal): AsyncGenerator<BuildHistoryEvent> {
    const { Ref: ref, ActiveOnly: isActiveOnly, EarlyExit: endsEarly, Filter: filter, Limit: limit } = request;
    const isMeant = ({ record }: BuildHistoryEvent): boolean => ref === '' || record?.Ref === ref;
    const coming = endsEarly ? undefined : on(this.#events, 'event', { signal });
    const under = [...this.#underWay.values()].map(({ record }) => eventOf(STARTED, record));
    const over = isActiveOnly ? [] : this.#store.all().map((row) => eventOf(COMPLETE, recordOf(row)));
    const found = [...under, ...over].filter(isMeant);
    try {
      // clients that filter by themselves would miss what the limit leaves out
      yield* limit > 0 && filter.length === 0 ? found.slice(0, limit) : found;
      for await (const [event] of (coming ?? []) as AsyncIterable<[BuildHistoryEvent]>)
        if (isMeant(event) && !(isActiveOnly && event.type === DELETED)) yield event;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      await coming?.return?.();
    }
  }

  update({ Ref: ref, Delete: isDeleted, Pinned: pinned, Finalize: isFinalized }: UpdateBuildHistoryRequest): void {
    // the trace of a build, which is none here
    if (isFinalized) return;
    const row = this.#store.get(ref);
    if (row === undefined) {
      if (isDeleted && this.#underWay.has(ref))
        throw new CaissonError('Conflict', `the build ${ref} is under way: it has no record to be deleted yet`);
      throw new CaissonError('NotFound', `no build record ${ref}`);
    }
    if (!isDeleted) this.#store.pin(ref, pinned);
    else {
      this.#store.delete(ref);
      this.#tell(DELETED, recordOf(row));
    }
  }

  /** All that a build told which is over; undefined when there is no record of it. */
  *log(ref: string): Generator<StatusResponse, void, void> {
    const row = this.#store.get(ref);
    const digest = row && recordOf(row).logs?.digest;
    const bytes = Buffer.from((digest && this.#store.blob(digest)) || []);
    for (let at = 0; at < bytes.length; ) {
      const end = at + 4 + bytes.readUInt32LE(at);
      yield fromBinary(StatusResponseSchema, bytes.subarray(at + 4, end));
      at = end;
    }
  }

  has(ref: string): boolean {
    return this.#store.get(ref) !== undefined;
  }

  /** Kind NotFound when no record refers to it. */
  blob(digest: string): Uint8Array {
    const data = this.#store.blob(digest);
    if (data === undefined) throw new CaissonError('NotFound', `content ${digest}: not found`);
    return data;
  }

  #keep(record: BuildHistoryRecord, blobs: readonly BuildBlob[]): void {
    const createdMs = record.CreatedAt === undefined ? Date.now() : timestampDate(record.CreatedAt).getTime();
    this.#store.insert({ ref: record.Ref, createdMs, record: toBinary(BuildHistoryRecordSchema, record) }, blobs);
    this.#tell(COMPLETE, record);
    const { maxAgeMs, maxEntries } = this.#limits();
    const unpinned = this.#store.all().filter(({ pinned }) => !pinned);
    for (const [at, row] of unpinned.entries()) {
      const isOld = Date.now() - row.createdMs > maxAgeMs;
      if (at < maxEntries || (at < MAX_RECORDS && !isOld)) continue;
      this.#store.delete(row.ref);
      this.#tell(DELETED, recordOf(row));
    }
  }

  #tell(type: number, record: BuildHistoryRecord): void {
    this.#events.emit('event', eventOf(type, record));
  }
}

const eventOf = (type: number, record: BuildHistoryRecord): BuildHistoryEvent =>
  create(BuildHistoryEventSchema, { type, record });

function recordOf({ record, pinned }: BuildRecordRow): BuildHistoryRecord {
  const decoded = fromBinary(BuildHistoryRecordSchema, record);
  decoded.pinned = pinned;
  return decoded;
}
