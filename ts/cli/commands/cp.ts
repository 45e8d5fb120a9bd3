/** `caisson cp`. */
import { posix } from 'node:path';
import { type Caisson, CaissonError, type PathStat } from '../../client/index.ts';
import { isKind } from '../../errdefs.ts';
import { humanSize } from '../../humanSize.ts';
import { type CommandShape, command } from '../command.ts';
import { engine } from '../connect.ts';
import { pack } from '../copy/pack.ts';
import {
  type CopyInfo,
  localSource,
  localTarget,
  nameOfLink,
  placement,
  splitArgument,
  splitPath,
} from '../copy/paths.ts';
import { unpack } from '../copy/unpack.ts';
import { ExitCode } from '../failure.ts';
import { requireOutput, writeArchive } from '../outputFile.ts';

const SHAPE: CommandShape = {
  name: 'cp',
  usage: '[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n        caisson cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH',
  takes: [2, 2],
  summary: 'Copy files between a container and here; - is a tar archive on standard input or output',
  flags: [
    ['-a, --archive', 'Keep owners and groups'],
    ['-L, --follow-link', 'Copy what a link at SRC_PATH leads to'],
    ['-q, --quiet', 'Say nothing'],
  ],
  examples: [
    'caisson cp web:/etc/nginx/nginx.conf .',
    'caisson cp ./site/. web:/usr/share/nginx/html',
    'caisson cp web:/var/log - | tar -tv',
  ],
};

interface CopyFlags {
  archive?: boolean;
  followLink?: boolean;
  quiet?: boolean;
}

type Containers = Caisson['containers'];

/** Go's os.ModeDir and os.ModeSymlink. */
const isDirectory = ({ mode }: PathStat): boolean => mode >= 2 ** 31;
const isLink = ({ mode }: PathStat): boolean => (mode & (2 ** 27)) !== 0;

export default command<CopyFlags>(SHAPE, async ({ flags, args }) => {
  const [source = '', target = ''] = args;
  const [from, to] = [splitArgument(source), splitArgument(target)];
  if (from.path === '') throw new ExitCode(1, 'caisson: source can not be empty');
  if (to.path === '') throw new ExitCode(1, 'caisson: destination can not be empty');
  if (from.container !== undefined && to.container !== undefined)
    throw new ExitCode(1, 'caisson: copying between containers is not supported');
  const { containers } = engine();
  if (from.container !== undefined) return copyOut(containers, from.container, from.path, to.path, flags);
  if (to.container !== undefined) return copyIn(containers, to.container, from.path, to.path, flags);
  throw new ExitCode(1, 'caisson: must specify at least one container source');
});

async function copyOut(
  containers: Containers,
  container: string,
  given: string,
  target: string,
  flags: CopyFlags,
): Promise<number> {
  const path = flags.followLink ? await followed(containers, container, given) : given;
  if (target === '-') {
    requireOutput(undefined);
    await writeArchive((await containers.readArchive(container, path)).archive, undefined);
    return 0;
  }
  const there = localTarget(target);
  const { stat, archive } = await containers.readArchive(container, path);
  const renamed = path === given ? undefined : nameOfLink(given, path);
  const placed = placement({ path, exists: true, isDirectory: isDirectory(stat), ...(renamed && { renamed }) }, there);
  const counted = new Counter(archive);
  // The archive has the name of what a link leads to.
  const to = placed.to ?? renamed;
  await unpack(counted, placed.dir, { from: splitPath(path).base, ...(to !== undefined && { to }) });
  tell(flags, counted.size, posix.resolve(target));
  return 0;
}

async function copyIn(
  containers: Containers,
  container: string,
  source: string,
  given: string,
  flags: CopyFlags,
): Promise<number> {
  const there = await containerTarget(containers, container, given);
  const options = { keepKinds: true, ownedByUser: flags.archive === true };
  if (source === '-') {
    if (!there.isDirectory)
      throw new CaissonError('InvalidParameter', `destination "${container}:${given}" must be a directory`);
    await containers.writeArchive(container, there.path, process.stdin, options);
    return 0;
  }
  const local = localSource(source, flags.followLink === true);
  const { dir, to } = placement(local, there);
  const counted = new Counter(pack(local, to));
  await containers.writeArchive(container, dir, counted, options);
  tell(flags, counted.size, `${container}:${given}`);
  return 0;
}

const tell = ({ quiet }: CopyFlags, size: string, where: string): void => {
  if (!quiet) process.stderr.write(`Successfully copied ${size} to ${where}\n`);
};

/** Where a link in the container leads to; what is no link, or is not there, stays as it was given. */
async function followed(containers: Containers, container: string, given: string): Promise<string> {
  const stat = await containers.statPath(container, given).catch(absent);
  return stat !== undefined && isLink(stat) ? linkTarget(given, stat) : given;
}

const linkTarget = (given: string, stat: PathStat): string =>
  posix.resolve('/', posix.dirname(posix.resolve('/', given)), stat.linkTarget);

/** A destination that is not there yet is for the engine to judge. */
async function containerTarget(containers: Containers, container: string, given: string): Promise<CopyInfo> {
  const missing: CopyInfo = { path: given, exists: false, isDirectory: false };
  const stat = await containers.statPath(container, given).catch(absent);
  if (stat === undefined) return missing;
  if (!isLink(stat)) return { path: given, exists: true, isDirectory: isDirectory(stat) };
  const path = linkTarget(given, stat);
  const target = await containers.statPath(container, path).catch(absent);
  return target === undefined ? { ...missing, path } : { path, exists: true, isDirectory: isDirectory(target) };
}

function absent(error: unknown): undefined {
  // HEAD has no body: what is missing, path or container, the copy itself will say.
  if (!isKind(error, 'NotFound')) throw error;
  return undefined;
}

/** Counts what passes. */
class Counter implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterable<Uint8Array>;
  #bytes = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  get size(): string {
    return humanSize(this.#bytes);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#source) {
      this.#bytes += chunk.byteLength;
      yield chunk;
    }
  }
}
