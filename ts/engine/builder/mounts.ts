/** `RUN --mount`: what a command sees beside the image, and what stays out of it. */
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { chmod, chown } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { cleaned } from '../../dockerignore.ts';
import { CaissonError } from '../../errdefs.ts';
import type { CreateBody, MountBody } from '../api/schemas/containers.ts';
import type { UsableImage } from '../images/names.ts';
import type { BuildContext } from './context.ts';

export interface MountPlaces {
  /** Holds the directories of `type=cache`, which outlive the build. */
  caches: string;
  context: BuildContext | undefined;
  workingDir: string;
  /** A stage or an image. */
  image: (name: string) => Promise<UsableImage>;
}

export interface StepMounts {
  host: NonNullable<CreateBody['HostConfig']>;
  /** What the cache of steps has to go by. */
  keys: string[];
  /** Held while the command runs: caches that it shares with no other (`sharing=locked`). */
  locks: string[];
}

const KNOWN: Record<string, string[]> = {
  bind: ['source', 'target', 'from', 'rw'],
  cache: ['id', 'source', 'target', 'sharing', 'ro', 'mode', 'uid', 'gid'],
  tmpfs: ['target', 'size'],
};
const NAMES: Record<string, string> = {
  src: 'source',
  dst: 'target',
  destination: 'target',
  readonly: 'ro',
  readwrite: 'rw',
};

const invalid = (flag: string, reason: string): CaissonError =>
  new CaissonError('InvalidParameter', `invalid --mount=${flag}: ${reason}`);

/** Named alone it is on; absent it is not. */
function isOn(flag: string, fields: Map<string, string>, name: string): boolean {
  const value = fields.get(name);
  if (value === undefined || /^(false|0)$/i.test(value)) return false;
  if (!/^(true|1)?$/i.test(value)) throw invalid(flag, `invalid value for ${name}: ${value}`);
  return true;
}

function parse(flag: string): Map<string, string> {
  const fields = new Map<string, string>([['type', 'bind']]);
  for (const field of flag.split(',')) {
    const [key = '', ...value] = field.split('=');
    const name = key.toLowerCase();
    fields.set(NAMES[name] ?? name, value.join('='));
  }
  const type = fields.get('type') ?? '';
  if (type === 'secret' || type === 'ssh')
    throw new CaissonError(
      'NotImplemented',
      `--mount=type=${type} needs BuildKit, whose sessions are not supported by caisson`,
    );
  const known = KNOWN[type];
  if (known === undefined) throw invalid(flag, `unsupported mount type ${JSON.stringify(type)}`);
  // both say that it is as it would be
  if (type === 'bind') fields.delete('ro');
  if (type === 'cache') fields.delete('rw');
  for (const name of fields.keys())
    if (name !== 'type' && !known.includes(name))
      throw invalid(flag, `unexpected key '${name}' for mount type '${type}'`);
  if ((fields.get('target') ?? '') === '') throw invalid(flag, 'a target is missing');
  return fields;
}

/** `flags`: the values of `--mount`, their variables resolved. */
export async function stepMounts(flags: readonly string[], places: MountPlaces): Promise<StepMounts> {
  const mounts: MountBody[] = [];
  const keys: string[] = [];
  const locks = new Set<string>();
  const tmpfs: Record<string, string> = {};
  for (const flag of flags) {
    const fields = parse(flag);
    const target = posix.resolve('/', places.workingDir, fields.get('target') ?? '');
    const type = fields.get('type');
    if (type === 'tmpfs') tmpfs[target] = fields.has('size') ? `size=${fields.get('size')}` : '';
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
  return { host: { Mounts: mounts, ...(Object.keys(tmpfs).length > 0 && { Tmpfs: tmpfs }) }, keys, locks: [...locks] };
}

function isLocked(flag: string, fields: Map<string, string>): boolean {
  const sharing = fields.get('sharing') ?? 'shared';
  if (sharing === 'private')
    throw new CaissonError('NotImplemented', `--mount=${flag}: a private cache is not supported`, {
      hint: 'sharing=locked lets one command at a time use it',
    });
  if (sharing !== 'shared' && sharing !== 'locked')
    throw invalid(flag, `unsupported sharing value ${JSON.stringify(sharing)}`);
  return sharing === 'locked';
}

async function cacheMount(
  flag: string,
  fields: Map<string, string>,
  target: string,
  { caches }: MountPlaces,
): Promise<MountBody> {
  const number = (name: string, radix: number, byDefault: number): number => {
    const text = fields.get(name);
    const value = text === undefined ? byDefault : Number.parseInt(text, radix);
    if (Number.isNaN(value)) throw invalid(flag, `invalid value ${text} for ${name}`);
    return value;
  };
  const id = fields.get('id') || target;
  const dir = join(caches, createHash('sha256').update(id).digest('hex'));
  const isNew = mkdirSync(dir, { recursive: true, mode: 0o755 }) !== undefined;
  if (isNew) {
    await chmod(dir, number('mode', 8, 0o755));
    await chown(dir, number('uid', 10, 0), number('gid', 10, 0));
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
  fields: Map<string, string>,
  target: string,
  { context, image }: MountPlaces,
): Promise<{ mount: MountBody; key: string }> {
  if (isOn(flag, fields, 'rw'))
    throw new CaissonError('NotImplemented', `--mount=${flag}: a bind that can be written to is not supported`, {
      hint: 'copy the files into the image, or write to a cache mount',
    });
  const source = fields.get('source') ?? '';
  const from = fields.get('from');
  if (from !== undefined) {
    const found = await image(from);
    const subpath = cleaned(source);
    const options = subpath === '' ? {} : { ImageOptions: { Subpath: subpath } };
    return {
      mount: { Type: 'image', Source: found.id, Target: target, ReadOnly: true, ...options },
      key: `${found.chainId}:${subpath}:${target}`,
    };
  }
  if (context === undefined) throw invalid(flag, 'the build has no context');
  const [item] = await context.find(source === '' ? '.' : source);
  if (item === undefined) throw invalid(flag, `${source} is not in the build context`);
  return {
    mount: { Type: 'bind', Source: context.pathOf(item.path), Target: target, ReadOnly: true },
    key: `${item.hash}:${target}`,
  };
}
