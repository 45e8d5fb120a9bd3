/** Images of an engine. */
import { CaissonError } from '../errdefs.ts';
import { familiarString, parseReference, repositoryOf, withDefaultTag } from '../reference.ts';
import { jsonLines } from './frames.ts';
import { encodeFilters, encodePlatform } from './query.ts';
import type { Transport } from './transport.ts';
import type { Credentials, Filters, HistoryItem, ImageDetails, ImageSummary, SearchResult } from './types.ts';

interface Options {
  signal?: AbortSignal | undefined;
}

export interface Progress {
  /** Of the layer; absent for the image as a whole. */
  id?: string;
  status?: string;
  stream?: string;
  progressDetail?: { current?: number; total?: number };
  /** The outcome of a push, or of a build's stage. */
  aux?: { Tag?: string; Digest?: string; Size?: number; ID?: string };
}

type ProgressLine = Progress & { error?: string; errorDetail?: { message?: string; code?: string | number } };

/** A command of a build has failed. */
export class BuildFailed extends CaissonError {
  /** Of the command. */
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super('System', message, { code: 'BUILD_COMMAND_FAILED' });
    this.exitCode = exitCode;
  }
}

export interface BuildOptions extends Options {
  /** Its path in the context. */
  dockerfile?: string | undefined;
  tags?: string[];
  target?: string | undefined;
  platform?: string | undefined;
  /** Null: named without a value. */
  buildArgs?: Record<string, string | null>;
  labels?: Record<string, string>;
  cacheFrom?: string[];
  noCache?: boolean;
  /** Looks for newer base images. */
  pull?: boolean;
  /** Says nothing but the id. */
  quiet?: boolean;
  /** Containers of steps that succeeded; on by default. */
  remove?: boolean;
  /** Those of steps that failed too. */
  forceRemove?: boolean;
  network?: string | undefined;
  extraHosts?: string[];
  /** Of the commands' containers, by the names of the API. */
  limits?: Record<string, string | number | undefined>;
  ulimits?: { Name: string; Soft: number; Hard: number }[];
  /** By the registry's address. */
  logins?: Record<string, object>;
}

export interface ImagesPruned {
  ImagesDeleted: { Untagged?: string; Deleted?: string }[] | null;
  SpaceReclaimed: number;
}

export interface PullOptions extends Options {
  /** `linux/arm64` */
  platform?: string | undefined;
  credentials?: Credentials | undefined;
}

export interface PushOptions extends PullOptions {
  allTags?: boolean;
}

/** Iterate for the progress, or await: resolves when the image is there, rejects when it is not. */
export class Transfer implements AsyncIterable<Progress>, PromiseLike<undefined> {
  readonly #lines: AsyncGenerator<ProgressLine>;
  #done: Promise<undefined> | undefined;

  constructor(lines: AsyncGenerator<ProgressLine>) {
    this.#lines = lines;
  }

  /** Rejects at the failure, so a loop over it cannot miss it. Leaving the loop cancels. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Progress> {
    for await (const line of this.#lines) {
      const message = line.errorDetail?.message ?? line.error;
      if (message !== undefined) {
        const { code } = line.errorDetail ?? {};
        if (typeof code === 'number') throw new BuildFailed(message, code);
        throw new CaissonError('System', message, typeof code === 'string' ? { code } : {});
      }
      yield line;
    }
  }

  // biome-ignore lint/suspicious/noThenProperty: a transfer is both awaited and iterated
  then<A = undefined, B = never>(
    onDone?: ((value: undefined) => A | PromiseLike<A>) | null,
    onFailed?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#done ??= (async () => {
      for await (const _ of this);
      return undefined;
    })();
    return this.#done.then(onDone, onFailed);
  }
}

/** Value of `X-Registry-Auth`. */
export const authHeader = (credentials: Credentials | undefined): Record<string, string> =>
  credentials === undefined
    ? {}
    : { 'X-Registry-Auth': Buffer.from(JSON.stringify(credentials)).toString('base64url') };

export class Images {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list({ all, filters, signal }: Options & { all?: boolean; filters?: Filters } = {}): Promise<ImageSummary[]> {
    const query = { all, filters: encodeFilters(filters) };
    return this.#transport.json('GET', '/images/json', { query, signal });
  }

  inspect(name: string, { platform, signal }: Options & { platform?: string | undefined } = {}): Promise<ImageDetails> {
    const query = { platform: encodePlatform(platform) };
    return this.#transport.json('GET', `/images/${encodeName(name)}/json`, { query, signal });
  }

  history(
    name: string,
    { platform, signal }: Options & { platform?: string | undefined } = {},
  ): Promise<HistoryItem[]> {
    const query = { platform: encodePlatform(platform) };
    return this.#transport.json('GET', `/images/${encodeName(name)}/history`, { query, signal });
  }

  tag(name: string, target: string, { signal }: Options = {}): Promise<void> {
    const reference = withDefaultTag(parseReference(target));
    const query = { repo: repositoryOf(reference), tag: reference.tag };
    return this.#transport.send('POST', `/images/${encodeName(name)}/tag`, { query, signal });
  }

  remove(
    name: string,
    {
      force,
      noPrune,
      platforms = [],
      signal,
    }: Options & { force?: boolean; noPrune?: boolean; platforms?: string[] } = {},
  ): Promise<{ Untagged?: string; Deleted?: string }[]> {
    const encoded = platforms.flatMap((platform) => encodePlatform(platform) ?? []);
    const query = { force, noprune: noPrune, platforms: encoded };
    return this.#transport.json('DELETE', `/images/${encodeName(name)}`, { query, signal });
  }

  /** Removes those that have no name and that nothing uses; with the filter `dangling=false` all that no container uses. */
  prune({ filters, signal }: Options & { filters?: Filters } = {}): Promise<ImagesPruned> {
    return this.#transport.json('POST', '/images/prune', { query: { filters: encodeFilters(filters) }, signal });
  }

  pull(name: string, { platform, credentials, signal }: PullOptions = {}): Transfer {
    const reference = withDefaultTag(parseReference(name));
    const query = { fromImage: repositoryOf(reference), tag: reference.digest ?? reference.tag, platform };
    return this.#transfer('/images/create', { query, headers: authHeader(credentials), signal });
  }

  /** A tar archive of images, as `docker save` writes it. */
  load(
    source: AsyncIterable<Uint8Array>,
    { quiet, platform, signal }: Options & { quiet?: boolean; platform?: string | undefined } = {},
  ): Transfer {
    return this.#transfer('/images/load', {
      query: { quiet, platform: encodePlatform(platform) },
      source,
      headers: { 'content-type': 'application/x-tar' },
      signal,
    });
  }

  /** A tar archive of one file system, or the URL of one. */
  import(
    source: AsyncIterable<Uint8Array> | string,
    options: Options & { name?: string; message?: string; changes?: string[]; platform?: string } = {},
  ): Transfer {
    const reference = options.name === undefined ? undefined : withDefaultTag(parseReference(options.name));
    const query = {
      fromSrc: typeof source === 'string' ? source : '-',
      repo: reference && familiarString({ domain: reference.domain, path: reference.path }),
      tag: reference?.tag,
      message: options.message,
      platform: options.platform,
      changes: options.changes,
    };
    const body = typeof source === 'string' ? {} : { source, headers: { 'content-type': 'application/x-tar' } };
    return this.#transfer('/images/create', { query, signal: options.signal, ...body });
  }

  /** All tags of a repository, one after the other. */
  pullAll(repository: string, { platform, credentials, signal }: PullOptions = {}): Transfer {
    const query = { fromImage: repositoryOf(parseReference(repository)), platform };
    return this.#transfer('/images/create', { query, headers: authHeader(credentials), signal });
  }

  /** To the registry of its name; without a tag `latest`, or with `allTags` every tag of the repository. */
  push(name: string, { allTags, platform, credentials, signal }: PushOptions = {}): Transfer {
    const reference = parseReference(name);
    if (reference.digest !== undefined) throw new CaissonError('InvalidParameter', 'cannot push a digest reference');
    const tag = allTags === true ? undefined : (reference.tag ?? 'latest');
    const path = `/images/${encodeName(repositoryOf(reference))}/push`;
    // The engine wants the header also of those who have no login.
    return this.#transfer(path, {
      query: { tag, platform: encodePlatform(platform) },
      headers: authHeader(credentials ?? {}),
      signal,
    });
  }

  /** A tar archive of images, as `load` takes it; leaving the loop ends it. */
  save(
    names: readonly string[],
    { platform, signal }: Options & { platform?: string | undefined } = {},
  ): AsyncGenerator<Uint8Array> {
    return this.#transport.chunks('GET', '/images/get', {
      query: { names: [...names], platform: encodePlatform(platform) },
      signal,
    });
  }

  search(
    term: string,
    {
      limit,
      filters,
      credentials,
      signal,
    }: Options & { limit?: number; filters?: Filters; credentials?: Credentials | undefined } = {},
  ): Promise<SearchResult[]> {
    const query = { term, limit, filters: encodeFilters(filters) };
    return this.#transport.json('GET', '/images/search', { query, headers: authHeader(credentials), signal });
  }

  /** `context`: an archive of the files, or the URL of one or of a Dockerfile. */
  build(context: AsyncIterable<Uint8Array> | string, options: BuildOptions = {}): Transfer {
    const { tags = [], extraHosts = [], logins = {}, limits = {}, signal } = options;
    const json = (value: object | undefined): string | undefined => value && JSON.stringify(value);
    const query = {
      ...limits,
      remote: typeof context === 'string' ? context : undefined,
      dockerfile: options.dockerfile,
      t: tags,
      target: options.target,
      platform: options.platform,
      buildargs: json(options.buildArgs),
      labels: json(options.labels),
      cachefrom: json(options.cacheFrom),
      nocache: options.noCache,
      pull: options.pull,
      q: options.quiet,
      rm: options.remove ?? true,
      forcerm: options.forceRemove,
      networkmode: options.network,
      extrahosts: extraHosts,
      ulimits: json(options.ulimits),
    };
    const headers = {
      'content-type': 'application/x-tar',
      'X-Registry-Config': Buffer.from(JSON.stringify(logins)).toString('base64url'),
    };
    const source = typeof context === 'string' ? {} : { source: context };
    return this.#transfer('/build', { query, headers, signal, ...source });
  }

  #transfer(path: string, options: Parameters<Transport['chunks']>[2]): Transfer {
    return new Transfer(jsonLines<ProgressLine>(this.#transport.chunks('POST', path, options)));
  }
}

/** Slashes of a name stand as they are in the path. */
const encodeName = (name: string): string => name.split('/').map(encodeURIComponent).join('/');
