/** The mount table of a container: Docker's defaults, then what the user asked for, parents before children. */
import { resolve } from 'node:path/posix';
import { CaissonError } from '../../errdefs.ts';
import type { Mount } from '../../oci.ts';
import type { HostConfig, MountPoint } from '../containers/config.ts';

/** The three files that the engine writes for a container. Absent: the user mounts something there himself. */
export interface ContainerFiles {
  resolvConf: string;
  hostname: string;
  hosts: string;
}

const PROC: Mount = { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] };
const DEV: Mount = {
  destination: '/dev',
  type: 'tmpfs',
  source: 'tmpfs',
  options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
};
const DEVPTS: Mount = {
  destination: '/dev/pts',
  type: 'devpts',
  source: 'devpts',
  options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
};
const MQUEUE: Mount = {
  destination: '/dev/mqueue',
  type: 'mqueue',
  source: 'mqueue',
  options: ['nosuid', 'noexec', 'nodev'],
};

function defaultMounts(config: HostConfig, writableCgroups: boolean, ipcOwner: number | undefined): Mount[] {
  const access = config.Privileged ? 'rw' : 'ro';
  const cgroupAccess = config.Privileged || writableCgroups ? 'rw' : 'ro';
  const hostIpc = config.IpcMode === 'host';
  const mounts: Mount[] = [
    PROC,
    DEV,
    DEVPTS,
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', access] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: [cgroupAccess, 'nosuid', 'noexec', 'nodev'],
    },
    // the queues of whatever IPC namespace the container is in
    MQUEUE,
  ];
  if (hostIpc) {
    mounts.push({ destination: '/dev/shm', type: 'bind', source: '/dev/shm', options: ['rbind', 'rprivate'] });
  } else if (ipcOwner !== undefined) {
    const source = { source: '/dev/shm', process: ipcOwner };
    mounts.push({ destination: '/dev/shm', type: 'bind', ...source, options: ['rbind', 'rprivate'] });
  } else if (config.IpcMode !== 'none') {
    mounts.push({
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${config.ShmSize}`],
    });
  }
  return mounts;
}

const TMPFS_FLAGS = new Map([
  ['rw', 'ro'],
  ['ro', 'rw'],
  ['exec', 'noexec'],
  ['noexec', 'exec'],
  ['suid', 'nosuid'],
  ['nosuid', 'suid'],
  ['dev', 'nodev'],
  ['nodev', 'dev'],
  ['sync', 'async'],
  ['async', 'sync'],
  ['atime', 'noatime'],
  ['noatime', 'atime'],
  ['diratime', 'nodiratime'],
  ['nodiratime', 'diratime'],
  ['relatime', 'norelatime'],
  ['norelatime', 'relatime'],
  ['strictatime', 'nostrictatime'],
  ['nostrictatime', 'strictatime'],
]);
const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave', 'unbindable', 'runbindable'];
const TMPFS_PARAMETERS = new Set(['mode', 'uid', 'gid', 'size', 'nr_inodes', 'nr_blocks', 'mpol']);

/** Docker's defaults with the user's options over them; the last of two that contradict each other counts. */
export function mergeTmpfsOptions(user: string[]): string[] {
  let merged = ['noexec', 'nosuid', 'nodev'];
  for (const option of user) {
    if (option === '') continue;
    const [key = '', value] = option.split('=', 2);
    const opposite = TMPFS_FLAGS.get(option);
    const propagates = PROPAGATIONS.includes(option);
    if (opposite === undefined && !propagates && (value === undefined || !TMPFS_PARAMETERS.has(key))) {
      throw new CaissonError('InvalidParameter', `Invalid tmpfs option ["${option}"]`);
    }
    const replaced = (known: string): boolean =>
      known === option ||
      known === opposite ||
      (propagates && PROPAGATIONS.includes(known)) ||
      (value !== undefined && known.startsWith(`${key}=`));
    merged = [...merged.filter((known) => !replaced(known)), option];
  }
  return merged;
}

function bindOptions(mount: MountPoint): string[] {
  const options = [mount.nonRecursive ? 'bind' : 'rbind'];
  if (!mount.writable) options.push(mount.readOnlyNonRecursive ? 'ro' : 'rro');
  // a volume has no propagation of its own in Docker's table: it is private like the rootfs
  options.push(mount.propagation || 'rprivate');
  return options;
}

function userMount(mount: MountPoint, layersOf: MountInput['layersOf']): Mount {
  if (mount.type === 'tmpfs') {
    return { destination: mount.destination, type: 'tmpfs', source: 'tmpfs', options: mount.tmpfsOptions ?? [] };
  }
  if (mount.filesystem) {
    const { type, device, options } = mount.filesystem;
    const access = mount.writable ? [] : ['ro'];
    return { destination: mount.destination, type, source: device, options: [...options, ...access] };
  }
  return {
    destination: mount.destination,
    type: 'bind',
    source: mount.source,
    options: bindOptions(mount),
    ...(mount.image ? { layers: layersOf(mount.image.chainId) } : {}),
    ...(mount.subpath ? { subpath: mount.subpath } : {}),
  };
}

/** A VOLUME's path may be any. */
function placeOf({ destination }: MountPoint): string {
  const place = resolve('/', destination);
  if (place !== '/') return place;
  const message = `failed to create task for container: a volume at ${JSON.stringify(destination)} hides the whole root filesystem`;
  throw new CaissonError('InvalidParameter', message, { hint: 'take the volume away from the image or the request' });
}

const depth = (path: string): number => path.split('/').filter((part) => part !== '').length;

export interface MountInput {
  hostConfig: HostConfig;
  mountPoints: MountPoint[];
  files: ContainerFiles | undefined;
  writableCgroups: boolean;
  /** Init of the container whose IPC namespace is shared, and its /dev/shm with it. */
  ipcOwner?: number | undefined;
  /** Directories of the layers of a chain ID, the top one first. */
  layersOf(chainId: string): string[];
}

export function buildMounts(input: MountInput): Mount[] {
  const { hostConfig: config, mountPoints, files, writableCgroups, ipcOwner, layersOf } = input;
  const user = mountPoints.map((mount) => userMount({ ...mount, destination: placeOf(mount) }, layersOf));
  const fileOptions = ['rbind', config.ReadonlyRootfs ? 'ro' : 'rw', 'rprivate'];
  if (files) {
    for (const [destination, source] of [
      ['/etc/resolv.conf', files.resolvConf],
      ['/etc/hostname', files.hostname],
      ['/etc/hosts', files.hosts],
    ] as const) {
      if (!mountPoints.some((mount) => mount.destination === destination)) {
        user.push({ destination, type: 'bind', source, options: fileOptions });
      }
    }
  }
  user.sort((a, b) => depth(a.destination) - depth(b.destination));
  const taken = new Set(user.map((mount) => mount.destination));
  // a user's mount replaces a default one at the same place, and /dev replaces all that Docker puts below it
  const defaults = defaultMounts(config, writableCgroups, ipcOwner).filter(
    ({ destination }) => !taken.has(destination) && !(taken.has('/dev') && destination.startsWith('/dev/')),
  );
  return [...defaults, ...user];
}
