/** The client's directories: few files of one, or all of it but for what an earlier build has. */
import { join } from 'node:path';
import { ignoreRules } from '../../dockerignore.ts';
import type { Builds } from '../builder/builds.ts';
import { BuildContext } from '../builder/context.ts';
import type { KeptContext } from '../builder/keptContexts.ts';
import type { Engine } from '../engine.ts';
import type { Attributes } from './attributes.ts';
import { compare, type FilesWanted, receiveFiles } from './receive.ts';
import type { Session } from './session.ts';
import type { StatusLog, Vertex } from './status.ts';

export interface ClientFilesParts {
  engine: Engine;
  builds: Builds;
  /** For what is in the making; the caller's to remove. */
  dir: string;
  /** Rejects when the client has none. `id`: of another one than the build's. */
  session: (id?: string) => Promise<Session>;
  status: StatusLog;
  /** Filled with what stages begin with: ids by whole names. */
  images: Map<string, string>;
  signal: AbortSignal;
}

export class ClientFiles {
  readonly #parts: ClientFilesParts;
  readonly #attrs: Attributes;
  /** Directories that this build works with. */
  readonly #held: { key: string; kept: KeptContext; isWhole: boolean }[] = [];

  constructor(parts: ClientFilesParts, attrs: Attributes) {
    this.#parts = parts;
    this.#attrs = attrs;
  }

  /** The build is done. */
  async release(): Promise<void> {
    for (const { key, kept, isWhole } of this.#held) await this.#parts.builds.contexts.release(key, kept, isWhole);
  }

  /** The rules of `.dockerignore`. */
  async ignored(name: string): Promise<string[]> {
    const vertex = this.#parts.status.vertex('[internal] load .dockerignore');
    const files = await vertex.during(() =>
      this.some(`ignore-${name.replaceAll('/', '_')}`, { name, paths: ['.dockerignore'] }, vertex),
    );
    return ignoreRules(files.text('.dockerignore') ?? '');
  }

  /** Few files, which come anew each time. */
  async some(place: string, wanted: FilesWanted, vertex: Vertex): Promise<BuildContext> {
    const { engine, dir, signal } = this.#parts;
    const progress = new Transfer(vertex, 'dockerfile');
    const context = await receiveFiles(
      await this.#sessionOf(wanted.name),
      wanted,
      signal,
      (bytes) => progress.reached(bytes),
      (entries, archiveOf) => BuildContext.receive(engine.native, join(dir, place), archiveOf([...entries.keys()])),
    );
    progress.ended();
    return context;
  }

  /** A directory of the client, of which an earlier build may have most. */
  async directory(wanted: FilesWanted, vertex: Vertex, shown = 'context'): Promise<BuildContext> {
    const { engine, builds, signal } = this.#parts;
    const session = await this.#sessionOf(wanted.name);
    const key = JSON.stringify([session.sharedKey, wanted]);
    const kept = await builds.contexts.take(key);
    const held = { key, kept, isWhole: false };
    this.#held.push(held);
    const progress = new Transfer(vertex, shown);
    await receiveFiles(
      session,
      wanted,
      signal,
      (bytes) => progress.reached(bytes),
      async (entries, archiveOf) => {
        const { changed, removed, stamps } = compare(kept.stamps, entries);
        for (const path of removed) await kept.context.remove(path);
        await kept.context.add(engine.native, archiveOf(changed));
        kept.stamps = stamps;
      },
    );
    held.isWhole = true;
    progress.ended();
    return kept.context;
  }

  /** Whose directory of the name it is. */
  #sessionOf(name: string): Promise<Session> {
    return this.#parts.session(this.#attrs[`local-sessionid:${name}`]);
  }
}

const INTERVAL_MS = 100;

/** How much of a transfer has come, told now and then. */
class Transfer {
  readonly #vertex: Vertex;
  readonly #name: string;
  #bytes = 0;
  #toldMs = 0;

  constructor(vertex: Vertex, what: string) {
    this.#vertex = vertex;
    this.#name = `transferring ${what}:`;
  }

  reached(bytes: number): void {
    this.#bytes = bytes;
    if (performance.now() - this.#toldMs < INTERVAL_MS) return;
    this.#toldMs = performance.now();
    this.#vertex.part(this.#name, bytes, 0, false);
  }

  ended(): void {
    this.#vertex.part(this.#name, this.#bytes, 0, true);
  }
}
