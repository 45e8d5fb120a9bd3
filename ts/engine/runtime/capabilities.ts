/** Linux capabilities of a container: Docker's default set, `--cap-add` and `--cap-drop`. */
import { CaissonError } from '../../errdefs.ts';

/** In the kernel's order: the index is the bit in /proc/pid/status. CHECKPOINT_RESTORE came last, with 5.9. */
const ALL_CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
].map((name) => `CAP_${name}`);

export const DEFAULT_CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

const ALL = 'ALL';

/** `net_admin` and `CAP_NET_ADMIN` mean the same; an unknown name is a 400 with Docker's text. */
export function normalizeCapability(name: string, field: 'CapAdd' | 'CapDrop'): string {
  const upper = name.toUpperCase();
  if (upper === ALL) return ALL;
  const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
  if (!ALL_CAPABILITIES.includes(full)) {
    throw new CaissonError('InvalidParameter', `invalid ${field}: unknown capability: "${full}"`);
  }
  return full;
}

/** What the container may use. `bounded`: the daemon's own bounding set, beyond which nothing can be granted. */
export function effectiveCapabilities(
  options: { add: string[]; drop: string[]; privileged: boolean },
  bounded: (capability: string) => boolean,
): string[] {
  const everything = ALL_CAPABILITIES.filter(bounded);
  if (options.privileged) return everything;
  const add = options.add.map((name) => normalizeCapability(name, 'CapAdd'));
  const drop = options.drop.map((name) => normalizeCapability(name, 'CapDrop'));
  if (add.length === 0 && drop.length === 0) return DEFAULT_CAPABILITIES;
  // Docker's rules: `drop ALL` leaves just what is added; `add ALL` gives all but what is dropped
  if (drop.includes(ALL)) return add.includes(ALL) ? everything : ALL_CAPABILITIES.filter((c) => add.includes(c));
  const base = add.includes(ALL)
    ? everything
    : [...DEFAULT_CAPABILITIES, ...add.filter((c) => !DEFAULT_CAPABILITIES.includes(c))];
  return base.filter((capability) => !drop.includes(capability));
}

/** Reads a mask of /proc/self/status (`CapBnd`) as a test for names. */
export function boundingSet(hexMask: string): (capability: string) => boolean {
  const mask = BigInt(`0x${hexMask}`);
  return (capability) => {
    const bit = ALL_CAPABILITIES.indexOf(capability);
    return bit >= 0 && ((mask >> BigInt(bit)) & 1n) === 1n;
  };
}
