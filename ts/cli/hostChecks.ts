/** What a machine has and lacks for containers, as far as this process can see. */
import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { dirname } from 'node:path';
import { humanSize } from '../humanSize.ts';
import { ADDON, nativeFile } from '../nativeFiles.ts';

export interface Check {
  name: string;
  state: 'ok' | 'warning' | 'missing';
  detail: string;
  /** How to mend it. */
  fix?: string;
}

const ok = (name: string, detail: string): Check => ({ name, state: 'ok', detail });
const warning = (name: string, detail: string, fix: string): Check => ({ name, state: 'warning', detail, fix });
const missing = (name: string, detail: string, fix: string): Check => ({ name, state: 'missing', detail, fix });

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

/** Loaded, built into the kernel, or to be loaded; also where the kernel came without a list of its modules. */
function hasModule(name: string): boolean {
  if (existsSync(`/sys/module/${name}`)) return true;
  const lists = ['modules.builtin', 'modules.dep'].map((file) => read(`/lib/modules/${release()}/${file}`));
  return lists.every((list) => list === '') || lists.some((list) => list.includes(`/${name}.ko`));
}

export function hostChecks(dataRoot: string): Check[] {
  return [
    kernel(),
    process.getuid?.() === 0
      ? ok('user', 'root')
      : warning('user', `uid ${process.getuid?.()}`, 'the daemon needs root: sudo caisson daemon'),
    parts(),
    ...cgroups(),
    overlay(),
    /^Seccomp:/m.test(read('/proc/self/status'))
      ? ok('seccomp', 'there')
      : missing('seccomp', 'the kernel has none', 'use a kernel with CONFIG_SECCOMP_FILTER'),
    security(),
    ...network(),
    ...disk(dataRoot),
  ];
}

function kernel(): Check {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  return major > 5 || (major === 5 && minor >= 14)
    ? ok('kernel', release())
    : missing('kernel', `${release()} is too old`, 'use Linux 5.14 or newer');
}

function parts(): Check {
  const absent = ([ADDON, 'caisson-shim'] as const).filter((part) => {
    try {
      accessSync(nativeFile(part), constants.R_OK);
      return false;
    } catch {
      return true;
    }
  });
  return absent.length === 0
    ? ok('compiled parts', `addon and shim for ${process.arch}`)
    : missing(
        'compiled parts',
        `not there: ${absent.join(', ')}`,
        'install caisson again, or run npm run build in a checkout',
      );
}

const CONTROLLERS_V1 = ['memory', 'cpu', 'cpuset', 'pids', 'blkio', 'devices', 'freezer'];
const CONTROLLERS_V2 = ['memory', 'cpu', 'cpuset', 'pids', 'io'];

function cgroups(): Check[] {
  const unified = read('/sys/fs/cgroup/cgroup.controllers');
  const version = existsSync('/sys/fs/cgroup/cgroup.controllers') ? 2 : 1;
  const there = version === 2 ? unified.split(' ') : mountedControllers();
  const absent = (version === 2 ? CONTROLLERS_V2 : CONTROLLERS_V1).filter((name) => !there.includes(name));
  if (there.length === 0 || there[0] === '')
    return [missing('cgroups', 'none mounted', 'mount cgroup2 on /sys/fs/cgroup')];
  return [
    absent.length === 0
      ? ok('cgroups', `version ${version}: ${there.filter(Boolean).join(', ')}`)
      : warning(
          'cgroups',
          `version ${version} without ${absent.join(', ')}`,
          `limits of ${absent.join(', ')} will not hold: enable them with kernel parameters (cgroup_enable=memory) or mount them`,
        ),
  ];
}

function mountedControllers(): string[] {
  const options = read('/proc/self/mounts')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , type]) => type === 'cgroup')
    .flatMap(([, , , flags = '']) => flags.split(','));
  return [...new Set(options)].filter((name) => CONTROLLERS_V1.includes(name));
}

const overlay = (): Check =>
  /\boverlay$/m.test(read('/proc/filesystems')) || hasModule('overlay')
    ? ok('overlay', 'there')
    : missing('overlay', 'the kernel has no overlay filesystem', 'modprobe overlay');

function security(): Check {
  const modules = read('/sys/kernel/security/lsm');
  const apparmor = read('/sys/module/apparmor/parameters/enabled') === 'Y';
  const selinux = existsSync('/sys/fs/selinux/enforce');
  const found = [...(apparmor ? ['AppArmor'] : []), ...(selinux ? ['SELinux'] : [])];
  return found.length > 0
    ? ok('security module', found.join(', '))
    : warning(
        'security module',
        `neither AppArmor nor SELinux${modules === '' ? '' : ` (${modules})`}`,
        'containers are held by capabilities, namespaces and seccomp alone; boot with apparmor=1 for one layer more',
      );
}

function network(): Check[] {
  const absent = ['bridge', 'veth', 'nf_tables', 'nft_nat'].filter((name) => !hasModule(name));
  return [
    absent.length === 0
      ? ok('network', 'bridge, veth, nf_tables')
      : warning(
          'network',
          `the kernel lacks ${absent.join(', ')}`,
          'use a kernel that has them: the default bridge and published ports need them',
        ),
    read('/proc/sys/net/ipv4/ip_forward') === '1'
      ? ok('forwarding', 'net.ipv4.ip_forward=1')
      : warning(
          'forwarding',
          'net.ipv4.ip_forward=0',
          'the daemon sets it when it makes a bridge; keep it with sysctl -w net.ipv4.ip_forward=1',
        ),
  ];
}

function disk(dataRoot: string): Check[] {
  let path = dataRoot;
  while (!existsSync(path) && path !== '/') path = dirname(path);
  const { bavail, blocks, bsize, ffree, files } = statfsSync(path);
  const free = bavail * bsize;
  const fix = 'caisson system df shows what takes it, caisson system prune frees what nothing uses';
  const space = `${humanSize(free)} of ${humanSize(blocks * bsize)} free`;
  return [
    free < 1e9 || bavail < blocks * 0.05 ? warning('disk', `${path}: ${space}`, fix) : ok('disk', `${path}: ${space}`),
    files > 0 && ffree < files * 0.05
      ? warning('inodes', `${path}: ${ffree} of ${files} free`, fix)
      : ok('inodes', `${path}: ${files === 0 ? 'no limit' : `${ffree} of ${files} free`}`),
  ];
}
