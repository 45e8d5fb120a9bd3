/** `-v`, `--mount`, `--tmpfs` and an image's VOLUMEs as one list of mounts, with Docker's texts for what is wrong. */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { normalize } from 'node:path/posix';
import { CaissonError, isKind } from '../../errdefs.ts';
import type { ContainerConfig, HostConfig, MountPoint, MountRequest, Propagation } from '../containers/config.ts';
import { mergeTmpfsOptions } from '../runtime/mounts.ts';
import { LOCAL } from './drivers.ts';
import { checkVolumeOptions, type VolumeSource, volumeSource } from './options.ts';

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

const PROPAGATIONS = new Set<string>(['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave']);

/** What this module needs to know of volumes. */
export interface VolumeLookup {
  /** The daemon's own directory. */
  readonly dataRoot: string;
  /** Directory of a volume of that name, whether it exists or not. */
  directory(name: string): string;
  /** Its driver; undefined when there is no such volume. */
  driver(name: string): string | undefined;
  /** What its options say; undefined when there is no such volume. */
  source(name: string): VolumeSource | undefined;
  /** What a mount of an image shows; kind NotFound when there is none of that name. */
  image(name: string): { id: string; chainId: string | null };
  /** Mounts of a container; kind NotFound when there is none of that name. */
  mountsOf(container: string): MountPoint[];
}

function checkDestination(destination: string, spec: string): string {
  const where = `invalid volume specification: '${spec}': invalid mount config for type`;
  const type = spec.startsWith('/') ? 'bind' : 'volume';
  if (!destination.startsWith('/')) {
    throw invalid(`${where} "${type}": invalid mount path: '${destination}' mount path must be absolute`);
  }
  const clean = normalize(destination).replace(/(?<=.)\/$/, '');
  if (clean === '/') throw invalid(`${where} "${type}": invalid specification: destination can't be '/'`);
  return clean;
}

interface Mode {
  writable: boolean;
  propagation: Propagation;
  copyUp: boolean;
}

// z and Z relabel for SELinux, which is not on; macOS's consistency words mean nothing on Linux
const WITHOUT_EFFECT = ['z', 'Z', 'consistent', 'cached', 'delegated', 'default'];

const isMode = (text: string): boolean =>
  text.split(',').every((one) => ['ro', 'rw', 'nocopy', ...WITHOUT_EFFECT].includes(one) || PROPAGATIONS.has(one));

function parseMode(mode: string, isVolume: boolean): Mode {
  const parsed: Mode = { writable: true, propagation: '', copyUp: isVolume };
  const seen = new Set<string>();
  for (const option of mode === '' ? [] : mode.split(',')) {
    const group = ['ro', 'rw'].includes(option) ? 'access' : PROPAGATIONS.has(option) ? 'propagation' : option;
    if (seen.has(group)) throw invalid(`invalid mode: ${mode}`);
    seen.add(group);
    if (option === 'ro') parsed.writable = false;
    else if (PROPAGATIONS.has(option) && !isVolume) parsed.propagation = option as Propagation;
    else if (option === 'nocopy' && isVolume) parsed.copyUp = false;
    else if (!['rw', ...WITHOUT_EFFECT].includes(option)) {
      throw invalid(`invalid mode: ${mode}`);
    }
  }
  return parsed;
}

function checkVolumeName(name: string): void {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name)) {
    throw invalid(
      `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
}

/** One `-v` entry: `/host:/path[:mode]`, `name:/path[:mode]` or `/path`; `driver` makes a volume that is not there. */
export function parseBind(spec: string, lookup: VolumeLookup, driver = ''): MountPoint {
  const parts = spec.split(':');
  if (parts.length > 3 || parts.some((part) => part === '')) throw invalid(`invalid volume specification: '${spec}'`);
  if (parts.length === 1) return anonymousVolume(checkDestination(spec, spec), lookup, { driver });
  const [source = '', destination = '', mode = ''] = parts;
  if (isMode(destination)) throw invalid(`invalid volume specification: '${spec}'`);
  const target = checkDestination(destination, spec);
  if (source.startsWith('/')) {
    const { copyUp: _, ...access } = parseMode(mode, false);
    const path = normalize(source).replace(/(?<=.)\/$/, '');
    return {
      type: 'bind',
      source: path,
      destination: target,
      mode,
      ...access,
      propagation: bindPropagation(path, access.propagation, lookup),
    };
  }
  checkVolumeName(source);
  if (mode.split(',').some((option) => PROPAGATIONS.has(option))) {
    const why = 'invalid mount config for type "volume": field BindOptions must not be specified';
    throw invalid(`invalid volume specification: '${spec}': ${why}`);
  }
  return namedVolume(source, target, { ...parseMode(mode, true), mode: mode || 'z', driver }, lookup);
}

function namedVolume(
  name: string,
  destination: string,
  options: Pick<MountPoint, 'mode' | 'writable' | 'made' | 'driver'> & { copyUp: boolean },
  lookup: VolumeLookup,
): MountPoint {
  const { mode, writable, copyUp, made } = options;
  const held = lookup.driver(name);
  const driver = held ?? (options.driver || LOCAL);
  if (options.driver && driver !== options.driver) throw otherDriver(name, driver);
  const own = driver === LOCAL ? lookup.directory(name) : '';
  const wanted = driver === LOCAL && made?.options ? volumeSource(made.options) : undefined;
  const { directory = own, filesystem, readOnly = false } = lookup.source(name) ?? wanted ?? {};
  return {
    type: 'volume',
    name,
    driver,
    source: directory,
    destination,
    mode,
    writable: writable && !readOnly,
    propagation: '',
    copyUp: copyUp && filesystem === undefined,
    ...(filesystem ? { filesystem } : {}),
    ...(made ? { made } : {}),
  };
}

function anonymousVolume(
  destination: string,
  lookup: VolumeLookup,
  {
    mode = '',
    writable = true,
    copyUp = true,
    made,
    driver = '',
  }: Partial<Pick<MountPoint, 'mode' | 'writable' | 'copyUp' | 'made' | 'driver'>> = {},
): MountPoint {
  const name = randomBytes(32).toString('hex');
  const options = { mode, writable, copyUp, driver, ...(made ? { made } : {}) };
  return { ...namedVolume(name, destination, options, lookup), anonymous: true };
}

function tmpfs(destination: string, options: string[]): MountPoint {
  return {
    type: 'tmpfs',
    source: '',
    destination,
    mode: '',
    writable: !options.includes('ro'),
    propagation: '',
    tmpfsOptions: options,
  };
}

/**
 * As Docker: a bind that holds the daemon's own directory follows the host's mounts, so that nothing there is kept busy by
 * a container's copy of it.
 */
function bindPropagation(source: string, asked: Propagation, { dataRoot }: VolumeLookup): Propagation {
  if (!source.startsWith(dataRoot) && !dataRoot.startsWith(source)) return asked || 'rprivate';
  if (asked === '' || asked === 'rslave' || asked === 'rshared') return asked || 'rslave';
  throw invalid(
    `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "${dataRoot}", bind mount source: "${source}", propagation: "${asked}"`,
  );
}

function bindRequest(request: MountRequest, destination: string, lookup: VolumeLookup): MountPoint {
  const fail = (why: string): CaissonError => invalid(`invalid mount config for type "bind": ${why}`);
  const { Source: source = '', BindOptions: options = {} } = request;
  if (request.VolumeOptions) throw fail('field VolumeOptions must not be specified');
  if (request.TmpfsOptions) throw fail('field TmpfsOptions must not be specified');
  if (source === '') throw fail('field Source must not be empty');
  if (!source.startsWith('/')) throw fail(`invalid mount path: '${source}' mount path must be absolute`);
  if (options.Propagation && !PROPAGATIONS.has(options.Propagation)) {
    throw fail(`invalid propagation mode: ${options.Propagation}`);
  }
  if (options.ReadOnlyNonRecursive && options.ReadOnlyForceRecursive) {
    throw fail('the options readonly-nonrecursive and readonly-force-recursive cannot be used together');
  }
  if (!options.CreateMountpoint && statSync(source, { throwIfNoEntry: false }) === undefined) {
    throw fail(`bind source path does not exist: ${source}`);
  }
  return {
    type: 'bind',
    source,
    destination,
    mode: '',
    writable: !request.ReadOnly,
    propagation: bindPropagation(source, options.Propagation ?? '', lookup),
    ...(options.ReadOnlyNonRecursive ? { readOnlyNonRecursive: true } : {}),
    ...(options.NonRecursive ? { nonRecursive: true } : {}),
  };
}

function volumeRequest(request: MountRequest, destination: string, lookup: VolumeLookup): MountPoint {
  const { VolumeOptions: options = {}, Source: source = '' } = request;
  const refuse = (what: string): CaissonError =>
    new CaissonError('NotImplemented', `${what} is not supported by caisson`, { code: 'OPTION_NOT_SUPPORTED' });
  if (request.BindOptions) {
    throw invalid('invalid mount config for type "volume": field BindOptions must not be specified');
  }
  const driver = options.DriverConfig?.Name ?? '';
  const { Labels: labels = {} } = options;
  const made = { labels, options: options.DriverConfig?.Options ?? {} };
  if (driver === '' || driver === LOCAL) checkVolumeOptions(source, made.options);
  const copyUp = !options.NoCopy;
  const { Subpath: subpath = '' } = options;
  checkSubpath('volume', subpath);
  const within = subpath === '' ? {} : { subpath };
  const writable = !request.ReadOnly;
  if (source === '')
    return { ...anonymousVolume(destination, lookup, { mode: 'z', writable, copyUp, made, driver }), ...within };
  checkVolumeName(source);
  const access = { mode: 'z', writable, copyUp, made, driver };
  if (subpath !== '' && lookup.source(source)?.filesystem) {
    throw refuse('--mount volume-subpath of a volume with a filesystem of its own');
  }
  return { ...namedVolume(source, destination, access, lookup), ...within };
}

function checkSubpath(type: string, subpath: string): void {
  if (!subpath.startsWith('/') && !normalize(subpath).startsWith('..') && !subpath.includes('\0')) return;
  throw invalid(`invalid mount config for type "${type}": subpath must be a relative path within the volume`);
}

function imageRequest(request: MountRequest, destination: string, lookup: VolumeLookup): MountPoint {
  const fail = (why: string): CaissonError => invalid(`invalid mount config for type "image": ${why}`);
  const { Source: source = '', ImageOptions: { Subpath: subpath = '' } = {} } = request;
  if (request.BindOptions) throw fail('field BindOptions must not be specified');
  if (request.VolumeOptions) throw fail('field VolumeOptions must not be specified');
  if (source === '') throw fail('field Source must not be empty');
  checkSubpath('image', subpath);
  const { id, chainId } = lookup.image(source);
  if (chainId === null) throw fail(`the image ${source} has no files`);
  return {
    type: 'image',
    name: source,
    source: '',
    destination,
    mode: '',
    writable: false,
    propagation: 'rprivate',
    image: { id, chainId },
    ...(subpath === '' ? {} : { subpath }),
  };
}

function tmpfsRequest(request: MountRequest, destination: string): MountPoint {
  const { TmpfsOptions: options = {} } = request;
  if (request.Source) throw invalid('invalid mount config for type "tmpfs": field Source must not be specified');
  const user = (options.Options ?? []).map((pair) => pair.join('='));
  if (options.SizeBytes) user.push(`size=${options.SizeBytes}`);
  if (options.Mode) user.push(`mode=${options.Mode.toString(8)}`);
  if (request.ReadOnly) user.push('ro');
  return tmpfs(destination, mergeTmpfsOptions(user));
}

/** One `--mount` entry. */
export function parseMount(request: MountRequest, lookup: VolumeLookup): MountPoint {
  const { Type: type, Target: target } = request;
  if (type !== 'bind' && type !== 'volume' && type !== 'tmpfs' && type !== 'image') {
    const known = ['cluster', 'npipe'].includes(type);
    throw known
      ? new CaissonError('NotImplemented', `--mount type=${type} is not supported by caisson`)
      : invalid(`invalid mount config for type "${type ?? ''}": mount type unknown`);
  }
  if (target === '') throw invalid(`invalid mount config for type "${type}": field Target must not be empty`);
  const fail = (why: string): CaissonError => invalid(`invalid mount config for type "${type}": ${why}`);
  if (!target.startsWith('/')) throw fail(`invalid mount path: '${target}' mount path must be absolute`);
  const destination = normalize(target).replace(/(?<=.)\/$/, '');
  if (destination === '/') throw fail(`invalid specification: destination can't be '/'`);
  if (type === 'bind') return bindRequest(request, destination, lookup);
  if (type === 'volume') return volumeRequest(request, destination, lookup);
  if (type === 'image') return imageRequest(request, destination, lookup);
  return tmpfsRequest(request, destination);
}

/** One `--volumes-from` entry, `CONTAINER[:MODE]`: its binds and volumes, at most as writable as they are there. */
function volumesFrom(entry: string, lookup: VolumeLookup): MountPoint[] {
  const [container = '', mode = ''] = entry.split(/:(.*)/s);
  if (container === '') throw invalid('invalid name or ID supplied: ""');
  if (!['', 'ro', 'rw', 'z', 'Z'].includes(mode)) throw invalid(`invalid mode: ${mode}`);
  return mountsOf(container, lookup)
    .filter(({ type }) => type !== 'tmpfs')
    .map(({ copyUp: _, ...mount }) => ({ ...mount, writable: mount.writable && mode !== 'ro' }));
}

/** 400 and not 404, which would make a client pull the image. */
function mountsOf(container: string, lookup: VolumeLookup): MountPoint[] {
  try {
    return lookup.mountsOf(container);
  } catch (error) {
    if (!isKind(error, 'NotFound')) throw error;
    throw new CaissonError('InvalidParameter', error.message, { code: error.code });
  }
}

export const otherDriver = (volume: string, driver: string): CaissonError =>
  new CaissonError(
    'Conflict',
    `create ${volume}: driver '${driver}' already has volume '${volume}': volume name must be unique`,
    { code: 'VOLUME_NAME_IN_USE' },
  );

/** All mounts of a container; the user's own come before the image's VOLUMEs, and replace those of another container. */
export function collectMountPoints(
  config: ContainerConfig,
  hostConfig: HostConfig,
  lookup: VolumeLookup,
): MountPoint[] {
  const found = new Map<string, MountPoint>();
  // of two at one place the last counts
  const inherited = new Map(
    (hostConfig.VolumesFrom ?? [])
      .flatMap((entry) => volumesFrom(entry, lookup))
      .map((mount) => [mount.destination, mount]),
  );
  const add = (mount: MountPoint): void => {
    if (found.has(mount.destination)) throw invalid(`Duplicate mount point: ${mount.destination}`);
    found.set(mount.destination, mount);
  };
  const { VolumeDriver: driver } = hostConfig;
  for (const bind of hostConfig.Binds ?? []) add(parseBind(bind, lookup, driver));
  for (const mount of hostConfig.Mounts ?? []) add(parseMount(mount, lookup));
  for (const [path, options] of Object.entries(hostConfig.Tmpfs ?? {})) {
    add(tmpfs(checkDestination(path, path), mergeTmpfsOptions(options.split(','))));
  }
  for (const mount of inherited.values()) if (!found.has(mount.destination)) found.set(mount.destination, mount);
  for (const path of Object.keys(config.Volumes ?? {})) {
    // as dockerd: a path, whatever colons it has, even a relative one
    const destination = normalize(path).replace(/(?<=.)\/$/, '');
    if (!found.has(destination)) found.set(destination, anonymousVolume(destination, lookup, { driver }));
  }
  return [...found.values()];
}
