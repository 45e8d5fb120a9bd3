/** Device nodes and device rules of a container. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../../errdefs.ts';
import type { Device, DeviceRule } from '../../oci.ts';
import type { DeviceMapping } from '../containers/config.ts';

const S_IFMT = 0o170000;
const S_IFBLK = 0o060000;
const S_IFCHR = 0o020000;

/** Nodes that the runtime makes in every container, as cgroup rules; everything else is denied. fuse (10:229) stays so even under a wider rule. */
export const DEFAULT_DEVICE_RULES: DeviceRule[] = [
  { allow: false, access: 'rwm' },
  { allow: true, type: 'c', major: 1, minor: 5, access: 'rwm' },
  { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
  { allow: true, type: 'c', major: 1, minor: 9, access: 'rwm' },
  { allow: true, type: 'c', major: 1, minor: 8, access: 'rwm' },
  { allow: true, type: 'c', major: 5, minor: 0, access: 'rwm' },
  { allow: true, type: 'c', major: 5, minor: 1, access: 'rwm' },
  { allow: false, type: 'c', major: 10, minor: 229, access: 'rwm' },
];

/** glibc's encoding of dev_t, as stat(2) returns it. */
const major = (rdev: number): number => Number(((BigInt(rdev) >> 8n) & 0xfffn) | ((BigInt(rdev) >> 32n) & 0xfffff000n));
const minor = (rdev: number): number => Number((BigInt(rdev) & 0xffn) | ((BigInt(rdev) >> 12n) & 0xffffff00n));

/** The node at a host path as a device of the container; undefined when it is none. */
export async function readDevice(hostPath: string, containerPath: string): Promise<Device | undefined> {
  const info = await stat(hostPath);
  const kind = info.mode & S_IFMT;
  if (kind !== S_IFBLK && kind !== S_IFCHR) return undefined;
  return {
    path: containerPath,
    type: kind === S_IFBLK ? 'b' : 'c',
    major: major(info.rdev),
    minor: minor(info.rdev),
    fileMode: info.mode & 0o7777,
    uid: info.uid,
    gid: info.gid,
  };
}

async function readDevices(hostPath: string, containerPath: string): Promise<Device[]> {
  let device: Device | undefined;
  try {
    device = await readDevice(hostPath, containerPath);
    if (device) return [device];
    const found: Device[] = [];
    for (const name of (await readdir(hostPath)).sort()) {
      found.push(...(await readDevices(join(hostPath, name), join(containerPath, name))));
    }
    return found;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return [];
    throw error;
  }
}

/** `--device HOST[:CONTAINER[:rwm]]`: the node (or all nodes below a directory) and the rules that allow it. */
export async function mapDevice(mapping: DeviceMapping): Promise<{ devices: Device[]; rules: DeviceRule[] }> {
  const access = mapping.CgroupPermissions || 'rwm';
  if (!/^[rwm]+$/.test(access)) {
    throw new CaissonError('InvalidParameter', `invalid device mode: ${access} of device ${mapping.PathOnHost}`);
  }
  let devices: Device[];
  try {
    devices = await readDevices(mapping.PathOnHost, mapping.PathInContainer || mapping.PathOnHost);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file or directory' : String(error);
    throw new CaissonError(
      'InvalidParameter',
      `error gathering device information while adding custom device "${mapping.PathOnHost}": ${why}`,
    );
  }
  if (devices.length === 0) {
    throw new CaissonError(
      'InvalidParameter',
      `error gathering device information while adding custom device "${mapping.PathOnHost}": not a device node`,
    );
  }
  const rules = devices.map(
    (device): DeviceRule => ({
      allow: true,
      type: device.type as 'c' | 'b',
      major: device.major,
      minor: device.minor,
      access,
    }),
  );
  return { devices, rules };
}

/** Every device of the host, for `--privileged`. pts, shm, mqueue and console are the container's own. */
export async function hostDevices(): Promise<Device[]> {
  const own = new Set(['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev', 'console']);
  const found: Device[] = [];
  const visit = async (dir: string): Promise<void> => {
    for (const entry of await readdir(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name);
      if (own.has(entry.name)) continue;
      if (entry.isDirectory()) await visit(path);
      else if (entry.isCharacterDevice() || entry.isBlockDevice()) {
        const device = await readDevice(path, path);
        if (device) found.push(device);
      }
    }
  };
  await visit('/dev');
  return found;
}

/** `--device-cgroup-rule "c 1:* rwm"`. */
export function parseDeviceRule(rule: string): DeviceRule {
  const match = /^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$/.exec(rule);
  if (!match) throw new CaissonError('InvalidParameter', `invalid device cgroup rule format: '${rule}'`);
  const [, type, majorText, minorText, access] = match;
  return {
    allow: true,
    type: type as 'a' | 'c' | 'b',
    ...(majorText === '*' ? {} : { major: Number(majorText) }),
    ...(minorText === '*' ? {} : { minor: Number(minorText) }),
    access: access as string,
  };
}
