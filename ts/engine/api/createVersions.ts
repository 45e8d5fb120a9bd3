/** What a create request of an older API version means: fields that its daemon did not know, and the defaults it had. */
import { CaissonError } from '../../errdefs.ts';
import { withEndpointSysctls } from './endpointSysctls.ts';
import type { CreateBody, MountBody } from './schemas/containers.ts';

const invalid = (message: string): CaissonError => new CaissonError('InvalidParameter', message);

type Mounts = readonly MountBody[];

/** The request as a client of this engine's own version would send it. `older(v)`: the version asked for is below v. */
export function currentCreate(body: CreateBody, older: (version: string) => boolean): CreateBody {
  const current: CreateBody = { ...body, HostConfig: { ...body.HostConfig } };
  const config = current.HostConfig as NonNullable<CreateBody['HostConfig']>;
  const mounts = (change: (mount: MountBody) => MountBody): void => {
    if (config.Mounts) config.Mounts = config.Mounts.map(change);
  };
  if (older('1.25')) config.AutoRemove = false;
  if (older('1.40')) {
    mounts((mount) => withBindOptions(mount, { NonRecursive: false }));
    config.IpcMode ||= 'shareable';
  }
  if (older('1.42')) {
    mounts((mount) => withBindOptions(onlyItsOptions(mount), { CreateMountpoint: false }));
    config.ConsoleSize = [0, 0];
  } else checkOptionsOfType(config.Mounts ?? []);
  if (older('1.43')) config.Annotations = null;
  if (older('1.44')) {
    if (current.Healthcheck) current.Healthcheck = { ...current.Healthcheck, StartInterval: 0 };
    checkBefore144(current, config.Mounts ?? []);
  }
  if (older('1.45') && config.Mounts?.some(({ VolumeOptions: options }) => options?.Subpath)) {
    throw invalid('VolumeOptions.Subpath needs API v1.45 or newer');
  }
  if (older('1.48') && config.Mounts?.some(({ Type }) => Type === 'image')) {
    throw invalid('Mount type "Image" needs API v1.48 or newer');
  }
  return withEndpointSysctls(current, older('1.48'));
}

const withBindOptions = (mount: MountBody, options: MountBody['BindOptions']): MountBody =>
  mount.BindOptions ? { ...mount, BindOptions: { ...mount.BindOptions, ...options } } : mount;

/** Options of another type were not looked at. */
const onlyItsOptions = (mount: MountBody): MountBody => ({
  ...mount,
  VolumeOptions: mount.Type === 'volume' ? (mount.VolumeOptions ?? null) : null,
  TmpfsOptions: mount.Type === 'tmpfs' ? (mount.TmpfsOptions ?? null) : null,
});

const OPTIONS = [
  ['VolumeOptions', 'volume'],
  ['BindOptions', 'bind'],
  ['TmpfsOptions', 'tmpfs'],
  ['ImageOptions', 'image'],
] as const;

function checkOptionsOfType(mounts: Mounts): void {
  for (const mount of mounts) {
    for (const [field, type] of OPTIONS) {
      if (mount[field] && mount.Type !== type)
        throw invalid(`${field} must not be specified on mount type "${mount.Type}"`);
    }
  }
}

function checkBefore144({ NetworkingConfig: networking }: CreateBody, mounts: Mounts): void {
  if (mounts.some(({ Type, BindOptions }) => Type === 'bind' && BindOptions?.ReadOnlyForceRecursive)) {
    throw invalid('BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer');
  }
  const names = Object.keys(networking?.EndpointsConfig ?? {});
  if (names.length > 1) {
    throw invalid(`Container cannot be created with multiple network endpoints: ${names.join(', ')}`);
  }
}
