/** Takes a build's context and Dockerfile, whatever they come by, and carries it out. */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, stat, statfs } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import { familiarString, type Reference, withDefaultTag } from '../../reference.ts';
import type { Engine } from '../engine.ts';
import type { UsableImage } from '../images/names.ts';
import { type Emit, shortId } from '../images/progress.ts';
import { Build, type BuildInputs, type BuildOptions } from './builder.ts';
import { chosen, type PruneRequest } from './cacheFilter.ts';
import { ClassicReport } from './classicReport.ts';
import { BuildContext } from './context.ts';
import { type Dockerfile, parseDockerfile } from './dockerfile.ts';
import { Downloads, download } from './download.ts';
import { policiesOf } from './gc.ts';
import { type GitOptions, gitContext, gitSourceOf } from './git.ts';
import { KeptContexts } from './keptContexts.ts';
import type { BuildReport } from './report.ts';

export interface BuildRequest extends BuildOptions {
  tags: Reference[];
  /** The request's body: an archive, plain or compressed. */
  archive: AsyncIterable<Buffer>;
  /** In place of it: a URL of an archive or of a Dockerfile; '' for none. */
  remote: string;
  /** The Dockerfile's path in the context. */
  dockerfile: string;
}

/** Of what stands at a URL. */
const MAX_DOCKERFILE_BYTES = 1 << 20;
const COLLECT_AFTER_MS = 60_000;
const DEFAULT_NAME = 'Dockerfile';

export class Builds {
  readonly contexts: KeptContexts;
  readonly downloads = new Downloads();
  readonly #engine: Engine;
  #underWay = 0;
  #collection: NodeJS.Timeout | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
    this.contexts = new KeptContexts(engine);
  }

  /** Docker's classic builder. Resolves with the image's id. */
  async build(request: BuildRequest, emit: Emit, signal: AbortSignal): Promise<string> {
    return this.within(async (dir) => {
      const { dockerfile, context } = await receive(this.#engine, dir, request, signal);
      const { downloads } = this;
      const inputs = { dockerfile, dir, downloads, context: () => Promise.resolve(context) };
      const image = await this.carryOut(request, inputs, new ClassicReport(emit), signal);
      if (image === null)
        throw new CaissonError('InvalidParameter', 'No image was generated. Is your Dockerfile empty?');
      emit({ stream: `Successfully built ${shortId(image.id)}\n` });
      for (const name of await this.tag(image.id, request.tags)) emit({ stream: `Successfully tagged ${name}\n` });
      for (const name of await this.#engine.images.keepBudget())
        emit({ stream: `Removed for the storage budget: ${name}\n` });
      return image.id;
    });
  }

  /** Lends a directory as long as `use` goes on. */
  async within<T>(use: (dir: string) => Promise<T>): Promise<T> {
    const { native, paths } = this.#engine;
    const dir = join(paths.tmp, `build-${randomBytes(8).toString('hex')}`);
    this.#underWay++;
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      return await use(dir);
    } finally {
      this.#underWay--;
      await native.removeTree(dir);
      this.#collectSoon();
    }
  }

  /** Caches beyond what is to be kept go, some time after the last build. */
  #collectSoon(): void {
    if (!this.#engine.config.builder.gc) return;
    clearTimeout(this.#collection);
    this.#collection = setTimeout(() => {
      if (this.#underWay > 0) return;
      this.#collect().catch((error: unknown) => this.#engine.log.error({ err: error }, 'build caches not pruned'));
    }, COLLECT_AFTER_MS).unref();
  }

  async #collect(): Promise<void> {
    const { blocks, bsize } = await statfs(this.#engine.paths.dataRoot);
    await this.prune(...policiesOf(this.#engine.config.builder, blocks * bsize));
  }

  /** Resolves with the last stage's image; null when it has none. */
  carryOut(
    options: BuildOptions,
    inputs: BuildInputs,
    report: BuildReport,
    signal: AbortSignal,
  ): Promise<UsableImage | null> {
    return new Build(this.#engine, options, inputs, report, signal).run();
  }

  /** Resolves with the names as users see them. */
  async tag(id: string, tags: readonly Reference[]): Promise<string[]> {
    const names: string[] = [];
    for (const tag of tags.map(withDefaultTag)) {
      await this.#engine.images.tag(id, `${tag.domain}/${tag.path}`, tag.tag ?? '');
      names.push(familiarString(tag));
    }
    return names;
  }

  /** What builds keep for later ones: directories of `RUN --mount=type=cache`, and BuildKit's steps. The classic builder's are images, which `image prune` takes. */
  async caches(): Promise<BuildCache[]> {
    const { native, paths, images } = this.#engine;
    const caches: BuildCache[] = [];
    for (const id of await readdir(paths.buildCaches).catch(() => [])) {
      const place = join(paths.buildCaches, id);
      const { birthtime, mtime } = await stat(place);
      const bytes = await native.treeSize(place);
      const inUse = this.#underWay > 0;
      caches.push({
        id,
        type: 'exec.cachemount',
        description: 'cached mount',
        bytes,
        created: birthtime,
        used: mtime,
        inUse,
      });
    }
    for (const { id, bytes, createdMs, createdBy } of images.buildSteps.cache()) {
      const created = new Date(createdMs);
      caches.push({ id, type: 'regular', description: createdBy, bytes, created, used: created, inUse: false });
    }
    for (const { id, dir, used, inUse } of this.contexts.all()) {
      const bytes = await native.treeSize(dir);
      caches.push({
        id,
        type: 'source.local',
        description: 'local source for context',
        bytes,
        created: used,
        used,
        inUse,
      });
    }
    return caches;
  }

  /** Removes what is asked for, by one request after the other, but for mounts that a build may be using and steps that an image is made of. */
  async prune(...requests: PruneRequest[]): Promise<{ caches: BuildCache[]; bytes: number }> {
    const { native, paths, images } = this.#engine;
    const { bavail, bsize } = await statfs(paths.dataRoot);
    const found: BuildCache[] = [];
    let free = bavail * bsize;
    // sizes are walked for once, whatever the number of requests
    let left = await this.caches();
    for (const request of requests) {
      const taken = new Set(chosen(left, request, free));
      left = left.filter((cache) => !taken.has(cache));
      for (const cache of taken) free += cache.bytes;
      found.push(...taken);
    }
    const mounts = found.filter(({ type }) => type === 'exec.cachemount');
    for (const { id } of mounts) await native.removeTree(join(paths.buildCaches, id));
    const contexts = found.filter(({ type }) => type === 'source.local');
    for (const { id } of contexts) await this.contexts.remove(id);
    // a build under way goes on from steps that nothing holds yet
    const steps = this.#underWay > 0 ? [] : found.filter(({ type }) => type === 'regular').map(({ id }) => id);
    const pruned = await images.pruneBuildSteps(new Set(steps));
    const gone = new Set(pruned.ids);
    const bytes = [...mounts, ...contexts].reduce((sum, one) => sum + one.bytes, pruned.bytes);
    return { caches: [...mounts, ...contexts, ...found.filter(({ id }) => gone.has(id))], bytes };
  }
}

export interface BuildCache {
  id: string;
  type: 'exec.cachemount' | 'regular' | 'source.local';
  description: string;
  bytes: number;
  created: Date;
  used: Date;
  /** By a build that is under way, perhaps. */
  inUse: boolean;
}

export interface Sent {
  context: BuildContext | undefined;
  dockerfile: Dockerfile;
}

async function receive(engine: Engine, dir: string, request: BuildRequest, signal: AbortSignal): Promise<Sent> {
  const { remote, archive, dockerfile } = request;
  if (remote === 'client-session')
    throw new CaissonError(
      'InvalidParameter',
      'experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) instead',
    );
  const place = join(dir, 'context');
  if (remote === '') return fromContext(await BuildContext.receive(engine.native, place, archive), dockerfile);
  return fromContext(await contextAt(engine, place, remote, signal), dockerfile);
}

/** What stands at a URL: a repository, an archive, or the text of a Dockerfile alone. Unpacks below `dir`, which is the caller's to remove. */
export async function contextAt(
  engine: Engine,
  dir: string,
  url: string,
  signal: AbortSignal,
  git: Pick<GitOptions, 'keepsGitDir' | 'client'> = { keepsGitDir: true },
): Promise<BuildContext | string> {
  const repository = gitSourceOf(url);
  if (repository !== undefined)
    return (await gitContext(repository, { native: engine.native, dir, signal, ...git })).context;
  if (!/^https?:\/\//.test(url))
    throw new CaissonError('InvalidParameter', `remoteURL (${url}) could not be recognized as URL`);
  await mkdir(dir, { recursive: true });
  const { content, bytes } = await download(url, { dir, signal });
  if (await engine.native.isArchive(content))
    return BuildContext.receive(engine.native, dir, createReadStream(content));
  if (bytes > MAX_DOCKERFILE_BYTES)
    throw new CaissonError('InvalidParameter', `${url}: neither an archive nor a Dockerfile`);
  return readFile(content, 'utf8');
}

/** `context`: or the Dockerfile's text. `filename`: its path in the context, '' for `Dockerfile`, in large or small letters. */
export async function fromContext(context: BuildContext | string, filename: string): Promise<Sent> {
  if (typeof context === 'string') return { context: undefined, dockerfile: parse(context, filename) };
  const asked = filename === '' ? DEFAULT_NAME : filename;
  if (posix.normalize(asked).startsWith('..'))
    throw new CaissonError('InvalidParameter', `forbidden path outside the build context: ${asked} ()`);
  const names = asked === DEFAULT_NAME ? [asked, asked.toLowerCase()] : [asked];
  for (const name of names) {
    const text = context.text(name);
    if (text === undefined) continue;
    const dockerfile = parse(text, name);
    await context.hide(name);
    return { context, dockerfile };
  }
  throw new CaissonError('InvalidParameter', `Cannot locate specified Dockerfile: ${asked}`, {
    code: 'DOCKERFILE_NOT_FOUND',
  });
}

function parse(text: string, name: string): Dockerfile {
  if (text === '')
    throw new CaissonError('InvalidParameter', `the Dockerfile (${name || DEFAULT_NAME}) cannot be empty`);
  return parseDockerfile(text);
}
