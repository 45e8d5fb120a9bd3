/** `-v`, `--mount` and `--tmpfs`. */
import { resolve } from 'node:path';
import type { MountSpec } from '../client/index.ts';
import { invalidFlag, parseSize } from './units.ts';

/** A target alone is an anonymous volume; the rest is the engine's to judge, but for paths relative to where we are. */
export function parseVolumes(values: readonly string[]): { binds: string[]; anonymous: Record<string, object> } {
  const binds: string[] = [];
  const anonymous: Record<string, object> = {};
  for (const value of values) {
    const [source = '', ...rest] = value.split(':');
    if (rest.length === 0) anonymous[source] = {};
    else
      binds.push(
        [
          /^(?:\.{1,2}(?:\/|$)|~\/)/.test(source) ? resolve(source.replace(/^~/, process.env['HOME'] ?? '~')) : source,
          ...rest,
        ].join(':'),
      );
  }
  return { binds, anonymous };
}

export const parseTmpfs = (values: readonly string[]): Record<string, string> =>
  Object.fromEntries(values.map((value) => [value.split(':', 1)[0] ?? '', value.split(/:(.*)/s)[1] ?? '']));

const isTrue = (value: string | undefined): boolean => value === undefined || /^(?:1|t|true)$/i.test(value);

/** `type=bind,src=/a,dst=/b,ro`; values with commas stand in double quotes. */
export function parseMount(text: string): MountSpec {
  const fields = [...text.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
    ([, quoted, bare]) => quoted?.replaceAll('""', '"') ?? bare ?? '',
  );
  const mount: MountSpec = { Type: 'volume', Target: '' };
  const volume: NonNullable<MountSpec['VolumeOptions']> = {};
  for (const field of fields) {
    const at = field.indexOf('=');
    const key = (at < 0 ? field : field.slice(0, at)).trim().toLowerCase();
    applyField(mount, volume, key, at < 0 ? undefined : field.slice(at + 1), text);
  }
  if (mount.Target === '') throw invalidFlag('--mount', text, 'target is required');
  if (Object.keys(volume).length > 0) mount.VolumeOptions = volume;
  return mount;
}

function applyField(
  mount: MountSpec,
  volume: NonNullable<MountSpec['VolumeOptions']>,
  key: string,
  value: string | undefined,
  text: string,
): void {
  const wrong = (why: string): Error => invalidFlag('--mount', text, why);
  const needed = (): string => {
    if (value === undefined) throw wrong(`invalid field '${key}' must be a key=value pair`);
    return value;
  };
  const pair = (): [string, string] => {
    const [name = '', content = ''] = needed().split(/=(.*)/s);
    return [name, content];
  };
  switch (key) {
    case 'type': {
      const type = needed().toLowerCase();
      if (type !== 'bind' && type !== 'volume' && type !== 'tmpfs' && type !== 'image')
        throw wrong(`unknown type ${type}`);
      mount.Type = type;
      return;
    }
    case 'source':
    case 'src':
      mount.Source = /^\.{1,2}(?:\/|$)/.test(needed()) ? resolve(needed()) : needed();
      return;
    case 'target':
    case 'dst':
    case 'destination':
      mount.Target = needed();
      return;
    case 'readonly':
    case 'ro':
      mount.ReadOnly = isTrue(value);
      return;
    case 'consistency':
      mount.Consistency = needed();
      return;
    case 'bind-propagation':
      mount.BindOptions = { ...mount.BindOptions, Propagation: needed() };
      return;
    case 'bind-recursive':
      if (needed() === 'disabled') mount.BindOptions = { ...mount.BindOptions, NonRecursive: true };
      else if (needed() === 'writable') mount.BindOptions = { ...mount.BindOptions, ReadOnlyNonRecursive: true };
      else if (needed() === 'readonly') mount.BindOptions = { ...mount.BindOptions, ReadOnlyForceRecursive: true };
      else if (needed() !== 'enabled') throw wrong(`invalid value for bind-recursive: ${needed()}`);
      return;
    case 'bind-nonrecursive':
      mount.BindOptions = { ...mount.BindOptions, NonRecursive: isTrue(value) };
      return;
    case 'bind-create-src':
      mount.BindOptions = { ...mount.BindOptions, CreateMountpoint: isTrue(value) };
      return;
    case 'image-subpath':
      mount.ImageOptions = { Subpath: needed() };
      return;
    case 'volume-nocopy':
      volume.NoCopy = isTrue(value);
      return;
    case 'volume-subpath':
      volume.Subpath = needed();
      return;
    case 'volume-driver':
      volume.DriverConfig = { ...volume.DriverConfig, Name: needed() };
      return;
    case 'volume-label': {
      const [name, content] = pair();
      volume.Labels = { ...volume.Labels, [name]: content };
      return;
    }
    case 'volume-opt': {
      const [name, content] = pair();
      volume.DriverConfig = { ...volume.DriverConfig, Options: { ...volume.DriverConfig?.Options, [name]: content } };
      return;
    }
    case 'tmpfs-size':
      mount.TmpfsOptions = { ...mount.TmpfsOptions, SizeBytes: parseSize(needed(), '--mount') };
      return;
    case 'tmpfs-mode':
      if (!/^[0-7]{1,4}$/.test(needed())) throw wrong('tmpfs-mode is not octal');
      mount.TmpfsOptions = { ...mount.TmpfsOptions, Mode: Number.parseInt(needed(), 8) };
      return;
    default:
      throw wrong(`unexpected key '${key}' in '${key}${value === undefined ? '' : `=${value}`}'`);
  }
}
