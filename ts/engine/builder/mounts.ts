/** `RUN --mount`: what a command sees beside the image, and what stays out of it. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { chmod, chown, cp, mkdir, stat } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { cleaned } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import type { CreateBody, MountBody } from '../api/schemas/containers.ts';
import type { UsableImage } from '../images/names.ts';
import type { ArchiveView } from '../native/files.ts';
import type { Native } from '../native/index.ts';
import type { BuildInputs } from './builder.ts';
import { BuildContext } from './context.ts';
import { LayerDraft } from './copy.ts';
import { lend } from './lent.ts';
import { type Fields, invalid, isOn, numberOf, parseMount } from './mountFlag.ts';
import { ImageSource, type SourceItem } from './source.ts';

export interface MountPlaces {
  /** Holds the directories of `type=cache`, which outlive the build. */
  caches: string;
  /** Caches of another one are others. */
  namespace: string;
  /** In memory. Holds what `type=secret|ssh` lends a command, as long as it runs. */
  secrets: string;
  context: BuildInputs['context'];
  client: BuildInputs['client'];
  workingDir: string;
  /** For what is in the making; the caller's to remove. */
  dir: string;
  native: Native;
  /** All that layers have. */
  view: (chainId: string | null) => Promise<ArchiveView>;
  /** The directories of an image, the top one first. */
  layers: (image: UsableImage) => string[];
  /** What `from` names. */
  source: (name: string) => Promise<UsableImage | BuildContext>;
}

export interface StepMounts {
  /** What the cache of steps has to go by. */
  keys: string[];
  /** Held while the command runs: caches that it shares with no other (`sharing=locked`). */
  locks: string[];
  /** What is only there while the command runs. */
  open(): Promise<OpenMounts>;
}

export interface OpenMounts {
  host: NonNullable<CreateBody['HostConfig']>;
  env: string[];
  /** Where something is mounted. */
  targets: string[];
  release(): Promise<void>;
}

/** `flags`: the values of `--mount`, their variables resolved. */
export async function stepMounts(flags: readonly string[], places: MountPlaces): Promise<StepMounts> {
  const mounts: MountBody[] = [];
  const keys: string[] = [];
  const locks = new Set<string>();
  const tmpfs: Record<string, string> = {};
  const lent: Fields[] = [];
  for (const flag of flags) {
    const fields = parseMount(flag);
    const type = fields.get('type');
    const target = posix.resolve('/', places.workingDir, fields.get('target') ?? '');
    if (type === 'secret' || type === 'ssh') {
      if (places.client === undefined)
        throw new CaissonError('NotImplemented', `--mount=type=${type} needs a client that speaks BuildKit`, {
          hint: 'build with docker buildx',
        });
      lent.push(fields);
    } else if (type === 'tmpfs') tmpfs[target] = fields.has('size') ? `size=${fields.get('size')}` : '';
    else if (type === 'cache') {
      const mount = await cacheMount(flag, fields, target, places);
      mounts.push(mount);
      if (isLocked(flag, fields)) locks.add(`build-cache:${mount.Source}`);
    } else {
      const { mount, key } = await bindMount(flag, fields, target, places);
      mounts.push(mount);
      keys.push(key);
    }
  }
  const open = async (): Promise<OpenMounts> => {
    const { mounts: more, env, release } = await lend(lent, places);
    const all = [...mounts, ...more];
    return {
      host: { Mounts: all, ...(Object.keys(tmpfs).length > 0 && { Tmpfs: tmpfs }) },
      env,
      targets: [...all.map(({ Target }) => Target ?? ''), ...Object.keys(tmpfs)],
      release,
    };
  };
  return { keys, locks: [...locks], open };
}

/** A private cache is one that no other command has meanwhile: here it waits for its turn too. */
function isLocked(flag: string, fields: Fields): boolean {
  const sharing = fields.get('sharing') ?? 'shared';
  if (!['shared', 'private', 'locked'].includes(sharing))
    throw invalid(flag, `unsupported sharing value ${JSON.stringify(sharing)}`);
  return sharing !== 'shared';
}

async function cacheMount(
  flag: string,
  fields: Fields,
  target: string,
  { caches, namespace }: MountPlaces,
): Promise<MountBody> {
  const id = posix.join(namespace, fields.get('id') || target);
  const dir = join(caches, createHash('sha256').update(id).digest('hex'));
  const isNew = mkdirSync(dir, { recursive: true, mode: 0o755 }) !== undefined;
  if (isNew) {
    await chmod(dir, numberOf(flag, fields, 'mode', 8, 0o755));
    await chown(dir, numberOf(flag, fields, 'uid', 10, 0), numberOf(flag, fields, 'gid', 10, 0));
  }
  return {
    Type: 'bind',
    Source: dir,
    Target: target,
    ReadOnly: isOn(flag, fields, 'ro'),
  };
}

async function bindMount(
  flag: string,
  fields: Fields,
  target: string,
  places: MountPlaces,
): Promise<{ mount: MountBody; key: string }> {
  const { context: contextOf, source: sourceOf, dir, layers } = places;
  const writable = isOn(flag, fields, 'rw');
  const source = fields.get('source') ?? '';
  const from = fields.get('from');
  const found = from === undefined ? await contextOf([source || '.']) : await sourceOf(from);
  if (found !== undefined && !(found instanceof BuildContext)) {
    const subpath = cleaned(source);
    const part = subpath === '' ? undefined : await partOf(found, subpath, places);
    const key = `${part?.item.hash ?? found.chainId}:${target}`;
    if (writable && part !== undefined) return { mount: await copyOfPart(part, target, places), key };
    if (writable) return { mount: await writableMount(layers(found), target, dir), key };
    const options = subpath === '' ? {} : { ImageOptions: { Subpath: subpath } };
    return {
      mount: { Type: 'image', Source: found.id, Target: target, ReadOnly: true, ...options },
      key,
    };
  }
  if (found === undefined) throw invalid(flag, 'the build has no context');
  const [item] = await found.find(source === '' ? '.' : source);
  if (item === undefined) throw invalid(flag, `${source} is not in the build context`);
  const key = `${item.hash}:${target}`;
  const place = found.pathOf(item.path);
  if (!writable) return { mount: { Type: 'bind', Source: place, Target: target, ReadOnly: true }, key };
  if (item.isDirectory) return { mount: await writableMount([place], target, dir), key };
  const copy = join(dir, randomBytes(8).toString('hex'));
  await cp(place, copy, { preserveTimestamps: true });
  return { mount: { Type: 'bind', Source: copy, Target: target }, key };
}

interface Part {
  view: ArchiveView;
  item: SourceItem;
}

async function partOf({ chainId }: UsableImage, subpath: string, { native, view: viewOf }: MountPlaces): Promise<Part> {
  const view = await viewOf(chainId);
  const [item] = await new ImageSource(native, view, chainId ?? '').find(subpath);
  if (item === undefined) throw new CaissonError('NotFound', `stat ${subpath}: file does not exist`);
  return { view, item };
}

/** What is written goes with the build. */
async function copyOfPart(part: Part, target: string, { native, dir }: MountPlaces): Promise<MountBody> {
  const draft = await LayerDraft.begin(native, dir, []);
  const how = { owner: undefined, mode: undefined, extract: { ofContext: false, downloaded: false } };
  await draft.copy([part], '/part', how);
  return { Type: 'bind', Source: join(draft.upper, 'part'), Target: target };
}

/** What is written goes with the build. `lower`: the top one first. */
async function writableMount(lower: readonly string[], target: string, dir: string): Promise<MountBody> {
  const own = join(dir, randomBytes(8).toString('hex'));
  const [upper, work] = [join(own, 'upper'), join(own, 'work')];
  for (const path of [upper, work]) await mkdir(path, { recursive: true });
  const { mode, uid, gid } = await stat(lower[0] ?? upper);
  await chmod(upper, mode);
  await chown(upper, uid, gid);
  const options = `lowerdir=${lower.join(':')},upperdir=${upper},workdir=${work}`;
  const driver = { Name: 'local', Options: { type: 'overlay', device: 'overlay', o: options } };
  return { Type: 'volume', Target: target, VolumeOptions: { NoCopy: true, DriverConfig: driver } };
}
